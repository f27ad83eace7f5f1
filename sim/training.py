"""Training on a Gymnasium environment: collect episodes, learn a round, save, and so on until the steps are used up.

Everything is a function of the seed. Episode i starts from a seed of its own and draws its exploration from a
generator of its own, so collecting has no state but the episodes themselves; the learner's state is saved after every
round. A run that was killed and is resumed goes on from the last round and ends like one that was not.
"""

import csv
import dataclasses
import io
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mbrl_core.actor import Actor, RandomActor
from mbrl_core.algorithms.report import Adaptation, RoundReport
from mbrl_core.bundle import Bundle
from mbrl_core.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from mbrl_core.config import refuse, setting
from mbrl_core.demonstrations import DEMONSTRATIONS, fingerprint
from mbrl_core.replay import Replay, write_atomically
from mbrl_core.types import STEP_BUDGET, Episode
from mbrl_sim.environment import Env
from mbrl_sim.gym_collect import Acts, baselines, evaluate, run_episode
from mbrl_sim.gym_task import GymTask

CHECKPOINT, SUMMARY, PROGRESS, BUNDLE = "checkpoint.safetensors", "summary.json", "progress.csv", "policy.mbrl"
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """When to collect, to learn and to evaluate."""

    random_steps: int = setting(
        200, doc="real steps with random actions at the start; demonstrations are not counted", low=1
    )
    hold_steps: int = setting(10, doc="steps that a random action is held", low=1)
    round_steps: int = setting(200, doc="new real steps before a round of learning, in whole episodes", low=1)
    round_share: float = setting(0.1, doc="or so many, as a share of all, where that is more", low=0.0, high=1.0)
    holdout_block: int = setting(20, doc="steps in a row that are held out together, every tenth block", low=1)
    curve_episodes: int = setting(
        10, doc="episodes that each round's policy is tried on; nothing learns from it", low=0
    )
    eval_episodes: int = setting(100, doc="episodes that the final policy is evaluated on", low=1)
    milestones: tuple[int, ...] = setting(
        (),
        doc="real steps below the budget at which a round is due and its policy evaluated like the final one: what a "
        "run of that budget comes to where an episode ends there; one under way is not cut",
        low=1,
    )
    adaptation_episodes: int = setting(
        5, doc="real episodes, beyond the steps, that a final policy with an inner step adapts to; 0 = none", low=0
    )


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a run is: everything that its result depends on beside the settings."""

    env: str = setting(doc="id of the Gymnasium environment")
    algorithm: str = setting(doc="name of the method")
    steps: int = setting(doc="real steps", low=1)
    seed: int = setting(doc="of everything", low=0)


class Learner(Protocol):
    """An algorithm of mbrl_core.algorithms."""

    @property
    def version(self) -> int:
        """Version of the last good policy; 0 = none yet."""

    def round(self, replay: Replay, *, fit: bool = True) -> RoundReport:
        """Learn from all data so far; without `fit` the ensemble stays as it is."""

    @property
    def adapted_policies(self) -> int:
        """How many policies it was adapted to in imagination; 0 where the method does not adapt."""

    def bundle(self, member: int | None = None) -> Bundle:
        """The last good policy, or one of those."""

    def adapt(self, episodes: Sequence[Episode]) -> Adaptation:
        """Take its inner step on real episodes of the last good policy, and stay as it is."""

    def checkpoint(self) -> Checkpoint:
        """All that the next round depends on."""

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint."""


class Watcher(Protocol):
    """Who is told what happens."""

    def episode(self, episode: Episode, real_steps: int) -> None:
        """An episode was collected."""

    def round(self, row: Row) -> None:
        """A round has ended; the row is that of progress.csv."""


def run_replay(out: Path, schedule: Schedule) -> Replay:
    """The episodes in a run's folder, its demonstrations before them, with the blocks that the run holds out.

    Raises:
      ValueError: an episode is damaged.
    """
    return Replay(out / "episodes", demonstrations=out / DEMONSTRATIONS, holdout_block=schedule.holdout_block)


