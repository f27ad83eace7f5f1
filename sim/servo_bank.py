"""The servos of one arm: what each answers to a packet, and how its registers and the physics drive each other."""

import math
from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mbrl_core.arm import ArmProfile
from mbrl_core.config import refuse
from mbrl_core.robots.feetech_protocol import (
    ACTION,
    BROADCAST_ID,
    PING,
    READ,
    REG_WRITE,
    REGISTERS,
    SYNC_READ,
    SYNC_WRITE,
    WRITE,
    Packet,
    encode,
)
from mbrl_sim.physics import ArmPhysics
from mbrl_sim.sts3215 import FACTORY, Sts3215

SUPPLY_V = 12.0
STALL_CURRENT_A = 2.7  # at full drive and 12 V
ENCODER_NOISE = 0.3  # standard deviation in counts


class Reply(NamedTuple):
    """A status packet and how long the servo waits before it answers."""

    data: bytes
    delay_s: float


class ServoBank:
    """All servos of a profile, wired to one physics.

    Until torque is first enabled the arm rests on a stand: it keeps its start pose although its servos are limp. So do
    limp joints that a hand has led somewhere (`push`), until any servo's torque comes on.

    Args:
      profile: ids, signs and zeros.
      physics: the body; its clock is advanced by `advance_to` alone.
    """

    def __init__(self, profile: ArmProfile, physics: ArmPhysics) -> None:
        """Power up all servos at the physics' position."""
        self.physics = physics
        self.silent: set[int] = set()
        self._sign, self._zero = profile.vector("sign"), profile.vector("zero_count")
        self._per_rad = profile.bus.counts_per_turn / (2 * math.pi)
        counts = np.rint(self._counts(physics.position)).astype(int).tolist()
        self._at_hand = physics.position
        self.servos = [
            Sts3215(joint.servo_id, profile.servo_of(joint).model_number, count)
            for joint, count in zip(profile.joints, counts, strict=True)
        ]
        self._scaled = [(1.0, 1.0)] * len(self.servos)
        self._held = np.ones(len(self.servos), dtype=bool)  # by the stand, or by a hand
        self._led = False  # by a hand, which nothing moves
        self._enabled = np.zeros(len(self.servos), dtype=bool)
        self._warmed_s = 0.0

    def advance_to(self, time_s: float) -> None:
        """Let the physics catch up with a time on its own clock, s."""
        duration_s = time_s - self.physics.time_s
        if duration_s > 0:
            self.physics.advance(duration_s)
        if self._led:
            self.physics.push(self._at_hand, self._held)

    def power_cycle(self, servo_ids: Collection[int]) -> None:
        """Take servos' power away and give it back: they come back limp, with what is not in the EEPROM forgotten.

        Raises:
          ValueError: an id that no servo here has.
        """
        here = {servo["id"] for servo in self.servos}
        if not here.issuperset(servo_ids):
            raise refuse("servo_ids", f"some of {sorted(here)}", sorted(servo_ids))
        counts = np.rint(self._counts(self.physics.position)).astype(int).tolist()
        for servo, count in zip(self.servos, counts, strict=True):
            if servo["id"] in servo_ids:
                servo.power_cycle(count)
        self._drive()

    def push(self, position: NDArray[np.float64]) -> None:
        """Lead limp joints to a position (J_all,), rad, and hold them there.

        Raises:
          ValueError: wrong shape or not finite.
        """
        self.physics.push(position, ~self._enabled)
        self._held, self._led = ~self._enabled, True
        self._at_hand = self.physics.position
        self._drive()

    def answer(self, packet: Packet) -> list[Reply]:
        """Do what a request asks and return the status packets in the order in which they leave."""
        code, params = packet.code, packet.params
        if code == SYNC_READ and len(params) > 2:
            self._measure()
            return [r for servo_id in params[2:] for r in self._read(self._addressed(servo_id), params[:2])]
        if code == SYNC_WRITE and len(params) > 2:
            self._sync_write(params[0], params[1], params[2:])
            return []
        servos = self.servos if packet.servo_id == BROADCAST_ID else self._addressed(packet.servo_id)
        replies = self._single(servos, code, params)
        return replies if packet.servo_id != BROADCAST_ID or code == PING else []

    def _single(self, servos: list[Sts3215], code: int, params: bytes) -> list[Reply]:
        if code == PING:
            return [_status(servo, 0) for servo in servos]
        if code == READ and len(params) == 2:
            self._measure()
            return self._read(servos, params)
        if code == WRITE and len(params) > 1:
            errors = [servo.write(params[0], params[1:]) for servo in servos]
        elif code == REG_WRITE and len(params) > 1:
            errors = [servo.hold_back(params[0], params[1:]) for servo in servos]
        elif code == ACTION:
            errors = [servo.action() or 0 for servo in servos]
        else:
            return []
        self._drive()
        return [_status(servo, error) for servo, error in zip(servos, errors, strict=True) if servo["response_level"]]

    def _read(self, servos: list[Sts3215], span: bytes) -> list[Reply]:
        blocks = [(servo, servo.read(span[0], span[1])) for servo in servos]
        return [_status(servo, 0, block) for servo, block in blocks if block is not None]

    def _sync_write(self, address: int, size: int, data: bytes) -> None:
        for start in range(0, len(data) - size, size + 1):
            for servo in self._addressed(data[start]):
                servo.write(address, data[start + 1 : start + 1 + size])
        self._drive()

    def _addressed(self, servo_id: int) -> list[Sts3215]:
        return [servo for servo in self.servos if servo["id"] == servo_id and servo_id not in self.silent]

    def _counts(self, position: np.ndarray) -> np.ndarray:
        return np.asarray(self._zero + self._sign * position * self._per_rad)

    def _drive(self) -> None:
        """Hand goals, torque switches and gains from the registers to the physics."""
        enabled = np.array([servo["torque_enable"] == 1 for servo in self.servos])
        if (enabled & ~self._enabled).any():
            self._held[:] = self._led = False
        self._enabled = enabled
        goals = np.array([servo["goal_position"] for servo in self.servos])
        self.physics.set_target(np.where(self._held, self._at_hand, self._sign * (goals - self._zero) / self._per_rad))
        if ((enabled | self._held) != self.physics.torque_enabled).any():
            self.physics.set_torque_enabled(enabled | self._held)
        for index, servo in enumerate(self.servos):
            scaled = (servo["p_coefficient"] / FACTORY["p_coefficient"], min(1.0, servo["torque_limit"] / 1000))
            scaled = (1.0, 1.0) if self._held[index] else scaled
            if scaled != self._scaled[index]:
                self.physics.set_servo(index, stiffness=scaled[0], torque_limit=scaled[1])
                self._scaled[index] = scaled

    def _measure(self) -> None:
        """Fill every servo's present block from the physics."""
        physics = self.physics
        noise = ENCODER_NOISE * physics.rng.standard_normal(len(self.servos))
        position = np.rint(self._counts(physics.position) + noise).astype(int).tolist()
        velocity = np.rint(self._sign * physics.velocity * self._per_rad).astype(int).tolist()
        torque = physics.load
        drive = self._sign * torque / physics.stall_torque * ~self._held
        load = np.rint(1000 * drive).astype(int).tolist()
        current = np.rint(drive * STALL_CURRENT_A / REGISTERS["present_current"].scale).astype(int).tolist()
        duration_s, self._warmed_s = physics.time_s - self._warmed_s, physics.time_s
        for index, servo in enumerate(self.servos):
            servo.warm(float(torque[index]), duration_s)
            servo.measure(position[index], velocity[index], load[index], current[index], round(10 * SUPPLY_V))


def _status(servo: Sts3215, error: int, params: bytes = b"") -> Reply:
    return Reply(encode(servo["id"], error, params), servo["return_delay"] * REGISTERS["return_delay"].scale)
