"""The only way to the wire: reads, and writes what the safety function returned, while the bus can be trusted.

Four rules. What was not written is not recorded as sent. After a cycle without a reading nothing is written until the
servos have said that their torque is still on: one that lost power comes back limp, and a goal would throw it to where
it was. A servo that suffers is a `complaint`, for the loop to stop on, one that is `hot` a reason to park, and `share`
is what warm ones leave of the speed (`health.py`). After too many failures in a row nothing is written at all until
`engage`.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mbrl_core.arm import ArmProfile
from mbrl_core.config import refuse
from mbrl_core.control_config import ControlConfig, Counters
from mbrl_core.health import VOLTAGE_CYCLES, Health, Tolerances, judge
from mbrl_core.robots.errors import Fault, RobotError, StaleState
from mbrl_core.robots.reading import ArmReading
from mbrl_core.robots.robot import Robot
from mbrl_core.safety import Clear, Limits, Sent, Tip, limit
from mbrl_core.types import Vector

HELD_RAD = 0.15  # a goal this near the measured position is being held, with sag; further off it is not trusted


class GuardedArm:
    """An arm behind the safety function. `sent` is what it was told last; None = it has not been engaged."""

    def __init__(
        self,
        arm: Robot,
        profile: ArmProfile,
        config: ControlConfig,
        counters: Counters,
        tip: Tip,
        clear: Clear | None = None,
    ) -> None:
        """Take the driver; `tip` and `clear` are those of `safety.limit`."""
        self._arm, self._profile, self._config, self._counters = arm, profile, config, counters
        self._tip, self._clear, self._limits = tip, clear, Limits.of(profile)
        self._tolerances = Tolerances.of(profile)
        self._health: Health | None = None  # from the first reading after `engage`
        self._tick_s = 1.0 / profile.bus_hz
        self._failed_reads = self._failed_writes = 0
        self._must_check_torque = False
        self.lost = False  # too many cycles failed in a row: until `engage` nothing is written, whatever comes back
        self.sent: Sent | None = None
        self.reading: ArmReading | None = None
        self.problem = ""  # the last failure
        self.complaint = ""  # why the arm must stop where it is, by its own last reading
        self.hot = ""  # why it must park
        self.share = 1.0  # of its speed, which whoever commands it has to keep to

    def engage(self) -> None:
        """Hold the arm where it is and begin to write.

        Raises:
          ValueError: it is found outside its limits (start-up guard).
          RobotError: it does not answer, does not take hold, or a servo suffers.
        """
        reading = self._arm.read()
        self._guard_startup(reading)
        begun = Health.begin(reading, reading.position, self._tolerances)
        at_once = replace(begun, odd_voltage=begun.odd_voltage + VOLTAGE_CYCLES)  # nothing that it does makes a dip
        self._judge(at_once, reading, reading.position)
        if self.complaint or self.hot:
            raise Fault(self.complaint or self.hot)
        self._arm.enable_torque()
        goal = self._arm.read_goal()
        held = bool(np.abs(goal - reading.position).max() < HELD_RAD)
        self.sent, self.reading = Sent.at_rest(goal if held else reading.position), reading
        self._health = Health.begin(reading, self.sent.position, self._tolerances)
        self._failed_reads = self._failed_writes = 0
        self._must_check_torque = self.lost = False

    def read(self) -> ArmReading | None:
        """Read all joints; None when that failed, which is counted."""
        try:
            reading = self._arm.read()
            if self._must_check_torque and self.sent is not None:
                self._check_torque()
            if self._health is not None and self.sent is not None:
                self._health = self._judge(self._health, reading, self.sent.position)
        except RobotError as error:
            self._failed_reads += 1
            self._must_check_torque = True
            self._note(error)
            return None
        self._failed_reads, self.reading = 0, reading
        return reading

    def send(self, command: Vector) -> bool:
        """Send what the safety function makes of a command; returns whether it left."""
        if self.sent is None or self.lost:
            return False
        passed = limit(command, self.sent, self._tick_s, self._limits, self._tip, self._clear)
        try:
            self._arm.write(passed.position)
        except RobotError as error:
            self._failed_writes += 1
            self.sent = Sent.at_rest(self.sent.position)
            self._note(error)
            return False
        self._failed_writes, self.sent = 0, passed
        return True

    @property
    def at_rest(self) -> bool:
        """Whether no motion is under way that could still be braked."""
        return self.sent is None or self.lost or not self.sent.velocity.any()

    @property
    def stalled(self) -> NDArray[np.bool_]:
        """Joints that push and do not turn for longer than they may: (J_all,)."""
        if self._health is None:
            return np.zeros(len(self._profile.joints), dtype=bool)
        return np.asarray(self._health.stalled_s >= self._tolerances.stall_s)

    def pause(self) -> None:
        """Account for a cycle in which nothing was written: the servos go to the last target and stay."""
        if self.sent is not None:
            self.sent = Sent.at_rest(self.sent.position)

    def release(self) -> None:
        """Let the arm go limp: it falls, unless it was parked where it cannot. Raises RobotError; see `Robot`."""
        self.sent = self._health = None
        self._arm.disable_torque()

    def _judge(self, health: Health, reading: ArmReading, target: Vector) -> Health:
        """Take what a reading says: complaints, and the speed that is left. Raises StaleState for an untrue one."""
        after, verdict = judge(health, reading, target, self._tolerances, self._config.speed)
        if verdict.objection:
            self._health = after
            raise StaleState(verdict.objection)
        self.complaint, self.hot, self.share = verdict.complaint, verdict.hot, verdict.share
        return after

    def _check_torque(self) -> None:
        limp = np.flatnonzero(~self._arm.read_torque())
        if limp.size:
            names = [self._profile.joints[index].name for index in limp]
            self.lost = True
            raise RobotError(f"torque: expected on, got off at {names}")
        self._must_check_torque = False

    def _note(self, error: RobotError) -> None:
        self._counters.bus_errors += 1
        self.lost |= max(self._failed_reads, self._failed_writes) >= self._config.max_bus_errors
        self.problem = f"bus: {error}"

    def _guard_startup(self, reading: ArmReading) -> None:
        margin = self._config.startup_margin_rad
        for joint, angle in zip(self._profile.joints, reading.position, strict=True):
            if not joint.lower_rad - margin <= angle <= joint.upper_rad + margin:
                expected = f"{joint.lower_rad - margin:.3f} to {joint.upper_rad + margin:.3f} rad at start"
                raise refuse(joint.name, expected, round(float(angle), 3))
