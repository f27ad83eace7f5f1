"""Joint states of ros2_control as samples of one arm: by name, in order, finite, each with a speed and a time.

Plain data in and out; imports no ROS.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mbrl_core.types import Vector

REORDERED_S = 1.0  # a stamp that lies this much further back is a clock that was set, not a message that was overtaken
LATENESS_S = 0.1  # wall time; a sample later than this against the ones before tells of a clock that was set, too
RELEASE = 0.01  # share by which the shortest delay heard of is let grow with every sample, as clocks drift
LONGEST_GAP_S = 0.5  # positions further apart than this make no speed


@dataclass(frozen=True, kw_only=True)
class JointSample:
    """One joint state in the profile's joint order.

    Attributes:
      position: (J_all,), rad.
      velocity: (J_all,), rad/s.
      robot_s: the message's own stamp, s of robot time; 0 where it has none.
      stamp_s: when it was measured, on `time.monotonic()`.
      arrived_s: when it came, on `time.monotonic()`.
    """

    position: Vector
    velocity: Vector
    robot_s: float
    stamp_s: float
    arrived_s: float


class JointSamples:
    """Turns messages into samples, and counts in `refused` by cause what it drops whole.

    Other joints in a message are ignored. A speed that is missing, or NaN as joint_state_broadcaster has it, is the
    change of the position since the sample before. Times come from the stamps, which know when the joints were
    measured, laid onto the monotonic clock by the shortest delay seen; so neither the network's jitter nor a clock that
    is set matters. An overtaken message (an older or the same stamp) is dropped.

    Args:
      names: the profile's joints, in its order.
      speed: robot seconds per wall second.
    """

    def __init__(self, names: Sequence[str], *, speed: float = 1.0) -> None:
        """Begin without a sample."""
        self.refused: Counter[str] = Counter()
        self.complaint = ""  # why the last message was dropped; empty when it was not
        self._names, self._speed = tuple(names), speed
        self._last: JointSample | None = None
        self._delay_s: float | None = None  # of arrival against the stamp; an offset of two clocks, mostly

    def offer(
        self,
        names: Sequence[str],
        position: Sequence[float],
        velocity: Sequence[float],
        robot_s: float,
        arrived_s: float,
    ) -> JointSample | None:
        """Take a message; None when it is not a whole, new sample.

        Args:
          names: joints in the message's order.
          position: of these, rad.
          velocity: of these, rad/s; may be empty.
          robot_s: the message's stamp in s; 0 = it has none.
          arrived_s: `time.monotonic()` when it came.
        """
        place = {name: index for index, name in enumerate(names)}
        self.complaint = self._check_form(names, place, position, velocity) or self._check_order(robot_s)
        if self.complaint:
            return None
        index = [place[name] for name in self._names]
        angles = np.asarray(position, dtype=float)[index]
        broken = [name for name, angle in zip(self._names, angles, strict=True) if not math.isfinite(angle)]
        if broken:
            return self._drop("position is not finite", f"joint_states: expected finite positions, got NaN at {broken}")
        speeds = np.asarray(velocity, dtype=float)[index] if len(velocity) else np.full(len(index), math.nan)
        speeds = np.where(np.isfinite(speeds), speeds, self._change(angles, robot_s, arrived_s))
        stamp_s = self._on_monotonic(robot_s, arrived_s)
        self._last = JointSample(
            position=angles, velocity=speeds, robot_s=robot_s, stamp_s=stamp_s, arrived_s=arrived_s
        )
        if not np.isfinite(speeds).all():
            return self._drop("first without velocity", "joint_states: expected velocities or a second message")
        return self._last

    def _check_form(
        self, names: Sequence[str], place: dict[str, int], position: Sequence[float], velocity: Sequence[float]
    ) -> str:
        missing = [name for name in self._names if name not in place]
        if missing:
            self.refused["joints missing"] += 1
            return f"joint_states: expected joints {list(self._names)}, got none of {missing}"
        if len(place) != len(names) or len(position) != len(names) or len(velocity) not in (0, len(names)):
            self.refused["malformed"] += 1
            sizes = f"{len(place)} names, {len(position)} positions, {len(velocity)} velocities"
            return f"joint_states: expected one position and velocity for each of {len(names)} names, got {sizes}"
        return ""

    def _check_order(self, robot_s: float) -> str:
        if self._last is None or robot_s == 0.0 or not 0.0 <= self._last.robot_s - robot_s < REORDERED_S:
            return ""
        self.refused["out of order"] += 1
        return f"joint_states: expected a stamp after {self._last.robot_s:.3f} s, got {robot_s:.3f} s"

    def _drop(self, cause: str, complaint: str) -> None:
        self.refused[cause] += 1
        self.complaint = complaint

    def _change(self, position: Vector, robot_s: float, arrived_s: float) -> Vector:
        last = self._last
        if last is None:
            return np.full(position.shape, math.nan)
        stamped = robot_s > 0.0 and last.robot_s > 0.0
        elapsed_s = robot_s - last.robot_s if stamped else (arrived_s - last.arrived_s) * self._speed
        if not 0.0 < elapsed_s < LONGEST_GAP_S:
            return np.full(position.shape, math.nan)
        return np.asarray((position - last.position) / elapsed_s)

    def _on_monotonic(self, robot_s: float, arrived_s: float) -> float:
        if robot_s == 0.0:
            return arrived_s
        delay_s = arrived_s - robot_s / self._speed
        if self._delay_s is None or delay_s < self._delay_s or delay_s - self._delay_s > LATENESS_S:
            self._delay_s = delay_s
        else:
            self._delay_s += RELEASE * (delay_s - self._delay_s)
        return robot_s / self._speed + self._delay_s
