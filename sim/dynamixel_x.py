"""One Dynamixel X servo as its bus sees it: the register file of its model, and the rules by which it may be written.

Modelled: access (read-only registers, EEPROM closed while torque is on, nothing between registers), sizes, ranges and
limits with their error codes, all of a write or nothing of it; status return level, return delay, baud rate, held-back
writes, reboot, clear, factory reset, homing offset, position P gain and goal PWM; hardware error status with its alert
bit, shutdown until a reboot; bus watchdog. Errors stay in the hardware error status until a reboot.

Stored but without effect: profile velocity and acceleration, the other gains, drive mode, shadow id, indirect
addresses, realtime tick, goal current and velocity. Operating modes other than position: none. A reboot takes no time.
What no source at hand says and is assumed here: torque that is switched on after a shutdown is answered with "result
fail"; an overload is full drive for a second.
"""

from collections.abc import Iterator, Mapping

from mbrl_core.robots.dynamixel_table import Place
from mbrl_sim.servo_bank import Measured, Strain

RESULT_FAIL, INSTRUCTION, DATA_RANGE, DATA_LENGTH, DATA_LIMIT, ACCESS = 1, 2, 4, 5, 6, 7  # of the answer
ALERT = 0x80  # of the answer: look at the hardware error status
INPUT_VOLTAGE, OVERHEAT, OVERLOAD = 1 << 0, 1 << 2, 1 << 5  # of the hardware error status
BAUDS = (9_600, 57_600, 115_200, 1_000_000, 2_000_000, 3_000_000, 4_000_000, 4_500_000)  # by the register's value
EEPROM_END = 64
TURN_COUNTS = 4096
VELOCITY_RAD_S = 0.0239691227  # one count: 0.229 rpm
WATCHDOG_S = 0.02  # one count of the bus watchdog
WATCHDOG_TRIPPED = 0xFF
FULL_PWM = 885
OVERLOAD_DRIVE, OVERLOAD_S = 0.95, 1.0
CLEAR_TURNS = b"\x01DXL\x22"
READ_ONLY = frozenset({
    "Model Number", "Model Information", "Firmware Version", "Registered Instruction", "Hardware Error Status",
    "Realtime Tick", "Moving", "Moving Status", "Present PWM", "Present Current", "Present Load", "Present Velocity",
    "Present Position", "Velocity Trajectory", "Position Trajectory", "Present Input Voltage", "Present Temperature",
})  # fmt: skip
GOALS = frozenset({"Goal PWM", "Goal Current", "Goal Velocity", "Goal Position"})
RANGES = {
    "ID": (0, 252),
    "Baud Rate": (0, 7),
    "Return Delay Time": (0, 254),
    "Operating Mode": (0, 16),
    "Homing Offset": (-1_044_479, 1_044_479),
    "Temperature Limit": (0, 100),
    "Max Voltage Limit": (31, 160),
    "Min Voltage Limit": (31, 160),
    "PWM Limit": (0, FULL_PWM),
    "Max Position Limit": (0, TURN_COUNTS - 1),
    "Min Position Limit": (0, TURN_COUNTS - 1),
    "Torque Enable": (0, 1),
    "LED": (0, 1),
    "Status Return Level": (0, 2),
    "Velocity I Gain": (0, 16383),
    "Velocity P Gain": (0, 16383),
    "Position D Gain": (0, 16383),
    "Position I Gain": (0, 16383),
    "Position P Gain": (0, 16383),
    "Feedforward 1st Gain": (0, 16383),
    "Feedforward 2nd Gain": (0, 16383),
    "Bus Watchdog": (0, 127),
    "Profile Acceleration": (0, 32767),
    "Profile Velocity": (0, 32767),
}
SIGNED = frozenset({
    "Homing Offset", "Goal PWM", "Goal Current", "Goal Velocity", "Goal Position", "Present PWM", "Present Current",
    "Present Load", "Present Velocity", "Present Position",
})  # fmt: skip
FACTORY = {
    "Firmware Version": 46,
    "ID": 1,
    "Baud Rate": 1,
    "Return Delay Time": 250,
    "Operating Mode": 3,
    "Secondary(Shadow) ID": 255,
    "Protocol Type": 2,
    "Moving Threshold": 10,
    "Temperature Limit": 72,
    "Max Voltage Limit": 140,
    "Min Voltage Limit": 60,
    "PWM Limit": FULL_PWM,
    "Current Limit": 1193,
    "Velocity Limit": 265,
    "Max Position Limit": TURN_COUNTS - 1,
    "Shutdown": OVERLOAD | 1 << 4 | OVERHEAT,
    "Status Return Level": 2,
    "Position P Gain": 800,
    "Goal PWM": FULL_PWM,
    "Goal Current": 1193,
}
XL330 = {"Firmware Version": 52, "Temperature Limit": 70, "Max Voltage Limit": 70, "Min Voltage Limit": 35,
         "Current Limit": 1750, "Goal Current": 1750, "Velocity Limit": 445, "Position P Gain": 400,
         "Shutdown": OVERLOAD | 1 << 4 | OVERHEAT | INPUT_VOLTAGE}  # fmt: skip
