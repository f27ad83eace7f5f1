"""Servos of one family on one serial line, register by register: what the arm driver and the commands stand on."""

import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType

from mbrl_core.arm import ArmProfile
from mbrl_core.config import refuse
from mbrl_core.robots.errors import Fault, StaleState
from mbrl_core.robots.families import family_of
from mbrl_core.robots.register import Register
from mbrl_core.robots.serial_link import BusErrors, SerialLink

PING_DEADLINE_S = 0.05  # one ping; nothing moves then, so patience is cheap
REGISTER_DEADLINE_S = 0.2  # one look at a register outside the control loop
SETTLE_S = 0.05  # after a change of baud rate
ATTEMPTS = 3
ERRORS = 0x7F  # of a status packet's error byte; the bit above is Dynamixel's alert


class ServoBus:
    """An open line. Counts are raw and signed; `table` has their scale.

    Args:
      port: serial device.
      baud: bit/s.
      protocol: "feetech_sts" or "dynamixel_x".

    Raises:
      ValueError: no servo family has that name.
      NotConnected: the port is not there, is no serial device or is in use.
    """

    def __init__(self, port: str, baud: int, protocol: str) -> None:
        """Open the port."""
        self.family = family_of(protocol)
        self.link = SerialLink(port, baud, self.family.wires[-1])
        self.port, self.baud = port, baud

    def __enter__(self) -> "ServoBus":
        """Return the bus itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        """Close the port."""
        self.close()

    def close(self) -> None:
        """Give the port back; the servos keep their last state."""
        self.link.close()

    @property
    def errors(self) -> BusErrors:
        """Wire errors since the port was opened."""
        return self.link.errors

    def ping(self, servo_id: int, *, attempts: int = ATTEMPTS, timeout_s: float = PING_DEADLINE_S) -> bool:
        """Whether a servo answers."""
        request, size = self.link.wire.ping(servo_id), self.link.wire.ping_size
        return any(
            self.link.ask(request, [servo_id], size, time.monotonic() + timeout_s, fenced=False)
            for _ in range(attempts)
        )

    def scan(
        self, servo_ids: Iterable[int] = range(1, 31), *, attempts: int = 2, timeout_s: float = 0.01
    ) -> dict[int, int]:
        """Return the model numbers of the servos that answer, by id."""
        here = [servo_id for servo_id in servo_ids if self.ping(servo_id, attempts=attempts, timeout_s=timeout_s)]
        return {servo_id: self.model(servo_id) for servo_id in here}

    def everybody(self) -> tuple[list[int], bool]:
        """Ask all ids at once: those that answered, and whether anything else came, as where two answers collide.

        Raises:
          NotConnected: the device is gone.
        """
        wire = self.link.wire
        heard = self.link.listen(wire.ping_all, 1 << 30, longest_s=wire.ping_all_s, quiet_s=0.0)
        decoded = wire.decode(heard.data, wire.ping_all_size, 1)
        ids = sorted(packet.servo_id for packet in decoded.packets)
        return ids, bool(decoded.damaged or decoded.noise or decoded.rest or len(set(ids)) < len(ids))

    def model(self, servo_id: int) -> int:
        """Return a servo's model number. Raises StaleState when it is silent."""
        register = self.family.model_number
        return register.unpack(self.blocks("model_number", register, [servo_id])[servo_id])

    def table(self, servo_id: int) -> Mapping[str, Register]:
        """Return a servo's control table.

        Raises:
          StaleState: it is silent.
          ValueError: its model is unknown.
        """
        return self.family.registers(self.model(servo_id))

    def read(self, servo_id: int, name: str) -> int:
        """Return one register's count. Raises StaleState when the servo is silent, KeyError when it has no such one."""
        register = self.table(servo_id)[name]
        return register.unpack(self.blocks(name, register, [servo_id])[servo_id])

    def write(self, servo_id: int, name: str, count: int) -> None:
        """Write one register and read it back; the baud rate, after which a servo is elsewhere, has `move_to_baud`.

        Raises:
          ValueError: the register cannot hold the count or is the baud rate; nothing was sent.
          Fault: it is kept for good and torque is on (nothing was sent), or the servo did not take it.
          StaleState: the servo is silent.
        """
        if name == "baud_rate":
            raise refuse("register", "another than baud_rate, which has move_to_baud", name)
        register = self.table(servo_id)[name]
        data = register.pack(count)
        if register.read_only:
            raise Fault(f"servo {servo_id} {name}: expected a register that can be written, got a read-only one")
        if register.eeprom and self.read(servo_id, "torque_enable"):
            raise Fault(f"servo {servo_id} {name}: expected torque off (it is kept in the EEPROM), got on")
        locked = register.eeprom and self.family.eeprom_lock
        if locked:
            self._write(servo_id, "lock", 0)
        now_id = servo_id
        try:
            self._send(servo_id, name, register.address, data)
            now_id = count if name == "id" else servo_id
        finally:
            if locked:
                self._write(now_id, "lock", 1)
        got = self.read(now_id, name)
        if got != count:
            raise Fault(f"servo {servo_id} {name}: expected {count} after the write, got {got}")

    def move_to_baud(self, servo_id: int, baud: int) -> None:
        """Give the only servo of the line another baud rate, follow it there, and read it back.

        Raises:
          ValueError: the family has no such rate.
          Fault: torque is on (nothing was sent), or the servo did not take it.
          StaleState: the servo is silent, before or after.
          NotConnected: the port cannot be opened again.
        """
        counts = {rate: count for count, rate in self.family.bauds.items()}
        if baud not in counts:
            raise refuse("baud", f"one of {sorted(counts)}", baud)
        if self.read(servo_id, "torque_enable"):
            raise Fault(f"servo {servo_id} baud_rate: expected torque off (it is kept in the EEPROM), got on")
        register = self.table(servo_id)["baud_rate"]
        if self.family.eeprom_lock:
            self._write(servo_id, "lock", 0)
        self._send(servo_id, "baud_rate", register.address, register.pack(counts[baud]))
        self.link.close()
        self.link, self.baud = SerialLink(self.port, baud, self.family.wires[-1]), baud
        time.sleep(SETTLE_S)
        if self.family.eeprom_lock:
            self._write(servo_id, "lock", 1)
        got = self.read(servo_id, "baud_rate")
        if got != counts[baud]:
            raise Fault(f"servo {servo_id} baud_rate: expected {counts[baud]} after the write, got {got}")

    def blocks(
        self, name: str, register: Register, servo_ids: Sequence[int], deadline_s: float = REGISTER_DEADLINE_S
    ) -> dict[int, bytes]:
        """Read one register, or block, of servos with one request, by id; the name is for the error's text.

        Raises:
          StaleState: a servo did not answer whole in time.
        """
        deadline, wire = time.monotonic() + deadline_s, self.link.wire
        if len(servo_ids) == 1:
            request = wire.read(servo_ids[0], register.address, register.size)
        else:
            request = wire.sync_read(register.address, register.size, servo_ids)
        answers = self.link.ask(request, servo_ids, register.size, deadline)
        missing = tuple(servo_id for servo_id in servo_ids if servo_id not in answers)
        if missing:
            message = f"{name}: expected answers of servos {list(servo_ids)} in {deadline_s} s, got none of {missing}"
            raise StaleState(message, missing)
        return {servo_id: answers[servo_id].params for servo_id in servo_ids}

    def _write(self, servo_id: int, name: str, count: int) -> None:
        register = self.table(servo_id)[name]
        self._send(servo_id, name, register.address, register.pack(count))

    def _send(self, servo_id: int, name: str, address: int, data: bytes) -> None:
        """Write, and look at the answer where one comes: servos may be set to answer reads only."""
        request = self.link.wire.write(servo_id, address, data)
        answers = self.link.ask(request, [servo_id], 0, time.monotonic() + PING_DEADLINE_S, fenced=False)
        for packet in answers.values():
            if self.family.alert and packet.code & ERRORS:  # a Feetech's byte is its state, which is no refusal
                raise Fault(f"servo {servo_id} {name}: expected it to be taken, got error {packet.code:#04x}")


def other_baud(port: str, profile: ArmProfile) -> int:
    """Return a rate other than the profile's at which one of its servos answers; 0 = none. The port must be closed.

    Raises:
      NotConnected: the port cannot be opened.
    """
    for baud in family_of(profile.bus.protocol).bauds.values():
        if baud != profile.bus.baud:
            with ServoBus(port, baud, profile.bus.protocol) as bus:
                if any(bus.ping(joint.servo_id, attempts=1) for joint in profile.joints):
                    return baud
    return 0
