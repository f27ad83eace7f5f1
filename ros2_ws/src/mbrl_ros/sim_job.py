"""The main job: train on the twin through the real graph, then evaluate what came out on the deploy path.

Everything is measured by an operator's console outside the graph; nothing is taken from inside a node.
"""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mbrl_core.arm import load_profile
from mbrl_core.config import check, refuse, setting
from mbrl_core.tasks.reach import ReachTask
from mbrl_ros.evaluation_report import table, write_csv
from mbrl_ros.graph import ACTORS, DeployGraph, Graph, SimGraph, build_graph
from mbrl_ros.node_configs import ALGORITHM_DOC, ALGORITHMS, PROFILE_DOC, LearningConfig
from mbrl_ros.operator_loop import OperatorLoop
from mbrl_ros.plots import draw_run
from mbrl_ros.provenance import git_commit, machine, versions
from mbrl_ros.ros_domain import use_private_domain
from mbrl_ros.run_directory import create_run_dir
from mbrl_ros.run_record import Counts, RunRecord
from mbrl_ros.run_view import RunView, episode_line, learner_line
from mbrl_ros.running_graph import GraphError, RunningGraph, relative
from mbrl_ros.stop_request import StopRequest, StopRequested
from mbrl_sim import profile_path

EVALUATION_SEED = 1_000_000_007  # of the goals; refused as a training seed
FAILED = 1
FINISH_MARGIN_S = 60.0  # beyond the learner's own bound: a round under way may have to end first


@dataclass(frozen=True, kw_only=True)
class SimJobConfig:
    """Train on the twin and evaluate."""

    profile: str = setting("so101", doc=PROFILE_DOC)
    algorithm: str = setting(LearningConfig.algorithm, doc=ALGORITHM_DOC, one_of=ALGORITHMS)
    steps: int = setting(2400, doc="real steps, random ones included", low=200, high=3000)
    seed: int = setting(0, doc="seed of goals, policy and learner", low=0, high=2**31 - 1)
    speed: float = setting(1.0, doc="speed of the twin while training", low=0.1, high=100)
    eval_speed: float = setting(5.0, doc="speed of the twin while evaluating", low=0.1, high=100)
    eval_episodes: int = setting(100, doc="evaluation goals per policy", low=1, high=10_000)
    finish_s: float = setting(LearningConfig.finish_s, doc="learning after the last real step", unit="s", low=0)
    run_dir: str = setting("", doc="folder for what the run leaves; empty = runs/<stamp>")
    params: str = setting("", doc="YAML file, node: {parameter: value}, for what differs from the defaults")
    verbose: bool = setting(False, doc="copy the nodes' logs to the console")


