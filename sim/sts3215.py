"""One STS3215 as its bus sees it: a register file with the firmware's quirks.

Modelled: EEPROM lock, read-only registers, goal clamped to the position limits, torque switched on by a goal write,
held-back writes (reg write, action), ids above 253 refused, P coefficient, torque limit, warming. Stored but without
effect: acceleration, goal time and velocity, homing offset, I and D coefficients, protections. Operating modes other
than position: none.
"""

import struct

from mbrl_core.robots.feetech_protocol import REGISTERS, Register

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
AMBIENT_C = 25.0
HEATING_C_PER_N2M2 = 10.2  # 48 degrees in the end under 1.5 N m, as measured on a real one
WARMING_S = 600.0
ERROR_INSTRUCTION = 0x40  # answered to an address that does not exist, or an id that no servo may have
HIGHEST_ID = 253  # 254 is broadcast, 255 belongs to the header
HIGHEST_GOAL = (1 << 15) - 1


class Sts3215:
    """The registers of one servo, powered up limp with its goal where it stands.

    Args:
      servo_id: address on the bus.
      model_number: what it calls itself.
      position_count: encoder count at power-up.
    """

    def __init__(self, servo_id: int, model_number: int, position_count: int) -> None:
        """Power up with factory settings."""
        self.memory = bytearray(SIZE)
        for name, value in FACTORY.items():
            self._store(name, value)
        self._store("id", servo_id)
        self._store("model_number", model_number)
        self._kept = bytes(self.memory)
        self.temperature_c = AMBIENT_C
        self._pending: tuple[int, bytes] | None = None
        self.power_cycle(position_count)

    def power_cycle(self, position_count: int) -> None:
        """Lose what is not in the EEPROM; come back limp."""
        self.memory[:] = self._kept
        self._pending = None
        self._store("goal_position", position_count)

    def __getitem__(self, name: str) -> int:
        """One register's count."""
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

    def measure(self, position: int, velocity: int, load: int, current: int, voltage: int) -> None:
        """Fill in the present block.

        Args:
          position: encoder count.
          velocity: counts/s.
          load: drive in 1/1000.
          current: in units of 6.5 mA.
          voltage: in units of 0.1 V.
        """
        struct.pack_into(
            "<HHHBBBBBHH",
            self.memory,
            REGISTERS["present_position"].address,
            _sign_magnitude(position, 15),
            _sign_magnitude(velocity, 15),
            _sign_magnitude(load, 10),
            voltage,
            round(self.temperature_c),
            self._pending is not None,
            0,
            abs(velocity) > 2,
            0,
            _sign_magnitude(current, 15),
        )

    def warm(self, torque_n_m: float, duration_s: float) -> None:
        """Let the case drift towards what the torque heats it to."""
        settled = AMBIENT_C + HEATING_C_PER_N2M2 * torque_n_m**2
        self.temperature_c += (settled - self.temperature_c) * min(1.0, duration_s / WARMING_S)

    def _write_register(self, register: Register, data: bytes, unlocked: bool) -> None:
        place = slice(register.address, register.address + register.size)
        if register.address == REGISTERS["goal_position"].address:
            goal = min(max(register.unpack(data), self["min_position"]), self["max_position"])
            data = register.pack(min(goal, HIGHEST_GOAL))
            self.memory[REGISTERS["torque_enable"].address] = 1  # the firmware's quirk
        self.memory[place] = data
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
