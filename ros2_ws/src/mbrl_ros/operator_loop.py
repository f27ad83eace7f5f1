"""What the operator of a twin does while its graph runs: waits for episodes, releases a latched stop, notices a stall.

Only for the twin. On a real arm a person looks at the arm before releasing a stop.
"""

import time

from mbrl_core.types import Episode
from mbrl_ros.running_graph import GraphError, RunningGraph

MAX_REARMS = 10
STALL_S = 120.0  # wall time without an episode; more than start-up and the longest episode need
SETTLE_S = 1.0  # after releasing a stop, until the status shows it


class OperatorLoop:
    """Watches one running graph."""

    def __init__(self, running: RunningGraph) -> None:
        """Begin to watch."""
        self.rearms = 0
        self._running = running
        self._heard_s = self._rearmed_s = time.monotonic()

    def next_episode(self) -> Episode | None:
        """Wait a moment for an episode.

        Raises:
          StopRequested: Ctrl-C or SIGTERM.
          GraphError: a node died, the arm latched too often, or no episode came for a long time.
        """
        episode = self._running.next_episode()
        now_s = time.monotonic()
        if episode is not None:
            self._heard_s = now_s
        if now_s - self._heard_s > STALL_S:
            raise GraphError(f"no episode for {STALL_S:.0f} s at real step {self._running.real_steps}")
        safety = self._running.console.safety
        if safety is not None and safety.latched and now_s - self._rearmed_s > SETTLE_S:
            self._release(safety.reason)
        return episode

    def idle(self) -> None:
        """Wait a moment while no episode is expected; raises as `next_episode` does, but never for a stall."""
        self._running.next_episode()

    def _release(self, reason: str) -> None:
        """Re-arm and start; when the arm latches again at once, the next look at its status tries again."""
        if self.rearms == MAX_REARMS:
            raise GraphError(f"robot_interface latched at real step {self._running.real_steps}: {reason}")
        self.rearms += 1
        if self._running.console.call("rearm")[0]:
            self._running.console.call("start")
        self._rearmed_s = time.monotonic()
