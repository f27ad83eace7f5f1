"""An arm of servos on one serial line: measurements and goals in SI, every call bounded in time.

One driver for every family: what differs between them is data (`families.py`). A driver only: it moves nothing by
itself and limits nothing but what the servos cannot represent. Speed, range and workspace are the safety function's,
which stands before it.
"""

import contextlib
import math
import time
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mbrl_core.arm import ArmProfile
from mbrl_core.config import refuse
from mbrl_core.robots.arm_checks import (
    answer_at_once,
    check_identity,
    check_ids,
    check_round_trip,
    check_torque_limit,
    check_wrap,
    choose_wire,
)
from mbrl_core.robots.errors import Fault, LimitExceeded, NotConnected, RobotError, StaleState
from mbrl_core.robots.families import family_of
from mbrl_core.robots.reading import ArmReading
from mbrl_core.robots.register import Register
from mbrl_core.robots.serial_link import BusErrors
from mbrl_core.robots.servo_bus import REGISTER_DEADLINE_S, ServoBus
from mbrl_core.robots.servo_fault import ServoFault, fault_names
from mbrl_core.robots.wire import Packet

Array = NDArray[np.float64]
READ_SHARE = 0.8  # of a cycle
TORQUE_S = 0.1  # after which the servos are asked again whether they drive: one may let go without a word
WATCHDOG_UNIT_S = 0.02  # of the register bus_watchdog


def cycle_deadline_s(profile: ArmProfile) -> float:
    """Longest time that the reads of one cycle may take together, s: what is left is for the rest of the cycle."""
    return READ_SHARE / profile.bus_hz


