"""The learner node: episodes in, policies out. Learning has a thread of its own and never delays anybody.

MB-MPO's real data come from its meta-policy here, not from the adapted policies in turn as in `mbrl train`.
Every episode is on disk before it is learned from. A restart on the same run_dir goes on from the episodes there.
"""

import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rclpy.node import Node

from mbrl_core.algorithms.mb_mpo import MbMpoConfig, mb_mpo
from mbrl_core.algorithms.me_ppo import MePpoConfig, me_ppo
from mbrl_core.algorithms.report import RoundReport
from mbrl_core.arm import load_profile
from mbrl_core.config import refuse
from mbrl_core.demonstrations import DEMONSTRATIONS, begin_with, read_demonstrations
from mbrl_core.replay import Replay
from mbrl_core.tasks.reach import ReachTask
from mbrl_core.types import Episode
from mbrl_msgs import msg
from mbrl_ros.conversions import from_episode_msg, to_policy_update_msg
from mbrl_ros.delivery import LATCHED, STATUS, WHOLE
from mbrl_ros.node_configs import LearningConfig
from mbrl_ros.parameters import read_parameters
from mbrl_ros.process import run_node
from mbrl_ros.progress import ProgressFile
from mbrl_sim import profile_path

NICENESS = 10  # learning may use every core, and must never make the control loop late


class ModelLearningNode(Node):
    """Feeds the learner and publishes what it accepts."""

    def __init__(self) -> None:
        """Read what is on disk and start learning. Raises ValueError for a bad parameter or a damaged episode."""
        super().__init__("model_learning", automatically_declare_parameters_from_overrides=True)
        self._config, groups = read_parameters(self, LearningConfig, me_ppo=MePpoConfig, mb_mpo=MbMpoConfig)
        if not self._config.run_dir:
            raise refuse("model_learning.run_dir", "a folder", self._config.run_dir)
        self._run_dir = Path(self._config.run_dir)
        self._task = ReachTask(load_profile(profile_path(self._config.profile)))
        self._replay = self._open_replay()
        for name in self._replay.ignored:
            self.get_logger().warning(f"torn episode file ignored: {name}")
        torch.set_num_threads(1)
        method, settings = (me_ppo, "me_ppo") if self._config.algorithm == "me-ppo" else (mb_mpo, "mb_mpo")
        self._learner = method(self._task, groups[settings], seed=self._config.seed)
        self._progress = ProgressFile(self._run_dir / "progress.csv")
        self._report = RoundReport(policy_version=0, accepted=False)
        self._arrived: queue.SimpleQueue[Episode] = queue.SimpleQueue()
        self._stop = threading.Event()
        self.failed = threading.Event()
        self._updates = self.create_publisher(msg.PolicyUpdate, "policy_update", LATCHED)
        self._statuses = self.create_publisher(msg.LearnerStatus, "learner_status", STATUS)
        self.create_subscription(msg.Episode, "episode", self._receive, WHOLE)
        self._thread = threading.Thread(target=self._learn_or_report, name="learning", daemon=True)
        self._thread.start()

    def _open_replay(self) -> Replay:
        """The episodes of the run folder, behind the demonstrations that it begins with."""
        replay = Replay(self._run_dir / "episodes", demonstrations=self._run_dir / DEMONSTRATIONS)
        if self._config.demonstrations:
            begin_with(replay, read_demonstrations(Path(self._config.demonstrations), self._task))
        if replay.demonstrations:
            self.get_logger().info(
                f"{len(replay.demonstrations)} demonstrations, {replay.demonstration_steps} steps: "
                "learned from, not counted as real steps"
            )
        return replay

    def shut_down(self) -> None:
        """Leave the round under way; what was accepted is on disk already."""
        self._stop.set()
        self._thread.join(timeout=2.0)
        if self._thread.is_alive():  # still inside torch: the interpreter's own way out would abort, or hang for ever
            os._exit(0)

    def _receive(self, message: msg.Episode) -> None:
        try:
            self._arrived.put(from_episode_msg(message))
        except ValueError as error:
            self.get_logger().error(f"episode refused: {error}")

    def _learn_or_report(self) -> None:
        try:
            self._learn()
        except Exception as error:  # the thread must not die unseen: the graph stops on it
            self.get_logger().fatal(f"learning: {type(error).__name__}: {error}")
            self._tell("failed", f"{type(error).__name__}: {error}")
            self.failed.set()
            raise

    def _learn(self) -> None:
        self._tell("waiting")
        while not self._stop.is_set() and not self._collected():
            self._store_arrived()
            if len(self._replay.episodes) < 2 or self._replay.real_steps < self._config.min_steps:
                time.sleep(0.05)
            else:
                self._round(self._interrupted, self._tell)
        self._finish()

    def _collected(self) -> bool:
        return 0 < self._config.max_steps <= self._replay.real_steps

    def _finish(self) -> None:
        """Learn on from all data for a while, then say so and stay idle."""
        end_s = time.monotonic() + self._config.finish_s
        while not self._stop.is_set() and time.monotonic() < end_s:
            self._round(lambda: self._stop.is_set() or time.monotonic() > end_s, lambda _: self._tell("finishing"))
        if not self._stop.is_set():
            phase = "finished" if self._learner.version else "failed"
            self._tell(phase, "" if self._learner.version else "no policy passed validation")

    def _round(self, should_stop: Callable[[], bool], on_phase: Callable[[str], None]) -> None:
        self._report = self._learner.round(self._replay, should_stop=should_stop, on_phase=on_phase)
        if self._report.problem:
            self.get_logger().error(f"the last good policy stays: {self._report.problem}")
        if not self._report.stopped or self._report.accepted:
            self._progress.add(self._report)
        if self._report.accepted:
            self._publish_policy()

    def _interrupted(self) -> bool:
        """Whether a round has to end early: at shutdown, or when the last episode has come."""
        self._store_arrived()
        return self._stop.is_set() or self._collected()

    def _store_arrived(self) -> None:
        while not self._arrived.empty():
            episode = self._arrived.get()
            if self._replay.holds(episode):  # a learner that starts anew hears the last ones again
                continue
            try:
                self._replay.add(episode)
            except ValueError as error:
                self.get_logger().error(f"episode refused: {error}")

    def _publish_policy(self) -> None:
        bundle = self._learner.bundle()
        bundle.save(self._run_dir / "policy.mbrl")
        stamp = self.get_clock().now().to_msg()
        self._updates.publish(to_policy_update_msg(bundle.to_bytes(), bundle.version, stamp))

    def _tell(self, phase: str, message: str = "") -> None:
        report = self._report
        self._statuses.publish(
            msg.LearnerStatus(
                stamp=self.get_clock().now().to_msg(),
                phase=phase,
                real_steps=self._replay.real_steps,
                episodes=len(self._replay.episodes),
                policy_version=self._learner.version,
                holdout_loss=list(report.holdout_loss),
                disagreement=report.disagreement,
                imagined_return=report.imagined_return,
                validation_ratio=report.validation_ratio,
                updates_accepted=report.updates_accepted,
                updates_rejected=report.updates_rejected,
                busy_s=report.busy_s,
                message=message or report.problem,
            )
        )


def main() -> None:
    """Entry point."""
    os.nice(NICENESS)
    run_node(ModelLearningNode)


if __name__ == "__main__":
    main()