FACTORY_OF = {1190: FACTORY | XL330, 1200: FACTORY | XL330, 1020: FACTORY | {"Temperature Limit": 80}}
CURRENT_A = {1190: 1e-3, 1200: 1e-3}  # one count; the larger ones' is
USUAL_CURRENT_A = 2.69e-3


def factory_of(model_number: int) -> dict[str, int]:
    """Return what a model comes out of the factory with: counts by the vendor's names, 0 where there is none."""
    return FACTORY_OF.get(model_number, FACTORY) | {"Model Number": model_number}


class DynamixelX:
    """The registers of one servo, powered up limp with its goal where it stands.

    Args:
      servo_id: address on the bus.
      model_number: what it calls itself; chooses its factory settings.
      table: its registers by the vendor's names.
      position: encoder count at power-up, of the joint: it may lie outside one turn.
      baud_rate: value of that register.

    Attributes:
      table: as given.
      memory: what the registers hold, by address.
    """

    def __init__(
        self, servo_id: int, model_number: int, table: Mapping[str, Place], position: int, *, baud_rate: int
    ) -> None:
        """Power up with factory settings, but for id and baud rate."""
        self.table = table
        self._factory = factory_of(model_number)
        self._current_a = CURRENT_A.get(model_number, USUAL_CURRENT_A)
        self.size = max(place.address + place.size for place in table.values())
        self.memory = bytearray(self.size)
        for name, value in self._factory.items():
            self._store(name, value)
        self._store("ID", servo_id)
        self._store("Baud Rate", baud_rate)
        self.power_cycle(position)

    def power_cycle(self, position: int) -> None:
        """Lose what is not in the EEPROM; come back limp, with the goal where it stands."""
        self.memory[EEPROM_END:] = bytes(self.size - EEPROM_END)
        for name, value in self._factory.items():
            if name in self.table and self.table[name].address >= EEPROM_END:
                self._store(name, value)
        self._store("Goal PWM", self["PWM Limit"])
        self._pending: tuple[int, bytes] | None = None
        self._shut_down = False
        self._quiet_s = self._strained_s = 0.0
        self._turn(position)
        self._store("Goal Position", position + self._offset)

    def reset(self, option: int, position: int) -> int:
        """Take the factory settings back, and reboot; return the error of the answer.

        Args:
          option: 0xFF everything, 1 all but the id, 2 all but id and baud rate.
          position: as in `power_cycle`.
        """
        kept = {0xFF: (), 0x01: ("ID",), 0x02: ("ID", "Baud Rate")}.get(option)
        if kept is None:
            return DATA_RANGE
        values = {name: self[name] for name in kept}
        self.memory[:EEPROM_END] = bytes(EEPROM_END)
        for name, value in (self._factory | values).items():
            self._store(name, value)
        self.power_cycle(position)
        return 0

    def clear(self, params: bytes, position: int) -> int:
        """Forget whole turns; return the error of the answer."""
        if params != CLEAR_TURNS:
            return DATA_RANGE
        if self.torque_enabled:
            return RESULT_FAIL
        self._turn(position)
        return 0

    def __getitem__(self, name: str) -> int:
        """One register's count; a model without the register has 0 in it."""
        if name not in self.table:
            return 0
        place = self.table[name]
        raw = self.memory[place.address : place.address + place.size]
        return int.from_bytes(raw, "little", signed=name in SIGNED)

    @property
    def servo_id(self) -> int:
        """Its address."""
        return self["ID"]

    @property
    def baud(self) -> int:
        """Bits per second that it listens at."""
        return BAUDS[self["Baud Rate"]]

    @property
    def torque_enabled(self) -> bool:
        """Whether it drives its joint."""
        return self["Torque Enable"] == 1

    @property
    def goal(self) -> int:
        """Goal position, in counts of the joint."""
        return self["Goal Position"] - self._offset

    @property
    def stiffness(self) -> float:
        """Factor on the factory's position gain."""
        return self["Position P Gain"] / self._factory["Position P Gain"]

    @property
    def torque_limit(self) -> float:
        """Share of the stall torque that it may use, in [0, 1]."""
        return min(1.0, abs(self["Goal PWM"]) / FULL_PWM)

    @property
    def alert(self) -> int:
        """The alert bit of every answer, or 0."""
        return ALERT if self["Hardware Error Status"] else 0

    def heard(self) -> None:
        """Note that the bus is alive: the watchdog starts again."""
        self._quiet_s = 0.0

    def read(self, address: int, size: int) -> tuple[int, bytes]:
        """Return error and bytes of a stretch of the table."""
        if size < 1 or address + size > self.size:
            return ACCESS, b""
        return 0, bytes(self.memory[address : address + size])

    def write(self, address: int, data: bytes) -> int:
        """Write a stretch of the table, the whole or nothing; return the error of the answer."""
        error = self.objection(address, data)
        if not error:
            for name, value in self._values(address, data):
                self._write(name, value)
        return error

    def objection(self, address: int, data: bytes) -> int:
        """Return the error that a write would be answered with."""
        end, named = address + len(data), list(self._values(address, data))
        touched = [p for p in self.table.values() if p.address < end and p.address + p.size > address]
        if not touched or end > self.size:
            return ACCESS
        if not named or any(p.address < address or p.address + p.size > end for p in touched):
            return DATA_LENGTH
        return next((error for name, value in named if (error := self._objection(name, value))), 0)

    def hold_back(self, address: int, data: bytes) -> int:
        """Keep a write until `action` (reg write)."""
        error = self.objection(address, data)
        if not error:
            self._pending = address, data
            self._store("Registered Instruction", 1)
        return error

    def action(self) -> int:
        """Carry out the write that was held back; there must be one."""
        if self._pending is None:
            return INSTRUCTION
        pending, self._pending = self._pending, None
        self._store("Registered Instruction", 0)
        return self.write(*pending)

    def measure(self, measured: Measured) -> None:
        """Fill in the present block."""
        self._store("Moving", abs(measured.velocity_rad_s) > self["Moving Threshold"] * VELOCITY_RAD_S)
        self._store("Present PWM", round(FULL_PWM * measured.drive))
        self._store("Present Current", round(measured.current_a / self._current_a))
        self._store("Present Load", round(1000 * measured.drive))
        self._store("Present Velocity", round(measured.velocity_rad_s / VELOCITY_RAD_S))
        self._store("Present Position", measured.position + self._offset)
        self._store("Present Input Voltage", round(10 * measured.voltage_v))
        self._store("Present Temperature", round(measured.temperature_c))

    def look_after(self, strain: Strain, duration_s: float) -> bool:
        """Let watchdog and protections act; return whether that changes how it drives."""
        before = self.torque_enabled, self["Goal Position"]
        high = strain.overloaded or (self.torque_enabled and strain.drive >= OVERLOAD_DRIVE)
        self._strained_s = self._strained_s + duration_s if high else 0.0
        errors = self["Hardware Error Status"]
        if strain.overloaded or self._strained_s >= OVERLOAD_S:
            errors |= OVERLOAD
        if not self["Min Voltage Limit"] <= round(10 * strain.voltage_v) <= self["Max Voltage Limit"]:
            errors |= INPUT_VOLTAGE
        if strain.temperature_c > self["Temperature Limit"]:
            errors |= OVERHEAT
        self._store("Hardware Error Status", errors)
        if errors & self["Shutdown"]:
            self._shut_down = True
            self._store("Torque Enable", 0)
        self._watch(strain.position, duration_s)
        return before != (self.torque_enabled, self["Goal Position"])

    def _watch(self, position: int, duration_s: float) -> None:
        """Stop where it is when the bus has been quiet for too long."""
        self._quiet_s += duration_s
        limit = self["Bus Watchdog"]
        if self.torque_enabled and 0 < limit < WATCHDOG_TRIPPED and self._quiet_s > limit * WATCHDOG_S:
            self._store("Bus Watchdog", WATCHDOG_TRIPPED)
            self._store("Goal Position", position + self._offset)

    def _objection(self, name: str, value: int) -> int:
        tripped = self["Bus Watchdog"] == WATCHDOG_TRIPPED
        if name in READ_ONLY or (self.torque_enabled and self.table[name].address < EEPROM_END):
            return ACCESS
        if tripped and (name in GOALS or (name == "Bus Watchdog" and value != 0)):
            return DATA_RANGE
        low, high = RANGES.get(name, (value, value))
        if not low <= value <= high:
            return DATA_RANGE
        low, high = self._limits(name) or (value, value)
        if not low <= value <= high:
            return DATA_LIMIT
        return RESULT_FAIL if name == "Torque Enable" and value and self._shut_down else 0

    def _limits(self, name: str) -> tuple[int, int] | None:
        """Return what the servo's own settings allow a goal to be."""
        if name == "Goal Position":
            return self["Min Position Limit"], self["Max Position Limit"]
        limit = {"Goal PWM": "PWM Limit", "Goal Current": "Current Limit", "Goal Velocity": "Velocity Limit"}.get(name)
        return (-self[limit], self[limit]) if limit else None

    def _values(self, address: int, data: bytes) -> Iterator[tuple[str, int]]:
        """The registers that lie wholly inside a stretch, with their counts."""
        for name, place in self.table.items():
            start = place.address - address
            if start >= 0 and start + place.size <= len(data):
                raw = data[start : start + place.size]
                yield name, int.from_bytes(raw, "little", signed=name in SIGNED)

    def _write(self, name: str, value: int) -> None:
        shift = self["Homing Offset"]
        self._store(name, value)
        if name == "Homing Offset":
            self._offset += value - shift

    def _turn(self, position: int) -> None:
        """Count from the turn that the joint is in: what is reported lies in [0, 4095] before the homing offset."""
        self._offset = self["Homing Offset"] - position // TURN_COUNTS * TURN_COUNTS

    def _store(self, name: str, value: int) -> None:
        if name in self.table:
            place = self.table[name]
            span = 1 << 8 * place.size
            self.memory[place.address : place.address + place.size] = (value % span).to_bytes(place.size, "little")
