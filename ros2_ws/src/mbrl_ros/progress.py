"""progress.csv: one row per round of the learner, flushed as it is written."""

import csv
import dataclasses
import time
from pathlib import Path

from mbrl_core.algorithms.report import RoundReport

COLUMNS = ("wall_s", *(field.name for field in dataclasses.fields(RoundReport)))


class ProgressFile:
    """Appends to the file, writing the heading where it is new."""

    def __init__(self, path: Path) -> None:
        """Open for appending; makes the folder."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._began_s = time.monotonic()
        if not path.exists():
            self._write(COLUMNS)

    def add(self, report: RoundReport) -> None:
        """Append one row; a tuple becomes its numbers joined by spaces."""
        values = dataclasses.asdict(report)
        row = [" ".join(map(str, value)) if isinstance(value, tuple) else value for value in values.values()]
        self._write((round(time.monotonic() - self._began_s, 3), *row))

    def _write(self, row: tuple[object, ...]) -> None:
        with self._path.open("a", newline="") as file:
            csv.writer(file).writerow(row)
