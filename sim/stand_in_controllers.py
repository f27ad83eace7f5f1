"""Two controllers of ros2_controllers as a client meets them: what they take, refuse, do and never stop doing.

Modelled of forward_command_controller: the last command holds for ever, a message with a number that is not finite is
dropped, one of the wrong size takes the controller down. Of joint_trajectory_controller: the checks of a trajectory,
the replacement of one by the next from the measured position, straight lines and cubic ones, the last point held; it
has no check for NaN, which the hardware then refuses. Not modelled: tolerances (off by default), actions, partial
goals, accelerations.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class ControllerError(Exception):
    """A controller's update failed: its manager deactivates it, and the joints hold."""


class Point(NamedTuple):
    """One point of a trajectory: s from its start, rad and rad/s by joint; no velocities = none given."""

    time_s: float
    positions: Sequence[float]
    velocities: Sequence[float] = ()


class ForwardCommand:
    """Hands on the last positions that it was given."""

    def __init__(self, joints: int) -> None:
        """Begin without a command."""
        self._joints = joints
        self._command: Array | None = None

    def start(self, position: Array) -> None:
        """Become active: what came before is forgotten."""
        del position
        self._command = None

    def receive(self, positions: Sequence[float]) -> str:
        """Take a command; returns why it was dropped, or nothing."""
        command = np.asarray(positions, dtype=float)
        if not np.isfinite(command).all():
            return "Non-finite value received. Dropping message"
        self._command = command
        return ""

    def update(self, time_s: float, position: Array) -> Array | None:
        """Return the targets of a cycle, (J_all,) rad; None before the first command.

        Raises:
          ControllerError: the last command has the wrong size.
        """
        del time_s, position
        if self._command is not None and len(self._command) != self._joints:
            got = f"command size ({len(self._command)}) does not match number of interfaces ({self._joints})"
            raise ControllerError(got)
        return self._command


class JointTrajectory:
    """Follows the newest trajectory and holds its end.

    Args:
      joints: names, in the order of every vector here.
      period_s: of `update`; what is commanded is where the trajectory is one period later.
    """

    def __init__(self, joints: Sequence[str], period_s: float) -> None:
        """Begin without a trajectory."""
        self._joints, self._period_s = list(joints), period_s
        self._new: tuple[float, list[str], list[Point]] | None = None
        self._path: list[tuple[float, Array, Array | None]] = []
        self._hold: Array | None = None

    def start(self, position: Array) -> None:
        """Become active: hold where the joints are."""
        self._new, self._path, self._hold = None, [], position.copy()

    def receive(self, names: Sequence[str], points: Sequence[Point], stamp_s: float, now_s: float) -> str:
        """Take a trajectory, which begins at `stamp_s`, 0 = now; returns why it was dropped, or nothing."""
        complaint = self._complaint(names, points, stamp_s, now_s)
        if not complaint:
            self._new = (stamp_s, list(names), list(points))
        return complaint

    def update(self, time_s: float, position: Array) -> Array | None:
        """Return the targets of a cycle, (J_all,) rad."""
        if self._new is not None:
            self._replace(time_s, position)
        if not self._path:
            return self._hold
        return _sample(self._path, time_s + self._period_s)

    def _replace(self, time_s: float, position: Array) -> None:
        assert self._new is not None  # the caller looked
        (stamp_s, names, points), self._new = self._new, None
        order = [names.index(name) for name in self._joints]
        begin_s = stamp_s or time_s
        self._path = [(time_s, position.copy(), np.zeros(len(order)))]
        for point in points:
            velocity = np.asarray(point.velocities, dtype=float)[order] if len(point.velocities) else None
            self._path.append((begin_s + point.time_s, np.asarray(point.positions, dtype=float)[order], velocity))

    def _complaint(self, names: Sequence[str], points: Sequence[Point], stamp_s: float, now_s: float) -> str:
        if sorted(names) != sorted(self._joints):
            unknown = [name for name in names if name not in self._joints]
            return f"Joints on incoming trajectory don't match the controller joints: {unknown or list(names)}"
        if not points:
            return "Empty trajectory received."
        times = [point.time_s for point in points]
        if any(after <= before for before, after in zip(times, times[1:], strict=False)):
            return f"Time between points is not strictly increasing: {times}"
        if any(len(point.positions) != len(names) or len(point.velocities) not in (0, len(names)) for point in points):
            return f"Mismatch between joint_names size ({len(names)}) and positions or velocities"
        if any(abs(speed) > 1e-7 for speed in points[-1].velocities):
            return "Velocity of last trajectory point is not zero"
        if stamp_s and stamp_s + times[-1] < now_s:
            return "Received trajectory with non-zero start time that ends in the past"
        return ""


def _sample(path: list[tuple[float, Array, Array | None]], time_s: float) -> Array:
    """Where a path is: straight between points without velocities, cubic between points with both."""
    for (start_s, start, start_velocity), (end_s, end, end_velocity) in zip(path, path[1:], strict=False):
        if time_s < end_s - 1e-9:
            span_s = end_s - start_s
            share = min(max((time_s - start_s) / span_s, 0.0), 1.0)
            if start_velocity is None or end_velocity is None:
                return np.asarray(start + share * (end - start))
            square, cube = share**2, share**3
            towards = (3 * square - 2 * cube) * (end - start)
            bent = span_s * ((cube - 2 * square + share) * start_velocity + (cube - square) * end_velocity)
            return np.asarray(start + towards + bent)
    return path[-1][1]
