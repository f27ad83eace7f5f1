"""The servos of one arm, of either family: how their registers and the physics drive each other."""

import math
from collections.abc import Callable, Collection
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mbrl_core.arm import ArmProfile, Joint
from mbrl_core.config import refuse
from mbrl_sim.bus_faults import BusFaults
from mbrl_sim.physics import ArmPhysics

SUPPLY_V = 12.0  # where a kind of servo stands it, otherwise the middle of what it stands
FULL_DRIVE = 1.35  # current at full drive over the profile's stall current, which no free motion needs
ENCODER_NOISE = 0.3  # standard deviation in counts
AMBIENT_C = 25.0
HEATING_C = 88.0  # in the end at full drive; an STS3215 ends at 48 degrees under 1.5 N m, as measured on a real one
WARMING_S = 600.0
STRAIN_S = 0.02  # how often, in simulated time, servos look after themselves


class Measured(NamedTuple):
    """What one servo's sensors say.

    Attributes:
      position: encoder count.
      velocity_rad_s: of the encoder, rad/s.
      drive: share of full drive, in [-1, 1].
      current_a: A, with the sign of the drive.
      voltage_v: supply, V.
      temperature_c: degC.
    """

    position: int
    velocity_rad_s: float
    drive: float
    current_a: float
    voltage_v: float
    temperature_c: float


class Strain(NamedTuple):
    """What one servo's protections watch.

    Attributes:
      position: encoder count.
      drive: share of full drive, in [0, 1].
      voltage_v: supply, V.
      temperature_c: degC.
      overloaded: whether it takes its load for too much, whatever it is.
    """

    position: int
    drive: float
    voltage_v: float
    temperature_c: float
    overloaded: bool


class BusServo(Protocol):
    """One servo as the bank sees it; its registers are the affair of its family."""

    @property
    def servo_id(self) -> int:
        """Its address."""

    @property
    def baud(self) -> int:
        """Bits per second that it listens at."""

    @property
    def torque_enabled(self) -> bool:
        """Whether it drives its joint."""

    @property
    def goal(self) -> int:
        """Goal position in counts."""

    @property
    def stiffness(self) -> float:
        """Factor on the factory's position gain."""

    @property
    def torque_limit(self) -> float:
        """Share of the stall torque that it may use, in [0, 1]."""

    def power_cycle(self, position: int) -> None:
        """Lose what is not in the EEPROM; come back limp, with the goal at a count."""

    def measure(self, measured: Measured) -> None:
        """Fill in the registers that say how it is."""

    def look_after(self, strain: Strain, duration_s: float) -> bool:
        """Let its protections act; return whether that changes how it drives."""


