"""One STS3215 as its bus sees it: a register file with the firmware's quirks.

Modelled: EEPROM lock, read-only registers, goal clamped to the position limits, torque switched on by a goal write,
held-back writes (reg write, action), ids above 253 refused, baud rate, response level, P coefficient, torque limit,
homing offset and wrap of what it reports, the status register and what it does about it: over-temperature lets go,
overload falls back to the protective torque until the torque switch is written. Which of them act is for the unload
condition to say. Stored but without effect: acceleration, goal time and velocity, I and D coefficients, the current
protection. Operating modes other than position: none.
"""

import struct

from mbrl_core.robots.feetech_protocol import REGISTERS, TURN, Register
from mbrl_core.robots.servo_fault import ServoFault
from mbrl_sim.servo_bank import Measured, Strain

SIZE = 128
FACTORY: dict[str, int] = {
    "firmware_major": 3,
    "firmware_minor": 10,
    "response_level": 1,
    "max_position": 4095,
    "max_temperature": 70,
    "max_voltage": 140,
    "min_voltage": 40,
    "max_torque": 1000,
    "phase": 12,
    "unload_condition": 44,
    "p_coefficient": 32,
    "d_coefficient": 32,
    "protection_current": 500,
    "protective_torque": 20,
    "protection_time": 200,
    "overload_torque": 80,
    "torque_limit": 1000,
    "lock": 1,
}
BAUDS = (1_000_000, 500_000, 250_000, 128_000, 115_200, 76_800, 57_600, 38_400)  # by the register's value
TURN_COUNTS = 4096
PROTECTION_S = 0.01  # one count of the protection time
# Plain numbers, for they are asked for thousands of times a second
VOLTAGE, TEMPERATURE, OVERLOAD = int(ServoFault.VOLTAGE), int(ServoFault.TEMPERATURE), int(ServoFault.OVERLOAD)
BYTES = {name: register.address for name, register in REGISTERS.items() if register.size == 1}
ERROR_INSTRUCTION = 0x40  # answered to an address that does not exist, or an id that no servo may have
HIGHEST_ID = 253  # 254 is broadcast, 255 belongs to the header
HIGHEST_GOAL = (1 << 15) - 1


