"""Another task for a world that is known already: a fresh policy, improved in the ensemble of an earlier run.

Nothing is collected and nothing is fitted. Real states of the earlier run are where imagination starts and where
validation does; the environment is used to see what came of it, and nothing learns from that. As in a training run,
everything is a function of the seed, the state is saved after every round, and a run that was killed goes on from it.
"""

import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path

from mbrl_core.actor import Actor
from mbrl_core.bundle import Bundle
from mbrl_core.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from mbrl_core.config import refuse, setting
from mbrl_core.replay import Replay, write_atomically
from mbrl_sim.environment import Env
from mbrl_sim.gym_collect import Returns, baselines, evaluate
from mbrl_sim.gym_task import GymTask
from mbrl_sim.training import (
    BUNDLE,
    CHECKPOINT,
    PROGRESS,
    SUMMARY,
    Learner,
    Row,
    Watcher,
    report_row,
    try_out,
    write_rows,
)


@dataclass(frozen=True, kw_only=True)
class RetaskPlan:
    """What a retask is: everything that its result depends on beside the earlier run's settings."""

    run: str = setting(doc="folder of the earlier run")
    env: str = setting(doc="id of the Gymnasium environment")
    algorithm: str = setting(doc="name of the method")
    reward: str = setting(doc="where the reward function stands")
    reward_sha256: str = setting(doc="of its file")
    model_real_steps: int = setting(doc="real steps that the ensemble has learned from", low=1)
    rounds: int = setting(doc="rounds of improving and validating", low=1)
    seed: int = setting(doc="of the fresh policy and of imagination", low=0)
    curve_episodes: int = setting(doc="episodes that each round's policy is tried on", low=0)
    eval_episodes: int = setting(doc="episodes that a policy is evaluated on at the end", low=1)


class Retask:
    """One retask in one folder."""

    def __init__(
        self, env: Env, task: GymTask, learner: Learner, replay: Replay, old: Bundle | None, out: Path, plan: RetaskPlan
    ) -> None:
        """Begin, or go on from what the folder holds.

        Args:
          env: pays the new reward.
          task: knows it.
          learner: with a fresh policy, and the ensemble of the earlier run.
          replay: real episodes of that run; read, never added to.
          old: the policy of that run, if it had a good one.
          out: folder.
          plan: what to do.

        Raises:
          ValueError: what the folder holds is damaged, or was made with another run or another reward.
        """
        self._env, self._task, self._learner, self._replay, self._old = env, task, learner, replay, old
        self._out, self._plan = out, plan
        self._rows: list[Row] = []
        self._before_s, self._began_s = 0.0, time.monotonic()
        if (out / CHECKPOINT).exists():
            self._restore(read_checkpoint(out / CHECKPOINT))

    @property
    def rows(self) -> tuple[Row, ...]:
        """One per round so far."""
        return tuple(self._rows)

    def run(self, watcher: Watcher) -> Row:
        """Learn for all rounds, evaluate, write the summary and return it."""
        self._began_s = time.monotonic()
        while len(self._rows) < self._plan.rounds:
            self._round(watcher)
            self._save()
        return self._finish()

    def _round(self, watcher: Watcher) -> None:
        report = self._learner.round(self._replay, fit=False)
        tried = try_out(self._env, self._task, self._learner, self._plan.curve_episodes)
        row: Row = {"round": len(self._rows) + 1, "wall_s": round(self._wall_s(), 3)} | tried | report_row(report)
        self._rows.append(row | {"real_steps": 0, "model_real_steps": self._plan.model_real_steps})
        watcher.round(self._rows[-1])

    def _made_from(self) -> Row:
        """What must be the same when the run goes on."""
        return {
            "reward_sha256": self._plan.reward_sha256,
            "model_real_steps": self._plan.model_real_steps,
            "run_real_steps": self._replay.real_steps,
            "demonstration_steps": self._replay.demonstration_steps,
        }

    def _save(self) -> None:
        """The checkpoint first; the other files follow from it."""
        learner = self._learner.checkpoint()
        retask = {"rows": self._rows, "wall_s": self._wall_s(), "made_from": self._made_from()}
        facts = {"learner": learner.facts, "retask": retask}
        write_checkpoint(self._out / CHECKPOINT, Checkpoint(arrays=learner.arrays, facts=facts))
        self._write_progress()

    def _write_progress(self) -> None:
        write_rows(self._out / PROGRESS, self._rows)
        if self._learner.version:
            self._bundle().save(self._out / BUNDLE)

    def _bundle(self) -> Bundle:
        """The last good policy; it says what it is for."""
        bundle = self._learner.bundle()
        reward = f"{Path(self._plan.reward).name}, sha256 {self._plan.reward_sha256}"
        return dataclasses.replace(bundle, metadata=dataclasses.replace(bundle.metadata, reward=reward))

    def _restore(self, checkpoint: Checkpoint) -> None:
        retask, now = checkpoint.facts["retask"], self._made_from()
        for name, then in retask["made_from"].items():
            if now[name] != then:
                raise refuse(f"{self._out / CHECKPOINT}: {name}", then, now[name])
        self._learner.restore(Checkpoint(arrays=checkpoint.arrays, facts=checkpoint.facts["learner"]))
        self._rows, self._before_s = retask["rows"], retask["wall_s"]
        self._write_progress()

    def _finish(self) -> Row:
        """Evaluate old and new policy under the new reward, on seeds that no training sees."""
        count = self._plan.eval_episodes
        summary: Row = dataclasses.asdict(self._plan) | {
            "real_steps": 0,
            "demonstration_steps": self._replay.demonstration_steps,
            "wall_s": self._rows[-1]["wall_s"],
            "policy_version": self._learner.version,
        }
        new = self._learner.bundle() if self._learner.version else None
        for name, bundle in (("eval", new), ("old_policy", self._old)):
            returns = evaluate(self._env, self._task, Actor(bundle), episodes=count) if bundle else None
            summary |= _named(name, returns)
        for name, returns in baselines(self._env, self._task, episodes=count).items():
            summary[f"{name}_return"] = returns.mean
        write_atomically(self._out / SUMMARY, json.dumps(summary, indent=2, allow_nan=False).encode())
        return summary

    def _wall_s(self) -> float:
        return self._before_s + time.monotonic() - self._began_s


def _named(name: str, returns: Returns | None) -> Row:
    """Mean, std and min; None where there is no policy."""
    parts = ("mean", "std", "min")
    return {f"{name}_return_{part}": None if returns is None else getattr(returns, part) for part in parts}