class ServoArm:
    """An arm on a port, as `Robot` says. Not thread-safe: one loop owns it.

    Closing leaves the servos as they are: an arm that holds goes on holding.

    Args:
      profile: joints, ids, signs, zeros, soft limits and the bus.
      port: serial device.
      deadline_s: longest time that one `read` and the look at the torque after it take together, retries included,
        s; None = `cycle_deadline_s`.
    """

    def __init__(self, profile: ArmProfile, port: str, *, deadline_s: float | None = None) -> None:
        """Keep the settings; the port is opened by `connect`.

        Raises:
          ValueError: a deadline that is not positive, a calibration that crosses the encoder's wrap, or a family or
            model that is not known.
        """
        self.deadline_s = cycle_deadline_s(profile) if deadline_s is None else deadline_s
        if not 0.0 < self.deadline_s < math.inf:
            raise refuse("deadline_s", "above 0", deadline_s)
        self.profile, self.port = profile, port
        self._family = family_of(profile.bus.protocol)
        self._tables = [self._family.registers(profile.servo_of(joint).model_number) for joint in profile.joints]
        self._ids = [joint.servo_id for joint in profile.joints]
        self._sign, self._zero = profile.vector("sign"), profile.vector("zero_count")
        self._turn = 2 * math.pi / profile.bus.counts_per_turn
        self._low: Array = np.zeros(len(self._ids))
        self._high: Array = np.full(len(self._ids), profile.bus.counts_per_turn - 1.0)
        check_wrap(profile)
        self._bus: ServoBus | None = None
        self._torque, self._off = False, "off"  # where a joint let go by itself, the second says which
        self._acceleration = 0  # in the register's unit
        self._torque_seen_s = 0.0  # when the servos last said whether they drive
        self._until_s = 0.0  # when the reads of the cycle under way end
        self._spoke_s = 0.0  # when the bus last carried a request of ours, which is what its watchdogs watch
        self._must_check_torque = False
        self._alerts: dict[int, int] = {}  # bits of ServoFault by servo id, while its alert lasts

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
          NotConnected: a wrong port, a missing or doubled id, a wrong baud rate or model, a servo that is not in
            position mode, one whose own position range is narrower than the profile's soft limits and would silently
            clamp goals, one whose torque limit is 0, or an adapter that takes longer than the deadline.
          StaleState: a servo fell silent after its ping.
          Fault: the arm is connected already, or a servo did not take another return delay.
        """
        if self._bus is not None:
            raise Fault("connect: expected a closed arm, got one that is open")
        bus = self.profile.bus
        self._bus = ServoBus(self.port, bus.baud, bus.protocol)
        try:
            check_ids(self._bus, self.profile)
            self._low, self._high = check_identity(self._bus, self.profile)
            commands = self._commands()
            check_torque_limit(self.profile, commands["torque_limit"])
            answer_at_once(self._bus, commands["torque_enable"])
            choose_wire(self._bus, self._ids)
            check_round_trip(self._bus, self._ids, self.deadline_s)
            self._torque = all(commands["torque_enable"].values())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the port back; the servos keep their last state, and their bus watchdogs watch no more."""
        if self._bus is not None:
            with contextlib.suppress(RobotError):
                self._set_watchdog(0)
            self._bus.close()
        self._bus, self._torque = None, False

    def read(self) -> ArmReading:
        """Measure all joints with one sync read.

        Raises:
          StaleState: a servo did not answer whole within the deadline; carries the partial reading.
          NotConnected: the port is closed or the device is gone.
        """
        deadline = self._until_s = time.monotonic() + self.deadline_s
        link, present = self._open.link, self._family.present
        self._note_silence()
        answers = link.ask(self._sync_read(present), self._ids, present.size, deadline)
        asked_s = link.asked_s
        self._look_at_alerts(answers, deadline)
        reading = self._decode({servo_id: packet.params for servo_id, packet in answers.items()}, asked_s)
        missing = tuple(servo_id for servo_id in self._ids if servo_id not in answers)
        if missing:
            link.wire = self._family.wires[-1]  # in a fast answer one silent servo takes those after it with it
            message = f"read: expected answers of servos {self._ids} in {self.deadline_s} s, got none of {missing}"
            raise StaleState(message, missing, reading if answers else None)
        # a servo that protects itself lets go, and a Feetech would take the next goal as the order to drive on
        self._must_check_torque |= bool(reading.status.any()) or asked_s - self._torque_seen_s > TORQUE_S
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
        """Return which servos drive their joint: (J_all,). One that its own bus watchdog has stopped does not.

        After a `read` it has what that left of the deadline. A servo that lost its power comes back limp, and one that
        protects itself may let go. When one is found so, `write` refuses until `enable_torque`: a Feetech's firmware
        would take a goal as the order to drive there at once.

        Raises:
          StaleState: a servo did not answer whole within the deadline; carries no reading.
          NotConnected: the port is closed or the device is gone.
        """
        switches = self._registers("torque_enable", self._time_left())
        torque = np.array([switches[i] == 1 for i in self._ids])
        if self._family.watchdog_counts:
            watchdogs = self._registers("bus_watchdog", self._time_left())
            torque &= np.array([watchdogs[i] >= 0 for i in self._ids])
        if self._torque and not torque.all():
            limp = [joint.name for joint, on in zip(self.profile.joints, torque, strict=True) if not on]
            self._torque, self._off = False, f"off at {limp}"
        self._note_torque()
        return torque

    def write(self, position: Array) -> None:
        """Give all joints their goal with one sync write; nobody answers.

        Args:
          position: (J_all,), rad.

        Raises:
          ValueError: wrong shape or not finite; nothing was sent.
          LimitExceeded: outside the range that the servo accepts, which it would clamp; nothing was sent.
          Fault: torque is off; the firmware might switch it on. Nothing was sent.
          StaleState: a servo did not say in time whether it still drives. Nothing was sent.
          NotConnected: the port is closed or the device is gone.
        """
        position = np.asarray(position, dtype=float)
        if position.shape != self._zero.shape:
            raise refuse("position.shape", self._zero.shape, position.shape)
        if not np.isfinite(position).all():
            raise refuse("position", "finite numbers", position.tolist())
        self._note_silence()
        if self._torque and self._must_check_torque:
            self.read_torque()
        if not self._torque:
            raise Fault(f"write: expected torque enabled, got {self._off} (servos might switch it on at a goal)")
        self._set_all("goal_position", self._goals(position))

    def enable_torque(self) -> None:
        """Hold the arm where it is.

        An arm that holds already keeps its goals: they stay ahead of where it sags to. Otherwise the present position
        is written as goal first. The firmware may enable torque at that write already; with this order the goal is
        the present position either way, so nothing jumps.

        In the same packet go the registers that shape a motion and may be left over from other software: as fast as
        the servo can, acceleration as `set_acceleration` said, else no ramp. An arm that holds with other values there
        counts as one that does not hold: it gets new goals. A bus watchdog, where there is one, is cleared and armed:
        the servos then stop by themselves when no packet comes for 0.2 s.

        Raises:
          StaleState: a servo did not answer.
          LimitExceeded: a joint lies outside the range that its servo accepts; move it in by hand.
          Fault: a servo did not take what was written or stayed limp.
          NotConnected: the port is closed, the device is gone or a servo's torque limit is 0.
        """
        stopped = self._watchdog_tripped()
        self._arm_watchdog(0)
        commands = self._commands()
        check_torque_limit(self.profile, commands["torque_limit"])
        known = {"acceleration": self._acceleration, **self._family.at_enable}
        wanted = {name: dict.fromkeys(self._ids, value) for name, value in known.items()}
        if stopped or any(commands[name] != values for name, values in wanted.items()):
            wanted["goal_position"] = self._goals(self.read().position)
            self._write_motion(wanted)
            self._set_all("torque_enable", dict.fromkeys(self._ids, 1))
            commands = self._commands()
            for name, values in wanted.items():
                self._compare(name, values, commands[name])
        self._arm_watchdog(self._family.watchdog_counts)
        self._torque, self._spoke_s = True, time.monotonic()
        self._note_torque()

    def disable_torque(self) -> None:
        """Let the arm go limp: it falls. No goal is written from here on.

        Raises:
          StaleState: a servo did not answer.
          Fault: a servo did not let go.
          NotConnected: the port is closed or the device is gone.
        """
        self._torque, self._off = False, "off"
        self._arm_watchdog(0)
        self._set_and_check("torque_enable", 0)

    def set_acceleration(self, acceleration_rad_s2: float) -> None:
        """Set every servo's own ramp, in rad/s^2, rounded to its unit; 0 switches the ramp off.

        Raises:
          ValueError: not finite, negative or above what the register holds (38.9 on a Feetech STS).
          StaleState: a servo did not answer.
          Fault: a servo did not take it.
          NotConnected: the port is closed or the device is gone.
        """
        register = self._tables[0]["acceleration"]
        highest = min((1 << 8 * register.size) - 2, 32_767) * register.scale
        if not 0.0 <= acceleration_rad_s2 <= highest:
            raise refuse("acceleration_rad_s2", f"0 to {highest:.1f}", acceleration_rad_s2)
        count = round(acceleration_rad_s2 / register.scale)
        self._set_and_check("acceleration", count)
        self._acceleration = count

    # ---- counts and packets

    @property
    def _open(self) -> ServoBus:
        if self._bus is None:
            raise NotConnected(f"port: expected {self.port} to be open, got closed")
        return self._bus

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

    def _time_left(self) -> float:
        """Of the deadline that the reads of a cycle share, s, a quarter at least; all of it where none is under way."""
        left_s = self._until_s - time.monotonic()
        return max(left_s, self.deadline_s / 4) if left_s > 0.0 else self.deadline_s

    def _sync_read(self, register: Register) -> bytes:
        return self._open.link.wire.sync_read(register.address, register.size, self._ids)

    def _write_motion(self, values: Mapping[str, Mapping[int, int]]) -> None:
        """Write the registers of `Family.motion` at once: by name, by servo id."""
        registers = [self._tables[0][name] for name in self._family.motion]
        names = list(zip(self._family.motion, registers, strict=True))
        data = {i: b"".join(register.pack(values[name][i]) for name, register in names) for i in self._ids}
        self._open.link.send(self._open.link.wire.sync_write(registers[0].address, data))

    def _set_all(self, name: str, values: Mapping[int, int]) -> None:
        self._open.link.send(self._open.link.wire.sync_write_register(self._tables[0][name], values))

    def _set_and_check(self, name: str, value: int) -> None:
        values = dict.fromkeys(self._ids, value)
        self._set_all(name, values)
        self._compare(name, values, self._registers(name))

    def _compare(self, name: str, expected: Mapping[int, int], got: Mapping[int, int]) -> None:
        """See that servos took what was written; where not, say what they complain of: it may be why."""
        if got == expected:
            return
        status = self._registers("status")
        complaints = {i: fault_names(self._faults(bits)) for i, bits in status.items() if self._faults(bits)}
        why = f"; servos complain: {complaints}, switch the arm off and on" if complaints else ""
        raise Fault(f"{name} by servo id: expected {dict(expected)}, got {dict(got)}{why}")

    def _set_watchdog(self, counts: int) -> None:
        if self._family.watchdog_counts:
            self._set_all("bus_watchdog", dict.fromkeys(self._ids, counts))

    def _arm_watchdog(self, counts: int) -> None:
        if self._family.watchdog_counts:
            self._set_and_check("bus_watchdog", counts)

    def _watchdog_tripped(self) -> bool:
        """Whether a servo has been stopped by its own bus watchdog: its old goal must not be gone on with."""
        return self._family.watchdog_counts > 0 and min(self._registers("bus_watchdog").values()) < 0

    def _note_silence(self) -> None:
        """After a silence that may have tripped a bus watchdog, have torque looked at before the next goal."""
        now_s, watched_s = time.monotonic(), self._family.watchdog_counts * WATCHDOG_UNIT_S
        if watched_s and now_s - self._spoke_s > 0.9 * watched_s:
            self._must_check_torque = True
        self._spoke_s = now_s

    def _note_torque(self) -> None:
        self._must_check_torque, self._torque_seen_s = False, time.monotonic()

    def _commands(self) -> dict[str, dict[int, int]]:
        """Read what the servos are told to do: counts by name, by servo id."""
        command = self._family.command
        blocks = self._open.blocks("what the servos are told", command, self._ids)
        names = ("torque_enable", *self._family.motion, "torque_limit")
        tables = dict(zip(self._ids, self._tables, strict=True))
        return {name: {i: tables[i][name].within(blocks[i], command.address) for i in self._ids} for name in names}

    def _registers(self, name: str, deadline_s: float = REGISTER_DEADLINE_S) -> dict[int, int]:
        """Read one register of all servos, by id: it stands at one place in all models of a family."""
        register = self._tables[0][name]
        blocks = self._open.blocks(name, register, self._ids, deadline_s)
        return {servo_id: register.unpack(data) for servo_id, data in blocks.items()}

    def _look_at_alerts(self, answers: Mapping[int, Packet], deadline: float) -> None:
        """Ask servos that raise their alert what it is about, once."""
        raised = [i for i, packet in answers.items() if packet.code & self._family.alert]
        self._alerts = {i: bits for i, bits in self._alerts.items() if i in raised}
        unknown = [i for i in raised if i not in self._alerts or self._alerts[i] == ServoFault.UNKNOWN]
        if not unknown:
            return
        register = self._tables[0]["status"]
        try:
            found = self._open.blocks("status", register, unknown, deadline - time.monotonic())
        except StaleState:
            found = {}
        for servo_id in unknown:
            bits = self._faults(register.unpack(found[servo_id])) if servo_id in found else 0
            self._alerts[servo_id] = bits or ServoFault.UNKNOWN

    def _faults(self, status: int) -> int:
        """A status register's bits as ServoFault."""
        return sum(int(fault) for bit, fault in self._family.status_bits.items() if status & bit)

    def _decode(self, blocks: Mapping[int, bytes], stamp_s: float) -> ArmReading:
        """Turn the servos' present blocks into SI; NaN (status 0) where a servo is missing."""
        start, pairs = self._family.present.address, list(zip(self._ids, self._tables, strict=True))

        def column(name: str, *, raw: bool = False) -> Array:
            rows = [(table[name], blocks[i]) if i in blocks and name in table else None for i, table in pairs]
            return np.array([r[0].within(r[1], start) * (1.0 if raw else r[0].scale) if r else math.nan for r in rows])

        if self._family.alert:
            status = np.array([self._alerts.get(i, 0) for i in self._ids])
        else:
            status = np.array([self._faults(int(bits)) for bits in np.nan_to_num(column("status", raw=True))])
        return ArmReading(
            position=self._sign * (column("present_position", raw=True) - self._zero) * self._turn,
            velocity=self._sign * column("present_velocity"),
            load=self._sign * column(self._family.load),
            current_a=self._sign * column("present_current"),
            voltage_v=column("present_voltage"),
            temperature_c=column("present_temperature"),
            status=status.astype(np.uint8),
            stamp_s=stamp_s,
        )
