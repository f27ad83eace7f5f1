"""The way to a pose of rest, at the start of an episode or for parking: slow where asked, settled, and in time."""

import numpy as np

from mbrl_core.arm import ArmProfile
from mbrl_core.control_config import ControlConfig
from mbrl_core.robots.reading import ArmReading
from mbrl_core.safety import Limits, Sent, approach
from mbrl_core.types import Vector

THERE_RAD = 1e-6  # of the command; the arm itself may sag by reset_tolerance_rad


class Homing:
    """One way, from `Homing(...)` until `settled`. Times are the robot's, in s."""

    def __init__(
        self,
        profile: ArmProfile,
        config: ControlConfig,
        pose: Vector,
        *,
        what: str,
        began_s: float,
        timeout_s: float,
        share: float = 1.0,
    ) -> None:
        """Set out.

        Args:
          profile: its limits hold on the way.
          config: tolerance and time to settle.
          pose: (J_all,) rad, where to.
          what: name of the motion, for messages.
          began_s: now.
          timeout_s: how long it may take.
          share: of the speed limits that is used, in (0, 1].
        """
        self._profile, self._config, self._pose, self._what = profile, config, pose, what
        self._limits, self._share = Limits.of(profile), share
        self.began_s = self._since_s = began_s
        self._timeout_s = timeout_s

    def look(self, reading: ArmReading, position: Vector, now_s: float) -> str:
        """Look where the arm is, `position` being the last command; returns why it should have arrived long ago."""
        off = np.abs(reading.position - self._pose)
        if np.abs(position - self._pose).max() >= THERE_RAD or off.max() >= self._config.reset_tolerance_rad:
            self._since_s = now_s
        if now_s - self.began_s <= self._timeout_s:
            return ""
        worst = int(off.argmax())
        name, expected, got = self._profile.joints[worst].name, self._pose[worst], reading.position[worst]
        return f"{self._what}: {name}: expected {expected:g} rad, got {got:.3f} rad"

    def settled(self, now_s: float) -> bool:
        """Whether it has rested there for `settle_s`, by what `look` saw."""
        return now_s - self._since_s >= self._config.settle_s

    def command(self, sent: Sent, most: float) -> Vector:
        """Return the next command, (J_all,) rad; `most` is the share of the speed that warm servos leave, (0, 1].

        Less speed is asked for: the limits themselves never shrink under an arm that moves.
        """
        limits = self._limits.slowed(min(self._share, most))
        return approach(self._pose, sent, 1.0 / self._profile.bus_hz, limits)