class ServoBank:
    """All servos of a profile, wired to one physics.

    Until torque is first enabled the arm rests on a stand: it keeps its start pose although its servos are limp. So do
    limp joints that a hand has led somewhere (`push`), until any servo's torque comes on.

    Args:
      profile: ids, signs and zeros.
      physics: the body; its clock is advanced by `advance_to` alone.
      faults: what goes wrong in the servos.
      make: a servo of the profile's family for a joint, at an encoder count.
    """

    def __init__(
        self, profile: ArmProfile, physics: ArmPhysics, faults: BusFaults, make: Callable[[Joint, int], BusServo]
    ) -> None:
        """Power up all servos at the physics' position."""
        self.physics, self.faults = physics, faults
        self._sign, self._zero = profile.vector("sign"), profile.vector("zero_count")
        self._per_rad = profile.bus.counts_per_turn / (2 * math.pi)
        kinds = [profile.servo_of(joint) for joint in profile.joints]
        self._supply_v = [
            SUPPLY_V if kind.min_voltage_v <= SUPPLY_V <= kind.max_voltage_v
            else (kind.min_voltage_v + kind.max_voltage_v) / 2
            for kind in kinds
        ]  # fmt: skip
        self._full_current_a = np.array([FULL_DRIVE * kind.stall_current_a for kind in kinds])
        counts = np.rint(self._counts(physics.position)).astype(int).tolist()
        self.servos = [make(joint, count) for joint, count in zip(profile.joints, counts, strict=True)]
        size = len(self.servos)
        self._scaled = [(1.0, 1.0)] * size
        self._at_hand = physics.position
        self._held = np.ones(size, dtype=bool)  # by the stand, or by a hand
        self._led = False  # by a hand, which nothing moves
        self._enabled = np.zeros(size, dtype=bool)
        self._temperature_c = np.full(size, AMBIENT_C)
        self._looked_s = 0.0
        self._shown: list[tuple[int, float]] = [(count, 0.0) for count in counts]  # position and speed of encoders

    def advance_to(self, time_s: float) -> None:
        """Let the physics catch up with a time on its own clock, s."""
        duration_s = time_s - self.physics.time_s
        if duration_s > 0:
            self.physics.advance(duration_s)
        if self._led:
            self.physics.push(self._at_hand, self._held)
        passed_s = self.physics.time_s - self._looked_s
        if passed_s >= STRAIN_S:
            self._look_after(passed_s)

    def push(self, position: NDArray[np.float64]) -> None:
        """Lead limp joints to a position (J_all,), rad, and hold them there.

        Raises:
          ValueError: wrong shape or not finite.
        """
        self.physics.push(position, ~self._enabled)
        self._held, self._led = ~self._enabled, True
        self._at_hand = self.physics.position
        self.drive()

    def power_cycle(self, servo_ids: Collection[int]) -> None:
        """Take servos' power away and give it back: they come back limp, with what is not in the EEPROM forgotten.

        Raises:
          ValueError: an id that no servo here has.
        """
        here = {servo.servo_id for servo in self.servos}
        if not here.issuperset(servo_ids):
            raise refuse("servo_ids", f"some of {sorted(here)}", sorted(servo_ids))
        for servo in self.servos:
            if servo.servo_id in servo_ids:
                self.restart(servo)
        self.drive()

    def restart(self, servo: BusServo) -> None:
        """Let one servo start anew where it stands."""
        servo.power_cycle(self.count_of(servo))

    def count_of(self, servo: BusServo) -> int:
        """Return where a servo's joint stands, in encoder counts."""
        return round(float(self._counts(self.physics.position)[self.servos.index(servo)]))

    def hearing(self, baud: int | None) -> list[BusServo]:
        """Servos that hear a request at so many bits per second (None = at theirs), in the order of the joints."""
        silent = self.faults.silent
        return [s for s in self.servos if s.servo_id not in silent and baud in (None, s.baud)]

    def drive(self) -> None:
        """Hand goals, torque switches and gains from the registers to the physics."""
        enabled = np.array([servo.torque_enabled for servo in self.servos])
        if (enabled & ~self._enabled).any():
            self._held[:] = self._led = False
        self._enabled = enabled
        goals = np.array([servo.goal for servo in self.servos])
        targets = self._sign * (goals - self._zero) / self._per_rad
        self.physics.set_target(np.where(self._held, self._at_hand, targets))
        if ((enabled | self._held) != self.physics.torque_enabled).any():
            self.physics.set_torque_enabled(enabled | self._held)
        for index, servo in enumerate(self.servos):
            scaled = (1.0, 1.0) if self._held[index] else (servo.stiffness, servo.torque_limit)
            if scaled != self._scaled[index]:
                self.physics.set_servo(index, stiffness=scaled[0], torque_limit=scaled[1])
                self._scaled[index] = scaled

    def measure(self) -> None:
        """Let every servo's sensors look at the physics."""
        for servo, measured in zip(self.servos, self._measured(), strict=True):
            servo.measure(measured)

    def _measured(self) -> list[Measured]:
        physics, faults = self.physics, self.faults
        noise = ENCODER_NOISE * physics.rng.standard_normal(len(self.servos))
        position = np.rint(self._counts(physics.position) + noise).astype(int).tolist()
        velocity = (self._sign * physics.velocity).tolist()
        drive = self._sign * physics.load / physics.stall_torque * ~self._held
        current = (drive * self._full_current_a).tolist()
        for index, servo in enumerate(self.servos):
            if servo.servo_id not in faults.frozen:
                jump = faults.encoder_jump.get(servo.servo_id, 0)
                self._shown[index] = position[index] + jump, velocity[index]
        return [
            Measured(*shown, *rest)
            for shown, *rest in zip(self._shown, drive.tolist(), current, self._voltage(), self._heat(), strict=True)
        ]

    def _voltage(self) -> list[float]:
        return [supply_v * self.faults.supply for supply_v in self._supply_v]

    def _heat(self) -> list[float]:
        held_at = self.faults.temperature_c
        found = zip(self.servos, self._temperature_c.tolist(), strict=True)
        return [held_at.get(servo.servo_id, celsius) for servo, celsius in found]

    def _look_after(self, duration_s: float) -> None:
        """Warm the servos and let their protections act."""
        self._looked_s = self.physics.time_s
        drive = np.abs(self.physics.load / self.physics.stall_torque) * ~self._held
        settled = AMBIENT_C + HEATING_C * drive**2
        self._temperature_c += (settled - self._temperature_c) * min(1.0, duration_s / WARMING_S)
        changed = False
        position = np.rint(self._counts(self.physics.position)).astype(int).tolist()
        for servo, *strain in zip(self.servos, position, drive.tolist(), self._voltage(), self._heat(), strict=True):
            overloaded = servo.servo_id in self.faults.overloaded
            changed |= servo.look_after(Strain(*strain, overloaded), duration_s)
        if changed:
            self.drive()

    def _counts(self, position: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(self._zero + self._sign * position * self._per_rad)