class Training:
    """One run in one folder."""

    def __init__(
        self, env: Env, task: GymTask, learner: Learner, out: Path, budget: Budget, schedule: Schedule | None = None
    ) -> None:
        """Begin, or go on from what the folder holds.

        Raises:
          ValueError: budget and schedule will not do, or what the folder holds is damaged or of other settings.
        """
        self._env, self._task, self._learner, self._out = env, task, learner, out
        self._budget, self._schedule = budget, schedule or Schedule()
        check_budget(budget.steps, self._schedule, task)
        self._replay = run_replay(out, self._schedule)
        # with demonstrations another stream: a run that is shown its own twin's episodes must not collect them again
        self._salt = (fingerprint(self._replay.demonstrations),) if self._replay.demonstrations else ()
        self._rows: list[Row] = []
        self._passed: list[Row] = []  # milestones
        self._learned_steps, self._before_s, self._began_s = 0, 0.0, time.monotonic()
        if (out / CHECKPOINT).exists():
            self._restore(read_checkpoint(out / CHECKPOINT))

    @property
    def real_steps(self) -> int:
        """Steps taken in the environment for learning."""
        return self._replay.real_steps

    @property
    def rows(self) -> tuple[Row, ...]:
        """One per round so far."""
        return tuple(self._rows)

    def run(self, watcher: Watcher) -> Row:
        """Train until the steps are used up, evaluate, write the summary and return it."""
        self._began_s = time.monotonic()
        while self._learned_steps < self._budget.steps:
            while self.real_steps < self._next_round():
                self._collect(watcher)
            self._round(watcher)
            self._save()
        return self._finish()

    def _next_round(self) -> int:
        """Real steps at which the next round is due."""
        share = int(self._schedule.round_share * self._learned_steps)
        more = max(self._schedule.round_steps, share) if self._learned_steps else self._schedule.random_steps
        due = self._learned_steps + more
        later = (stop for stop in self._schedule.milestones if stop > self._learned_steps)
        fewest = self._schedule.holdout_block + 1 - self._replay.demonstration_steps  # to learn from, and to hold out
        return max(min([due, self._budget.steps, *later]), fewest)

    def _collect(self, watcher: Watcher) -> None:
        """One more episode, on disk before anybody learns from it."""
        index, seed = len(self._replay.collected), self._budget.seed
        (start_seed,) = np.random.SeedSequence((seed, index, *self._salt)).generate_state(1)
        episode = run_episode(
            self._env,
            self._task,
            self._explorer(index),
            seed=int(start_seed),
            index=index,
            rng=np.random.default_rng((seed, index, 1, *self._salt)),
            budget=self._budget.steps - self.real_steps,
        )
        member = self._member(index) if episode.policy_versions.any() else None
        episode = dataclasses.replace(episode, member=-1 if member is None else member)
        self._replay.add(episode)
        watcher.episode(episode, self.real_steps)

    def _member(self, index: int) -> int | None:
        """Which adapted policy collects an episode: all in turn; None where the method does not adapt."""
        count = self._learner.adapted_policies
        return index % count if count else None

    def _explorer(self, index: int) -> Acts:
        """Who collects: the last good policy, or what it was adapted to, with its noise."""
        if self._learner.version and self.real_steps >= self._schedule.random_steps:
            return Actor(self._learner.bundle(self._member(index)))
        return RandomActor(self._task.action_dim, hold_steps=self._schedule.hold_steps, take_back=False)

    def _round(self, watcher: Watcher) -> None:
        report = self._learner.round(self._replay)
        fresh = self._replay.collected[self._rows[-1]["episodes"] if self._rows else 0 :]
        whole = [episode for episode in fresh if episode.end_reason != STEP_BUDGET]
        self._learned_steps = self.real_steps
        row: Row = {"collected_return": float(np.mean([episode.episode_return for episode in whole or fresh]))}
        row |= try_out(self._env, self._task, self._learner, self._schedule.curve_episodes) | report_row(report)
        self._rows.append({"real_steps": self.real_steps, "wall_s": round(self._wall_s(), 3)} | row)
        watcher.round(self._rows[-1])
        milestones = sorted(self._schedule.milestones)
        due = [stop for stop in milestones[len(self._passed) :] if stop <= self._learned_steps]
        if due:
            result = self._result()
            self._passed += [{"milestone": stop} | result for stop in due]

    def _save(self) -> None:
        """The checkpoint first; the other files follow from it."""
        learner = self._learner.checkpoint()
        run = {"rows": self._rows, "learned_steps": self._learned_steps, "wall_s": self._wall_s()}
        run["milestones"] = self._passed
        run["demonstration_steps"] = self._replay.demonstration_steps
        facts = {"learner": learner.facts, "run": run}
        write_checkpoint(self._out / CHECKPOINT, Checkpoint(arrays=learner.arrays, facts=facts))
        self._write_progress()

    def _restore(self, checkpoint: Checkpoint) -> None:
        self._learner.restore(Checkpoint(arrays=checkpoint.arrays, facts=checkpoint.facts["learner"]))
        run = checkpoint.facts["run"]
        self._rows, self._learned_steps, self._before_s = run["rows"], run["learned_steps"], run["wall_s"]
        self._passed = run.get("milestones", [])  # earlier versions had none
        if self._learned_steps > self.real_steps:
            raise refuse(f"{self._out / 'episodes'}: steps", f"at least {self._learned_steps}", self.real_steps)
        shown, held = run.get("demonstration_steps", 0), self._replay.demonstration_steps
        if shown != held:
            raise refuse(f"{self._out / DEMONSTRATIONS}: steps", shown, held)
        self._write_progress()

    def _write_progress(self) -> None:
        write_rows(self._out / PROGRESS, self._rows)
        if self._learner.version:
            self._learner.bundle().save(self._out / BUNDLE)

    def _finish(self) -> Row:
        """Write the summary: the final policy beside nobody and chance, and what there was at the milestones."""
        summary: Row = dataclasses.asdict(self._budget)
        summary |= {"demonstration_steps": self._replay.demonstration_steps} | self._result()
        for name, returns in baselines(self._env, self._task, episodes=self._schedule.eval_episodes).items():
            summary[f"{name}_return"] = returns.mean
        summary["milestones"] = self._passed
        write_atomically(self._out / SUMMARY, json.dumps(summary, indent=2, allow_nan=False).encode())
        return summary

    def _result(self) -> Row:
        """Evaluate on seeds that no training sees; without a good policy there are no returns."""
        count, names = self._schedule.eval_episodes, ("mean", "std", "min")
        result: Row = {
            "real_steps": self.real_steps,
            "wall_s": self._rows[-1]["wall_s"],
            "rounds": len(self._rows),
            "policy_version": self._learner.version,
            "eval_episodes": count,
        }
        result |= dict.fromkeys((f"eval_return_{name}" for name in names), None)
        if self._learner.version:
            returns = evaluate(self._env, self._task, Actor(self._learner.bundle()), episodes=count)
            result |= {f"eval_return_{name}": getattr(returns, name) for name in names}
        return result | self._adapt()

    def _adapt(self) -> Row:
        """What one inner step on real episodes makes of the last good policy; nothing where the method adapts none."""
        count = self._schedule.adaptation_episodes
        measures = (*(f"adapted_return_{name}" for name in ("mean", "std", "min")), "inner_kl", "inner_gradient_norm")
        if not (count and self._learner.version and self._learner.adapted_policies):
            return {"adaptation_steps": 0} | dict.fromkeys(measures)
        actor = Actor(self._learner.bundle())
        episodes = [self._adaptation_episode(actor, index) for index in range(count)]
        adapted = self._learner.adapt(episodes)
        after = evaluate(self._env, self._task, Actor(adapted.bundle), episodes=self._schedule.eval_episodes)
        values = (after.mean, after.std, after.min, adapted.kl, adapted.gradient_norm)
        steps = sum(episode.steps for episode in episodes)
        return {"adaptation_steps": steps} | dict(zip(measures, values, strict=True))

    def _adaptation_episode(self, actor: Actor, index: int) -> Episode:
        """A noisy episode whose start and noise neither training nor evaluation sees."""
        entropy = (self._budget.seed, index)
        (start_seed,) = np.random.SeedSequence((*entropy, 2)).generate_state(1)
        rng = np.random.default_rng((*entropy, 3))
        return run_episode(self._env, self._task, actor, seed=int(start_seed), index=index, rng=rng)

    def _wall_s(self) -> float:
        return self._before_s + time.monotonic() - self._began_s


