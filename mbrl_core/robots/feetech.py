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
    BROADCAST_ID,
    IDENTITY,
    PING,
    PRESENT,
    READ,
    REGISTERS,
    SYNC_WRITE,
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
ROUND_TRIPS = 10  # at connect, at most; the best counts, for a busy computer delays single ones
COMMAND = Register(address=40, size=10)  # torque_enable to torque_limit, in one block
MOTION = ("acceleration", "goal_position", "goal_time", "goal_velocity")  # side by side in the table, in this order


class FeetechArm:
    """An arm on a port. Not thread-safe: one loop owns it.

    | state          | how to get there   | allowed                                       |
    |----------------|--------------------|-----------------------------------------------|
    | closed         | built, `close`     | `connect`                                     |
    | connected      | `connect`          | all `read*`, `set_acceleration`, `enable_torque` |
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
        self._acceleration = 0  # in the register's unit

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
          NotConnected: a wrong port, a missing id, a wrong model, a servo that is not in position mode, one whose own
            position range is narrower than the profile's soft limits and would silently clamp goals, one whose torque
            limit is 0, or an adapter that takes longer than the deadline.
          StaleState: a servo fell silent after its ping.
          Fault: the arm is connected already.
        """
        if self._link is not None:
            raise Fault("connect: expected a closed arm, got one that is open")
        self._link = SerialLink(self.port, self.profile.bus.baud)
        try:
            self._ping()
            self._check_identity()
            self._check_round_trip()
            commands = self._commands()
            self._check_torque_limit(commands["torque_limit"])
            self._torque = all(commands["torque_enable"].values())
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
        deadline = time.monotonic() + self.deadline_s
        answers = self._open.ask(sync_read(PRESENT, self._ids), self._ids, PRESENT.size, deadline)
        blocks = {servo_id: packet.params for servo_id, packet in answers.items()}
        reading = self._decode(blocks, self._open.asked_s)
        missing = tuple(servo_id for servo_id in self._ids if servo_id not in answers)
        if missing:
            message = f"read: expected answers of servos {self._ids} in {self.deadline_s} s, got none of {missing}"
            raise StaleState(message, missing, reading if answers else None)
        return reading

    def read_goal(self) -> Array:
        """Return the goals that the servos hold now, with one sync read: (J_all,), rad.

        Raises:
          StaleState: a servo did not answer whole within the deadline; carries no reading.
          NotConnected: the port is closed or the device is gone.
        """
        goals = self._registers("goal_position", self.deadline_s)
        return np.asarray(self._sign * (np.array([goals[i] for i in self._ids]) - self._zero) * self._turn)

    def read_torque(self) -> NDArray[np.bool_]:
        """Return which servos drive their joint, with one sync read: (J_all,).

        A servo that lost its power comes back limp. When one is found so, `write` refuses until `enable_torque`: the
        firmware would take a goal as the order to drive there at once.

        Raises:
          StaleState: a servo did not answer whole within the deadline; carries no reading.
          NotConnected: the port is closed or the device is gone.
        """
        switches = self._registers("torque_enable", self.deadline_s)
        torque = np.array([switches[i] == 1 for i in self._ids])
        self._torque = self._torque and bool(torque.all())
        return torque

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
        self._open.send(sync_write(REGISTERS["goal_position"], self._goals(position)))

    def enable_torque(self) -> None:
        """Hold the arm where it is.

        An arm that holds already keeps its goals: they stay ahead of where it sags to. Otherwise the present position
        is written as goal first. The firmware may enable torque at that write already; with this order the goal is
        the present position either way, so nothing jumps.

        In the same packet go the registers that shape a motion and may be left over from other software: goal time
        and goal velocity 0 (as fast as the servo can), acceleration as `set_acceleration` said, else 0 (no ramp). An
        arm that holds with other values there counts as one that does not hold: it gets new goals.

        Raises:
          StaleState: a servo did not answer.
          LimitExceeded: a joint lies outside the range that its servo accepts; move it in by hand.
          Fault: a servo did not take what was written or stayed limp.
          NotConnected: the port is closed, the device is gone or a servo's torque limit is 0.
        """
        commands = self._commands()
        self._check_torque_limit(commands["torque_limit"])
        known = {"acceleration": self._acceleration, "goal_time": 0, "goal_velocity": 0, "torque_enable": 1}
        wanted = {name: dict.fromkeys(self._ids, value) for name, value in known.items()}
        if any(commands[name] != values for name, values in wanted.items()):
            wanted["goal_position"] = self._goals(self.read().position)
            self._write_motion(wanted)
            self._set_all("torque_enable", 1)
            commands = self._commands()
            for name, values in wanted.items():
                _compare(name, values, commands[name])
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
        self._acceleration = count

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
            expected = self.profile.servo_of(joint).model_number
            if model != expected:
                raise _mismatch(joint, "model number", expected, model)
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

    def _check_round_trip(self) -> None:
        """See that answers come within the deadline, as the control loop will need them."""
        best_s = math.inf
        for _ in range(ROUND_TRIPS):
            start = time.monotonic()
            self._blocks("round trip", PRESENT, REGISTER_DEADLINE_S)
            best_s = min(best_s, time.monotonic() - start)
            if best_s <= self.deadline_s:
                return
        raise NotConnected(
            f"round trip on {self.port}: expected at most {1e3 * self.deadline_s:g} ms (the deadline of a read), got "
            f"{1e3 * best_s:.1f} ms: set the USB adapter's latency timer to 1 ms (on Linux the file latency_timer of "
            "the device under /sys/bus/usb-serial/devices)"
        )

    def _check_torque_limit(self, limits: Mapping[int, int]) -> None:
        for joint in self.profile.joints:
            if limits[joint.servo_id] == 0:
                raise _mismatch(joint, "torque limit", "above 0 (switch the arm off and on)", 0)

    def _goals(self, position: Array) -> dict[int, int]:
        """Return the encoder counts of positions in rad, by servo id."""
        counts = np.rint(self._zero + self._sign * position / self._turn)
        outside = np.flatnonzero((counts < self._low) | (counts > self._high))
        if outside.size:
            index = int(outside[0])
            span = f"{self._low[index]:.0f} to {self._high[index]:.0f}"
            name = self.profile.joints[index].name
            raise LimitExceeded(f"{name} goal count: expected {span}, got {counts[index]:.0f}")
        return dict(zip(self._ids, counts.astype(int).tolist(), strict=True))

    def _write_motion(self, values: Mapping[str, Mapping[int, int]]) -> None:
        """Write the registers of `MOTION` at once: by name, by servo id."""
        registers = [REGISTERS[name] for name in MOTION]
        head = bytes((registers[0].address, sum(register.size for register in registers)))
        data = [bytes((i,)) + b"".join(REGISTERS[n].pack(values[n][i]) for n in MOTION) for i in self._ids]
        self._open.send(encode(BROADCAST_ID, SYNC_WRITE, head + b"".join(data)))

    def _set_all(self, name: str, value: int) -> None:
        self._open.send(sync_write(REGISTERS[name], dict.fromkeys(self._ids, value)))

    def _commands(self) -> dict[str, dict[int, int]]:
        """Read what the servos are told to do: counts by name, by servo id."""
        blocks = self._blocks("torque_enable to torque_limit", COMMAND, REGISTER_DEADLINE_S)
        names = ("torque_enable", *MOTION, "torque_limit")
        return {name: {i: _field(block, name, COMMAND) for i, block in blocks.items()} for name in names}

    def _registers(self, name: str, deadline_s: float = REGISTER_DEADLINE_S) -> dict[int, int]:
        """Read one register of all servos, by id."""
        register = REGISTERS[name]
        return {i: register.unpack(data) for i, data in self._blocks(name, register, deadline_s).items()}

    def _blocks(self, name: str, register: Register, deadline_s: float) -> dict[int, bytes]:
        """Read one register, or block, of all servos, by id; the name is for the error's text."""
        deadline = time.monotonic() + deadline_s
        answers = self._open.ask(sync_read(register, self._ids), self._ids, register.size, deadline)
        missing = tuple(servo_id for servo_id in self._ids if servo_id not in answers)
        if missing:
            message = f"{name}: expected answers of servos {self._ids} in {deadline_s} s, got none of {missing}"
            raise StaleState(message, missing)
        return {servo_id: answers[servo_id].params for servo_id in self._ids}

    def _expect(self, name: str, expected: Mapping[int, int]) -> None:
        _compare(name, expected, self._registers(name))

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


def _compare(name: str, expected: Mapping[int, int], got: Mapping[int, int]) -> None:
    if got != expected:
        raise Fault(f"{name} by servo id: expected {dict(expected)}, got {dict(got)}")


def _mismatch(joint: Joint, what: str, expected: object, got: object) -> NotConnected:
    return NotConnected(f"servo {joint.servo_id} ({joint.name}) {what}: expected {expected}, got {got}")
