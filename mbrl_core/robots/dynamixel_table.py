"""Control tables of Dynamixel X servos, read from the files that ROBOTIS ships in the package dynamixel-sdk.

Our names are on the left, the vendor's on the right; addresses and sizes are the vendor's files' alone. Units are of
the e-Manual: the files leave currents raw.
"""

import importlib.util
import math
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from mbrl_core.config import refuse
from mbrl_core.robots.register import Register

TURN = 2 * math.pi / 4096  # rad per encoder count
RPM = 0.229 * 2 * math.pi / 60  # rad/s per count of a velocity
EEPROM_ENDS = 64  # registers below are kept, and locked while torque is on
MILLI_AMPERE_MODELS = range(1180, 1250)  # the small ones count in mA, the others in 2.69 mA

# ours: vendor's name, signed, unit, scale
NAMES: dict[str, tuple[str, bool, str, float]] = {
    "model_number": ("Model Number", False, "", 1.0),
    "firmware_major": ("Firmware Version", False, "", 1.0),
    "id": ("ID", False, "", 1.0),
    "baud_rate": ("Baud Rate", False, "", 1.0),
    "return_delay": ("Return Delay Time", False, "s", 2e-6),
    "drive_mode": ("Drive Mode", False, "", 1.0),
    "operating_mode": ("Operating Mode", False, "", 1.0),
    "homing_offset": ("Homing Offset", True, "rad", TURN),
    "max_temperature": ("Temperature Limit", False, "degC", 1.0),
    "max_voltage": ("Max Voltage Limit", False, "V", 0.1),
    "min_voltage": ("Min Voltage Limit", False, "V", 0.1),
    "max_position": ("Max Position Limit", False, "rad", TURN),
    "min_position": ("Min Position Limit", False, "rad", TURN),
    "shutdown": ("Shutdown", False, "", 1.0),
    "torque_enable": ("Torque Enable", False, "", 1.0),
    "led": ("LED", False, "", 1.0),
    "response_level": ("Status Return Level", False, "", 1.0),
    "registered": ("Registered Instruction", False, "", 1.0),
    "status": ("Hardware Error Status", False, "", 1.0),
    "d_coefficient": ("Position D Gain", False, "", 1.0),
    "i_coefficient": ("Position I Gain", False, "", 1.0),
    "p_coefficient": ("Position P Gain", False, "", 1.0),
    "bus_watchdog": ("Bus Watchdog", True, "s", 0.02),
    "torque_limit": ("Goal PWM", True, "", 1 / 885),
    "acceleration": ("Profile Acceleration", False, "rad/s^2", 214.577 * 2 * math.pi / 3600),
    "profile_velocity": ("Profile Velocity", False, "rad/s", RPM),
    "goal_position": ("Goal Position", True, "rad", TURN),
    "moving": ("Moving", False, "", 1.0),
    "present_pwm": ("Present PWM", True, "", 1 / 885),
    "present_load": ("Present Load", True, "", 1e-3),
    "present_current": ("Present Current", True, "A", 2.69e-3),
    "present_velocity": ("Present Velocity", True, "rad/s", RPM),
    "present_position": ("Present Position", True, "rad", TURN),
    "present_voltage": ("Present Input Voltage", False, "V", 0.1),
    "present_temperature": ("Present Temperature", False, "degC", 1.0),
}
READ_ONLY = {"model_number", "firmware_major", "registered", "status", "moving"}


@lru_cache(maxsize=16)
def registers(model_number: int) -> dict[str, Register]:
    """Return the control table of a model by our names; what the model lacks (a current, say) is absent.

    Raises:
      ValueError: the package is not installed or knows no such model.
    """
    places = vendor_table(model_number)
    table = {}
    for name, (vendors, signed, unit, scale) in NAMES.items():
        if vendors in places:
            address, size = places[vendors]
            if name == "present_current" and model_number in MILLI_AMPERE_MODELS:
                scale = 1e-3
            table[name] = Register(
                address=address,
                size=size,
                signed=signed,
                unit=unit,
                scale=scale,
                eeprom=address < EEPROM_ENDS,
                read_only=name in READ_ONLY or name.startswith("present_"),
            )
    return table


class Place(NamedTuple):
    """Where a register stands."""

    address: int
    size: int  # bytes


def vendor_table(model_number: int) -> dict[str, Place]:
    """Return the whole control table of a model by the vendor's names.

    Raises:
      ValueError: the package is not installed or knows no such model.
    """
    folder = _folder()
    _, _, table = (folder / _file(folder, model_number)).read_text().partition("[control table]")
    rows = [line.split("\t") for line in table.strip().splitlines()[1:] if line.strip()]
    return {name.strip(): Place(int(address), int(size)) for address, size, name, *_ in rows}


def _folder() -> Path:
    found = importlib.util.find_spec("dynamixel_easy_sdk")
    if found is None or not found.submodule_search_locations:
        raise refuse("dynamixel-sdk", "the Python package, for its control tables: pip install dynamixel-sdk", None)
    return Path(found.submodule_search_locations[0]) / "control_table"


def _file(folder: Path, model_number: int) -> str:
    rows = [line.split("\t") for line in (folder / "dynamixel.model").read_text().splitlines()[1:] if "\t" in line]
    known = {int(number): name.strip() for number, name, *_ in rows}
    if model_number not in known:
        raise refuse("model_number", f"a Dynamixel of {folder / 'dynamixel.model'}", model_number)
    return known[model_number]
