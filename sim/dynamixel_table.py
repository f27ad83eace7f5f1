"""Control tables of Dynamixel servos, as ROBOTIS ships them with dynamixel-sdk."""

import importlib.util
from pathlib import Path
from typing import NamedTuple

from mbrl_core.config import refuse


class Place(NamedTuple):
    """Where a register lies in a servo's memory."""

    address: int
    size: int


def load_table(model_number: int) -> dict[str, Place]:
    """Return a model's registers by the vendor's names.

    Raises:
      ValueError: dynamixel-sdk is not installed, or knows no such model.
    """
    found = importlib.util.find_spec("dynamixel_easy_sdk")
    if found is None or found.origin is None:
        raise refuse("bus.protocol", "dynamixel-sdk to be installed, for dynamixel_x", "none")
    folder = Path(found.origin).parent / "control_table"
    models = dict(_rows(folder / "dynamixel.model", ""))
    if str(model_number) not in models:
        raise refuse("model_number", f"one of {list(models)[1:]}", model_number)
    rows = _rows(folder / models[str(model_number)], "[control table]")[1:]
    return {name: Place(int(address), int(size)) for address, size, name in rows}


def _rows(path: Path, section: str) -> list[list[str]]:
    text = path.read_text().partition(section)[2] if section else path.read_text()
    return [line.strip().split("\t") for line in text.splitlines() if line.strip()]
