"""A graph that runs in processes of its own, with the operator's console on it; whatever ends it is an exception."""

import os
import queue
import time
from pathlib import Path
from types import TracebackType

from mbrl_core.types import Episode
from mbrl_ros.console import Console
from mbrl_ros.graph import Graph
from mbrl_ros.log_follower import LogFollower, last_lines
from mbrl_ros.ros_domain import node_environment
from mbrl_ros.stop_request import StopRequest
from mbrl_ros.supervisor import Death, Supervisor

POLL_S = 0.1
TOLD_BY = ("refused:", "[ERROR]", "[FATAL]", "Error:")  # how a log line that explains something begins or is marked


class GraphError(RuntimeError):
    """The graph ended before it should have: a node died, or the arm latched. The message says which and how."""

    def __init__(self, message: str, details: tuple[str, ...] = ()) -> None:
        """Keep the log lines that explain it."""
        super().__init__(message)
        self.details = details


class RunningGraph:
    """Entered: all nodes are started. Left: all are stopped, in order."""

    def __init__(self, graph: Graph, run_dir: Path, stop: StopRequest, *, verbose: bool = False) -> None:
        """Prepare.

        Args:
          graph: what to start.
          run_dir: for parameters and logs.
          stop: looked at while waiting.
          verbose: copy the logs to the console.
        """
        self.graph, self.console = graph, Console(graph.namespace)
        self.supervisor = Supervisor(graph, run_dir, node_environment())
        self._stop = stop
        logs = {node.name: self.supervisor.log_path(node.name) for node in graph.nodes}
        self._follower = LogFollower(logs) if verbose else None

    def __enter__(self) -> "RunningGraph":
        """Listen first, so that nothing is missed; then start."""
        self.console.start()
        if self._follower:
            self._follower.start()
        try:
            self.supervisor.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop all nodes in order, then listen no more."""
        self.supervisor.stop()
        self.console.stop()
        if self._follower:
            self._follower.stop()

    @property
    def real_steps(self) -> int:
        """Policy steps executed on the arm, as far as heard."""
        return self.console.safety.real_steps if self.console.safety else 0

    def next_episode(self) -> Episode | None:
        """Wait a moment for an episode; None when there was none.

        Raises:
          StopRequested: Ctrl-C or SIGTERM.
          GraphError: a node died, the learner failed, or an episode was damaged.
        """
        self._stop.check()
        death = self.supervisor.wait(0)
        if death is not None:
            raise self._ended_by(death)
        if self.console.problem:
            raise GraphError(self.console.problem)
        learner = self.console.learner
        if learner is not None and learner.phase == "failed":
            raise GraphError(f"model_learning failed at real step {self.real_steps}: {learner.message}")
        try:
            return self.console.episodes.get(timeout=POLL_S)
        except queue.Empty:
            return None

    def remaining_episodes(self) -> list[Episode]:
        """Episodes that were heard and not yet taken."""
        episodes = []
        while not self.console.episodes.empty():
            episodes.append(self.console.episodes.get())
        return episodes

    def _ended_by(self, death: Death) -> GraphError:
        time.sleep(2 * POLL_S)  # let the other logs say what they saw
        details = [f"{death.name}: {line}" for line in death.log]
        for node in self.graph.nodes:
            if node.name != death.name:
                lines = last_lines(self.supervisor.log_path(node.name), 40)
                told = [line for line in lines if any(mark in line for mark in TOLD_BY)]
                details += [f"{node.name}: {line}" for line in told[-3:]]
        why = f": {death.log[-1]}" if death.code > 0 and death.log else ""  # one that ends by itself says why
        return GraphError(f"{death} at real step {self.real_steps}{why}", tuple(details))


def relative(path: Path) -> str:
    """A path as a person at this prompt would write it."""
    return os.path.relpath(path)
