"""An arm of Feetech STS servos on one serial line: measurements and goals in SI, every call bounded in time.

A driver only: it moves nothing by itself and limits nothing but what the servos cannot represent. Speed, range and
workspace are the safety supervisor's, which stands before it.
"""

import math
import time
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mbrl_core.arm import ArmProfile, Joint
from mbrl_core.config import refuse
from mbrl_core.robots.errors import Fault, LimitExceeded, NotConnected, StaleState
from mbrl_core.robots.feetech_protocol import (
    IDENTITY,
    PING,
    PRESENT,
    READ,
    REGISTERS,
    Register,
    encode,
    sync_read,
    sync_write,
)
from mbrl_core.robots.reading import ArmReading
from mbrl_core.robots.serial_link import BusErrors, SerialLink

Array = NDArray[np.float64]
CONNECT_DEADLINE_S = 0.05  # one ping or identity at connect; nothing moves then, so patience is cheap
REGISTER_DEADLINE_S = 0.2  # one look at a register outside the control loop
CONNECT_ATTEMPTS = 3


class FeetechArm:
    """An arm on a port. Not thread-safe: one loop owns it.

    | state          | how to get there   | allowed                                       |
    |----------------|--------------------|-----------------------------------------------|
    | closed         | built, `close`     | `connect`                                     |
    | connected      | `connect`          | `read`, `set_acceleration`, `enable_torque`   |
    | torque enabled | `enable_torque`    | and `write`                                   |

    Closing leaves the servos as they are: an arm that holds goes on holding.

    Args:
      profile: joints, ids, signs, zeros, soft limits and the bus.
      port: serial device.
      deadline_s: longest time that one `read` takes, retries included, s.
    """

    def __init__(self, profile: ArmProfile, port: str, *, deadline_s: float = 0.008) -> None:
        """Keep the settings; the port is opened by `connect`.

        Raises:
          ValueError: a deadline that is not positive, or a calibration that crosses the encoder's wrap.
        """
        if not 0.0 < deadline_s < math.inf:
            raise refuse("deadline_s", "above 0", deadline_s)
        self.profile = profile
        self.port = port
        self.deadline_s = deadline_s
        self._ids = [joint.servo_id for joint in profile.joints]
        self._sign = profile.vector("sign")
        self._zero = profile.vector("zero_count")
        self._turn = 2 * math.pi / profile.bus.counts_per_turn
        self._low: Array = np.zeros(len(self._ids))
        self._high: Array = np.full(len(self._ids), profile.bus.counts_per_turn - 1.0)
        self._check_wrap()
        self._link: SerialLink | None = None
        self._torque = False

    @property
    def errors(self) -> BusErrors:
        """Wire errors since `connect`."""
        return self._open.errors

    @property
    def torque_enabled(self) -> bool:
        """Whether every servo was last known to drive its joint."""
        return self._torque

    def connect(self) -> None:
        """Open the port and check that the servos behind it are the profile's.

        Raises:
          NotConnected: a wrong port, a missing id, a wrong model, a servo that is not in position mode, or one whose
            own position range is narrower than the profile's soft limits and would silently clamp goals.
          StaleState: a servo fell silent after its ping.
          Fault: the arm is connected already.
        """
        if self._link is not None:
            raise Fault("connect: expected a closed arm, got one that is open")
        self._link = SerialLink(self.port, self.profile.bus.baud)
        try:
            self._ping()
            self._check_identity()
            self._torque = all(self._registers("torque_enable").values())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the port back; the servos keep their last state."""
        if self._link is not None:
            self._link.close()
        self._link, self._torque = None, False

    def read(self) -> ArmReading:
        """Measure all joints with one sync read.

        Raises:
          StaleState: a servo did not answer whole within the deadline; carries the partial reading.
          NotConnected: the port is closed or the device is gone.
        """
        stamp_s = time.monotonic()
        answers = self._open.ask(sync_read(PRESENT, self._ids), self._ids, PRESENT.size, stamp_s + self.deadline_s)
        reading = self._decode({servo_id: packet.params for servo_id, packet in answers.items()}, stamp_s)
        missing = tuple(servo_id for servo_id in self._ids if servo_id not in answers)
        if missing:
            message = f"read: expected answers of servos {self._ids} in {self.deadline_s} s, got none of {missing}"
            raise StaleState(message, missing, reading if answers else None)
        return reading

    def write(self, position: Array) -> None:
        """Give all joints their goal with one sync write; nobody answers.

        Args:
          position: (J_all,), rad.

        Raises:
          ValueError: wrong shape or not finite; nothing was sent.
          LimitExceeded: outside the range that the servo accepts, which it would clamp; nothing was sent.
          Fault: torque is off; the firmware would switch it on. Nothing was sent.
          NotConnected: the port is closed or the device is gone.
        """
        position = np.asarray(position, dtype=float)
        if position.shape != self._zero.shape:
            raise refuse("position.shape", self._zero.shape, position.shape)
        if not np.isfinite(position).all():
            raise refuse("position", "finite numbers", position.tolist())
        if not self._torque:
            raise Fault("write: expected torque enabled, got off (the servos would enable it themselves)")
        self._write_counts(np.rint(self._zero + self._sign * position / self._turn))

    def enable_torque(self) -> None:
        """Hold the arm where it is.

        The present position is written as goal first. The firmware may enable torque at that write already; with
        this order the goal is the present position either way, so nothing jumps.

        Raises:
          StaleState: a servo did not answer.
          LimitExceeded: a joint lies outside the range that its servo accepts; move it in by hand.
          Fault: a servo did not take the goal or stayed limp.
          NotConnected: the port is closed or the device is gone.
        """
        counts = np.rint(self._zero + self._sign * self.read().position / self._turn)
        self._write_counts(counts)
        self._set_all("torque_enable", 1)
        self._expect("goal_position", dict(zip(self._ids, counts.astype(int).tolist(), strict=True)))
        self._expect("torque_enable", dict.fromkeys(self._ids, 1))
        self._torque = True

    def disable_torque(self) -> None:
        """Let the arm go limp: it falls. No goal is written from here on.

        Raises:
          StaleState: a servo did not answer.
          Fault: a servo did not let go.
          NotConnected: the port is closed or the device is gone.
        """
        self._torque = False
        self._set_all("torque_enable", 0)
        self._expect("torque_enable", dict.fromkeys(self._ids, 0))

    def set_acceleration(self, acceleration_rad_s2: float) -> None:
        """Set every servo's own ramp, in rad/s^2, rounded to its unit of about 0.15; 0 switches the ramp off.

        Raises:
          ValueError: not finite, negative or above what the register holds (38.9).
          StaleState: a servo did not answer.
          Fault: a servo did not take it.
          NotConnected: the port is closed or the device is gone.
        """
        register = REGISTERS["acceleration"]
        highest = 254 * register.scale
        if not 0.0 <= acceleration_rad_s2 <= highest:
            raise refuse("acceleration_rad_s2", f"0 to {highest:.1f}", acceleration_rad_s2)
        count = round(acceleration_rad_s2 / register.scale)
        self._set_all("acceleration", count)
        self._expect("acceleration", dict.fromkeys(self._ids, count))

    @property
    def _open(self) -> SerialLink:
        if self._link is None:
            raise NotConnected(f"port: expected {self.port} to be open, got closed")
        return self._link

    def _check_wrap(self) -> None:
        last = self.profile.bus.counts_per_turn - 1
        for joint in self.profile.joints:
            for name, count in zip(("lower_rad", "upper_rad"), self._soft_counts(joint), strict=True):
                if not 0 <= count <= last:
                    expected = f"a limit within encoder counts 0 to {last} (no wrap between the soft limits)"
                    raise refuse(f"{joint.name}.{name}", expected, round(count))

    def _soft_counts(self, joint: Joint) -> list[float]:
        """Encoder counts of a joint's lower and upper soft limit."""
        return [joint.zero_count + joint.sign * angle / self._turn for angle in (joint.lower_rad, joint.upper_rad)]

    def _ping(self) -> None:
        found = []
        for servo_id in self._ids:
            for _ in range(CONNECT_ATTEMPTS):
                deadline = time.monotonic() + CONNECT_DEADLINE_S
                if self._open.ask(encode(servo_id, PING), [servo_id], 0, deadline):
                    found.append(servo_id)
                    break
        missing = [servo_id for servo_id in self._ids if servo_id not in found]
        if missing:
            where = f"{self.port} at {self.profile.bus.baud} bit/s"
            advice = "check power, cable, ids and baud rate" if found else "check the port, power and baud rate"
            raise NotConnected(f"servo ids on {where}: expected {self._ids}, got {found}; missing {missing}: {advice}")

    def _check_identity(self) -> None:
        for index, joint in enumerate(self.profile.joints):
            block = self._identity(joint.servo_id)
            model = _field(block, "model_number")
            if model != self.profile.bus.model_number:
                raise _mismatch(joint, "model number", self.profile.bus.model_number, model)
            mode = _field(block, "operating_mode")
            if mode != 0:
                raise _mismatch(joint, "operating mode", "0 (position)", mode)
            low, high = _field(block, "min_position"), _field(block, "max_position")
            counts = self._soft_counts(joint)
            if not low <= min(counts) or not max(counts) <= high:
                needed = f"counts {min(counts):.0f} to {max(counts):.0f} (the soft limits) inside min and max position"
                raise _mismatch(joint, "position range", needed, f"{low} to {high}")
            self._low[index], self._high[index] = low, high

    def _identity(self, servo_id: int) -> bytes:
        request = encode(servo_id, READ, bytes((IDENTITY.address, IDENTITY.size)))
        for _ in range(CONNECT_ATTEMPTS):
            answer = self._open.ask(request, [servo_id], IDENTITY.size, time.monotonic() + CONNECT_DEADLINE_S)
            if answer:
                return answer[servo_id].params
        raise NotConnected(f"servo {servo_id}: expected its identity, got no whole answer")

    def _write_counts(self, counts: Array) -> None:
        outside = np.flatnonzero((counts < self._low) | (counts > self._high))
        if outside.size:
            index = int(outside[0])
            span = f"{self._low[index]:.0f} to {self._high[index]:.0f}"
            name = self.profile.joints[index].name
            raise LimitExceeded(f"{name} goal count: expected {span}, got {counts[index]:.0f}")
        goals = dict(zip(self._ids, counts.astype(int).tolist(), strict=True))
        self._open.send(sync_write(REGISTERS["goal_position"], goals))

    def _set_all(self, name: str, value: int) -> None:
        self._open.send(sync_write(REGISTERS[name], dict.fromkeys(self._ids, value)))

    def _registers(self, name: str) -> dict[int, int]:
        """Read one register of all servos, by id."""
        register = REGISTERS[name]
        deadline = time.monotonic() + REGISTER_DEADLINE_S
        answers = self._open.ask(sync_read(register, self._ids), self._ids, register.size, deadline)
        missing = tuple(servo_id for servo_id in self._ids if servo_id not in answers)
        if missing:
            raise StaleState(f"{name}: expected answers of servos {self._ids}, got none of {missing}", missing)
        return {servo_id: register.unpack(answers[servo_id].params) for servo_id in self._ids}

    def _expect(self, name: str, expected: Mapping[int, int]) -> None:
        got = self._registers(name)
        if got != expected:
            raise Fault(f"{name} by servo id: expected {dict(expected)}, got {got}")

    def _decode(self, blocks: Mapping[int, bytes], stamp_s: float) -> ArmReading:
        """Turn the servos' present blocks into SI; NaN (status 0) where a servo is missing."""

        def column(name: str) -> Array:
            register = REGISTERS[name]
            return np.array([_field(blocks[i], name, PRESENT) if i in blocks else math.nan for i in self._ids]) * (
                1.0 if name == "present_position" else register.scale
            )

        return ArmReading(
            position=self._sign * (column("present_position") - self._zero) * self._turn,
            velocity=self._sign * column("present_velocity"),
            load=self._sign * column("present_load"),
            current_a=self._sign * column("present_current"),
            voltage_v=column("present_voltage"),
            temperature_c=column("present_temperature"),
            status=np.nan_to_num(column("status")).astype(np.uint8),
            stamp_s=stamp_s,
        )


def _field(block: bytes, name: str, within: Register = IDENTITY) -> int:
    """One register's count out of a block."""
    register = REGISTERS[name]
    start = register.address - within.address
    return register.unpack(block[start : start + register.size])


def _mismatch(joint: Joint, what: str, expected: object, got: object) -> NotConnected:
    return NotConnected(f"servo {joint.servo_id} ({joint.name}) {what}: expected {expected}, got {got}")
