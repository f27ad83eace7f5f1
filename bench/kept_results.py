"""What runs came to, kept in two CSV files that outlive the runs' own folders: figures by run, and learning curves.

A run whose figures are there is not repeated, wherever it ran; each line says commit, machine and versions.
"""

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mbrl_core.replay import write_atomically
from mbrl_ros.train_command import CONFIG
from mbrl_sim.training import PROGRESS

Line = dict[str, str]
Summary = dict[str, Any]
RESULTS, CURVES = "results.csv", "curves.csv"
KEY = ("run", "steps", "seed")
FIGURES = (
    "real_steps",
    "wall_s",
    "eval_return_mean",
    "eval_return_std",
    "eval_return_min",
    "adaptation_steps",
    "adapted_return_mean",
    "inner_kl",
    "zero_return",
    "random_return",
)
CURVE = ("real_steps", "wall_s", "curve_return_mean", "curve_return_min", "collected_return", "imagined_return")
COMMIT_DIGITS = 7


class KeptResults:
    """The two files of a folder: read once, and written by `save`."""

    def __init__(self, folder: Path) -> None:
        """Read what is there; nothing where there is no such folder yet."""
        self._folder = folder
        self._results = {
            (line["run"], int(line["steps"]), int(line["seed"])): line for line in read_lines(folder / RESULTS)
        }
        self._curves: dict[tuple[str, int], list[Line]] = {}
        for line in read_lines(folder / CURVES):
            self._curves.setdefault((line["run"], int(line["seed"])), []).append(line)

    def has(self, run: str, steps: int, seed: int) -> bool:
        """Whether this run has been made, up to so many steps."""
        return (run, steps, seed) in self._results

    def add(self, run: str, steps: int, seed: int, summary: Summary, folder: Path) -> None:
        """Take what a run in a folder had come to after so many steps, and its whole curve."""
        made = json.loads((folder / CONFIG).read_text())["made_with"]
        key = {"run": run, "steps": str(steps), "seed": str(seed)}
        figures = {name: "" if summary.get(name) is None else str(summary[name]) for name in FIGURES}
        origin = {"commit": short_commit(made["commit"]), "made_with": made_sentence(made)}
        self._results[run, steps, seed] = key | figures | origin
        curve = [{name: line[name] for name in CURVE} for line in read_lines(folder / PROGRESS)]
        self._curves[run, seed] = [
            {"run": run, "env": summary["env"], "algorithm": summary["algorithm"], "seed": str(seed)} | line
            for line in curve
        ]

    def save(self) -> None:
        """Write both files, whole; what another program has added to them in the meantime stays."""
        self._folder.mkdir(parents=True, exist_ok=True)
        there = KeptResults(self._folder)
        self._results, self._curves = there._results | self._results, there._curves | self._curves
        lines = [self._results[key] for key in sorted(self._results)]
        _write(self._folder / RESULTS, (*KEY, *FIGURES, "commit", "made_with"), lines)
        curves = [line for key in sorted(self._curves) for line in self._curves[key]]
        _write(self._folder / CURVES, ("run", "env", "algorithm", "seed", *CURVE), curves)

    def summaries(self, run: str, steps: int, seeds: int) -> list[Summary]:
        """Figures of the seeds that are there; None where a run has none, such as the return of no policy."""
        lines = [self._results[run, steps, seed] for seed in range(seeds) if self.has(run, steps, seed)]
        return [line | {name: float(line[name]) if line[name] else None for name in FIGURES} for line in lines]


def read_lines(path: Path) -> list[Line]:
    """Rows of a CSV file; none where there is no such file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _write(path: Path, names: tuple[str, ...], lines: Iterable[Line]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_atomically(path, text.getvalue().encode())


def made_sentence(made: dict[str, Any]) -> str:
    """Machine and versions as a sentence."""
    machine, versions = made["machine"], made["versions"]
    libraries = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{machine['cores']} cores of {machine['cpu']}, {machine['system']}; {libraries}."


def short_commit(commit: str | None) -> str:
    """Its first digits, `-dirty` kept."""
    if commit is None:
        return "unknown"
    digits, dash, rest = commit.partition("-")
    return digits[:COMMIT_DIGITS] + dash + rest