class SimJob:
    """One run, from the first node to the last file."""

    def __init__(self, config: SimJobConfig) -> None:
        """Check what was asked for before anything starts.

        Raises:
          ValueError: a setting is out of bounds, the profile is not good, or the run folder is taken.
        """
        self._config = check(config)
        if config.seed == EVALUATION_SEED:
            raise refuse("seed", "a seed other than the evaluation's", config.seed)
        self._task = ReachTask(load_profile(profile_path(config.profile)))
        self._run_dir = create_run_dir(config.run_dir)
        self._view, self._stop = RunView(), StopRequest()
        provenance: dict[str, Any] = {"git_commit": git_commit(), "versions": versions(), "machine": machine()}
        self._record = RunRecord(settings=asdict(config) | {"evaluation_seed": EVALUATION_SEED}, provenance=provenance)

    def run(self) -> int:
        """Run everything; whatever happens, the summary says so. Returns the exit status."""
        use_private_domain()
        with self._stop, self._view:
            try:
                self._save()
                self._collect_and_learn()
                self._evaluate()
                self._record.ended, code = "completed", 0
            except (StopRequested, GraphError, ValueError) as end:
                code = self._note(end)
            except Exception as error:
                self._record.ended = f"{type(error).__name__}: {error}"
                self._save()
                raise
            self._report()
        return code

    def _collect_and_learn(self) -> None:
        config = self._config
        self._view.say(f"training on the twin, {config.steps} real steps; files in {relative(self._run_dir)}/")
        self._view.phase("training", config.steps)
        graph = build_graph(
            SimGraph(
                profile=config.profile,
                algorithm=config.algorithm,
                speed=config.speed,
                seed=config.seed,
                max_steps=config.steps,
                finish_s=config.finish_s,
                run_dir=str(self._run_dir),
                params=config.params,
            )
        )
        with self._running(graph, self._run_dir) as running:
            loop = OperatorLoop(running)
            try:
                self._collect(running, loop)
                self._wait_for_learner(running, loop)
            finally:
                self._count(running, loop)
        self._save()

    def _collect(self, running: RunningGraph, loop: OperatorLoop) -> None:
        record = self._record
        while record.real_steps < self._config.steps:
            episode = loop.next_episode()
            if episode is None:
                continue
            record.collected.append(episode)
            first_s = running.console.first_motion_s
            record.collection_wall_s = time.monotonic() - first_s if first_s else 0.0
            line = episode_line(
                episode,
                robot_time_s=record.robot_time_s,
                real_steps=record.real_steps,
                max_steps=self._config.steps,
            )
            self._view.say(f"{line}  | {learner_line(running.console.learner)}")
            self._view.advance_to(record.real_steps)

    def _wait_for_learner(self, running: RunningGraph, loop: OperatorLoop) -> None:
        """Give the learner the time that it was promised after the last episode."""
        limit_s = self._config.finish_s + FINISH_MARGIN_S
        end_s, told = time.monotonic() + limit_s, ""
        while running.console.learner is None or running.console.learner.phase != "finished":
            loop.idle()
            line = learner_line(running.console.learner)
            if line != told:
                self._view.say(line)
                told = line
            if time.monotonic() > end_s:
                raise GraphError(f"model_learning did not finish within {limit_s:.0f} s of the last episode")

    def _evaluate(self) -> None:
        for actor in ACTORS:
            self._evaluate_actor(actor)
            self._save()

    def _evaluate_actor(self, actor: str) -> None:
        config, folder = self._config, self._run_dir / "evaluation"
        graph = build_graph(
            DeployGraph(
                bundle=str(self._run_dir / "policy.mbrl") if actor == "learned" else "",
                profile=config.profile,
                speed=config.eval_speed,
                seed=EVALUATION_SEED,
                episodes=config.eval_episodes,
                actor=actor,
                run_dir=str(folder / actor),
            )
        )
        episodes = self._record.evaluations.setdefault(actor, [])
        self._view.say(f"evaluating: {actor}, {config.eval_episodes} episodes at speed {config.eval_speed:g}")
        self._view.phase(f"evaluating {actor}", config.eval_episodes)
        with self._running(graph, folder / actor) as running:
            loop = OperatorLoop(running)
            while len(episodes) < config.eval_episodes:
                episode = loop.next_episode()
                episodes += [episode] if episode else []
                self._view.advance_to(len(episodes))
        reached = sum(episode.success for episode in episodes)
        self._view.say(f"  {actor}: {reached} of {len(episodes)} goals reached")

    def _running(self, graph: Graph, folder: Path) -> RunningGraph:
        return RunningGraph(graph, folder, self._stop, verbose=self._config.verbose)

    def _count(self, running: RunningGraph, loop: OperatorLoop) -> None:
        """Take over what was heard, also when the phase ended early."""
        self._record.collected += running.remaining_episodes()
        self._record.rearms = loop.rearms
        safety, learner = running.console.safety, running.console.learner
        counted: dict[str, int] = {}
        if safety is not None:
            names = ("watchdog_trips", "missed_cycles", "bus_errors", "cycles")
            counted |= {name: getattr(safety, name) for name in names}
        if learner is not None:
            counted |= {"updates_accepted": learner.updates_accepted, "updates_rejected": learner.updates_rejected}
            counted["policies_published"] = learner.policy_version
        self._record.counts = Counts(**counted)

    def _note(self, end: Exception) -> int:
        """Write down what ended the run early, and return the exit status for it."""
        earlier = "; earlier episodes are in episodes/" if self._record.collected else ""
        self._record.ended = f"{end}{earlier}"
        self._record.details = getattr(end, "details", ())
        return end.code if isinstance(end, StopRequested) else FAILED

    def _save(self) -> None:
        self._record.write(self._run_dir / "summary.json")

    def _report(self) -> None:
        self._save()
        for actor, episodes in self._record.evaluations.items():
            write_csv(self._run_dir / "evaluation" / f"{actor}.csv", episodes)
        draw_run(self._run_dir / "report.png", self._record, self._task)
        self._save()
        for line in self._record.details:
            self._view.say(f"  {line}")
        if any(self._record.evaluations.values()):
            self._view.say(table(self._record.evaluations))
        self._view.say(f"{self._record.ended}: {relative(self._run_dir)}/summary.json")


def run_sim_job(config: SimJobConfig) -> int:
    """Run the main job and return its exit status."""
    return SimJob(config).run()