def check_budget(steps: int, schedule: Schedule, task: GymTask) -> None:
    """Refuse so many real steps where they do not go with task and schedule.

    Raises:
      ValueError: they are fewer than one episode's, or than can be learned from, or a milestone does not lie below
        them.
    """
    if steps < task.steps:
        raise refuse("steps", f"at least {task.steps}, one episode of {task.name}", steps)
    if steps <= schedule.holdout_block:
        raise refuse("steps", f"more than schedule.holdout_block, {schedule.holdout_block}", steps)
    for milestone in schedule.milestones:
        if milestone >= steps:
            raise refuse("schedule.milestones", f"below {steps}, the budget", milestone)


def try_out(env: Env, task: GymTask, learner: Learner, episodes: int) -> Row:
    """How the last good policy does now, for the learning curve alone; None where there is none."""
    if not (learner.version and episodes):
        return {"curve_return_mean": None, "curve_return_min": None}
    returns = evaluate(env, task, Actor(learner.bundle()), episodes=episodes)
    return {"curve_return_mean": returns.mean, "curve_return_min": returns.min}


def report_row(report: RoundReport) -> Row:
    """What a round has done, as numbers and words for a row of progress.csv."""
    row = {name: value for name, value in dataclasses.asdict(report).items() if name != "stopped"}
    row["holdout_loss"] = float(np.mean(report.holdout_loss)) if report.holdout_loss else None
    return row


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write a CSV file, whole or not at all; the columns are those of the last row."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[-1]))  # the last: earlier versions wrote fewer columns
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())