class Sts3215:
    """The registers of one servo, powered up limp with its goal where it stands.

    Args:
      servo_id: address on the bus.
      model_number: what it calls itself.
      position_count: encoder count at power-up.
      baud_rate: value of that register.
    """

    def __init__(self, servo_id: int, model_number: int, position_count: int, *, baud_rate: int = 0) -> None:
        """Power up with factory settings."""
        self.memory = bytearray(SIZE)
        for name, value in FACTORY.items():
            self._store(name, value)
        self._store("id", servo_id)
        self._store("model_number", model_number)
        self._store("baud_rate", baud_rate)
        self._kept = bytes(self.memory)
        self._pending: tuple[int, bytes] | None = None
        self.power_cycle(position_count)

    def power_cycle(self, position_count: int) -> None:
        """Lose what is not in the EEPROM; come back limp."""
        self.memory[:] = self._kept
        self.status = 0
        self._pending = None
        self._strained_s = 0.0
        self._store("goal_position", self._reported(position_count))

    @property
    def servo_id(self) -> int:
        """Its address."""
        return self["id"]

    @property
    def baud(self) -> int:
        """Bits per second that it listens at; at an unknown setting it keeps to the default."""
        return BAUDS[self["baud_rate"] if self["baud_rate"] < len(BAUDS) else 0]

    @property
    def torque_enabled(self) -> bool:
        """Whether it drives its joint."""
        return self["torque_enable"] == 1

    @property
    def goal(self) -> int:
        """Goal position, in counts of the joint, which do not wrap."""
        return self["goal_position"] + self._offset

    @property
    def stiffness(self) -> float:
        """Factor on the factory's position gain."""
        return self["p_coefficient"] / FACTORY["p_coefficient"]

    @property
    def torque_limit(self) -> float:
        """Share of the stall torque that it may use, in [0, 1]."""
        limit = min(1.0, self["torque_limit"] / 1000)
        return min(limit, self["protective_torque"] / 100) if self._protects(OVERLOAD) else limit

    def __getitem__(self, name: str) -> int:
        """One register's count."""
        if name in BYTES:
            return self.memory[BYTES[name]]
        register = REGISTERS[name]
        return register.unpack(self.memory[register.address : register.address + register.size])

    def read(self, address: int, size: int) -> bytes | None:
        """Return a stretch of the table, or None past its end."""
        return bytes(self.memory[address : address + size]) if size > 0 and address + size <= SIZE else None

    def write(self, address: int, data: bytes) -> int:
        """Write a stretch of the table as the firmware does; return the error bits of the answer."""
        if address + len(data) > SIZE:
            return ERROR_INSTRUCTION
        place_of_id = REGISTERS["id"].address - address
        if 0 <= place_of_id < len(data) and data[place_of_id] > HIGHEST_ID:
            return ERROR_INSTRUCTION
        unlocked = not self["lock"]
        for register in REGISTERS.values():
            start = register.address - address
            if not register.read_only and start >= 0 and start + register.size <= len(data):
                self._write_register(register, data[start : start + register.size], unlocked)
        return 0

    def hold_back(self, address: int, data: bytes) -> int:
        """Keep a write until `action` (reg write)."""
        self._pending = (address, data)
        return 0

    def action(self) -> None:
        """Carry out the write that was held back, if any."""
        if self._pending is not None:
            self.write(*self._pending)
        self._pending = None

    def measure(self, measured: Measured) -> None:
        """Fill in the present block."""
        struct.pack_into(
            "<HHHBBBBBHH",
            self.memory,
            REGISTERS["present_position"].address,
            self._reported(measured.position),
            _sign_magnitude(round(measured.velocity_rad_s / TURN), 15),
            _sign_magnitude(round(1000 * measured.drive), 10),
            min(255, round(10 * measured.voltage_v)),
            min(255, round(measured.temperature_c)),
            self._pending is not None,
            self.status,
            abs(measured.velocity_rad_s) > 2 * TURN,
            0,
            _sign_magnitude(round(measured.current_a / REGISTERS["present_current"].scale), 15),
        )

    def look_after(self, strain: Strain, duration_s: float) -> bool:
        """Let its protections act; return whether that changes how it drives."""
        before = self.torque_enabled, self.torque_limit
        high = strain.overloaded or (self.torque_enabled and strain.drive >= self["overload_torque"] / 100)
        self._strained_s = self._strained_s + duration_s if high else 0.0
        status = self.status & ~(VOLTAGE | TEMPERATURE)
        if strain.overloaded or self._strained_s >= self["protection_time"] * PROTECTION_S:
            status |= OVERLOAD
        if not self["min_voltage"] <= round(10 * strain.voltage_v) <= self["max_voltage"]:
            status |= VOLTAGE
        if strain.temperature_c > self["max_temperature"]:
            status |= TEMPERATURE
        self.status = status
        if self._protects(TEMPERATURE):
            self._store("torque_enable", 0)
        return before != (self.torque_enabled, self.torque_limit)

    def _reported(self, position: int) -> int:
        """Return the count that it reports for one of the joint; from there on goals are meant in the same turn."""
        reported = (position - self["homing_offset"]) % TURN_COUNTS
        self._offset = position - reported
        return reported

    def _protects(self, fault: int) -> bool:
        """Whether it suffers from a fault that it does something about."""
        return bool(self.status & fault & self["unload_condition"])

    def _write_register(self, register: Register, data: bytes, unlocked: bool) -> None:
        place = slice(register.address, register.address + register.size)
        if register.address == REGISTERS["goal_position"].address:
            goal = min(max(register.unpack(data), self["min_position"]), self["max_position"])
            data = register.pack(min(goal, HIGHEST_GOAL))
            self.memory[REGISTERS["torque_enable"].address] = 1  # the firmware's quirk
        self.memory[place] = data
        if register.address == REGISTERS["torque_enable"].address:
            self.status &= ~OVERLOAD
            self._strained_s = 0.0
        if register.eeprom and unlocked:
            kept = bytearray(self._kept)
            kept[place] = data
            self._kept = bytes(kept)

    def _store(self, name: str, value: int) -> None:
        register = REGISTERS[name]
        self.memory[register.address : register.address + register.size] = register.pack(value)


def _sign_magnitude(value: int, bit: int) -> int:
    magnitude = min(abs(value), (1 << bit) - 1)
    return magnitude | (value < 0) << bit
