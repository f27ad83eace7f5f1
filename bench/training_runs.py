"""One folder per training run, for the programs that make tables: begun, gone on with or read, and how it is shown."""

import json
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kept_results import Summary

from mbrl_core.config import from_mapping, refuse
from mbrl_ros.train_command import CONFIG, ResumeConfig, TrainConfig, read_settings, resume, train
from mbrl_sim.training import SUMMARY


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What is trained; the name is that of its folder."""

    name: str
    env: str
    algorithm: str
    steps: int
    flags: tuple[tuple[str, Any], ...] = ()  # dotted name in TrainConfig, value


def run_seed(spec: Spec, seed: int, out: Path) -> Summary:
    """Train one seed, or go on, or read what it came to.

    Raises:
      ValueError: the folder holds a run of other settings.
    """
    folder, wanted = folder_of(spec, seed, out), settings(spec, seed, folder_of(spec, seed, out))
    if (folder / CONFIG).is_file() and (made := replace(read_settings(folder), out=wanted.out)) != wanted:
        raise refuse(f"{folder / CONFIG}: settings", wanted, made)
    if not is_complete(spec, seed, out):
        print(f"{spec.name}, seed {seed}", flush=True)
        if (folder / CONFIG).is_file():
            resume(ResumeConfig(folder=str(folder)))
        else:
            train(wanted)
    summary: Summary = json.loads((folder / SUMMARY).read_text())
    return summary


def is_complete(spec: Spec, seed: int, out: Path) -> bool:
    """Whether a seed's run has ended."""
    return (folder_of(spec, seed, out) / SUMMARY).is_file()


def folder_of(spec: Spec, seed: int, out: Path) -> Path:
    """Where a seed's run lies."""
    return out / spec.name / f"seed-{seed}"


def settings(spec: Spec, seed: int, folder: Path) -> TrainConfig:
    """The run as `mbrl train` takes it."""
    mapping: dict[str, Any] = {
        "env": spec.env,
        "algorithm": spec.algorithm,
        "steps": spec.steps,
        "seed": seed,
        "out": str(folder),
    }
    for name, value in spec.flags:
        *groups, last = name.split(".")
        place = mapping
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
    return from_mapping(TrainConfig, mapping, spec.name)


def over_seeds(summaries: list[Summary], name: str) -> tuple[float, float, float] | None:
    """Mean, standard deviation (of a sample) and worst of a figure over the seeds that have it; None where none has."""
    values = [summary[name] for summary in summaries if summary.get(name) is not None]
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return (statistics.mean(values), spread, min(values)) if values else None


def seeds_cell(summaries: list[Summary], seeds: int) -> str:
    """How many seeds have run, and how many of them ended without a policy: those have no share in the mean."""
    none = sum(summary["eval_return_mean"] is None for summary in summaries)
    return f"{len(summaries)} of {seeds}" + (f", {none} without a policy" if none else "")


def return_cells(summaries: list[Summary]) -> list[str]:
    """Mean, spread of seeds and worst seed of the return before any adaptation."""
    found = over_seeds(summaries, "eval_return_mean")
    return [number(value) for value in found or (None, None, None)]


def inner_cells(summaries: list[Summary]) -> list[str]:
    """Return before / after the inner step on real episodes, and its KL; "none" where nothing adapts."""
    adapting = [summary for summary in summaries if summary.get("adapted_return_mean") is not None]
    names = ("eval_return_mean", "adapted_return_mean", "inner_kl")
    before, after, kl = (over_seeds(adapting, name) for name in names)
    if not (before and after and kl):
        return ["none", "none"]
    return [f"{number(before[0])} / {number(after[0])}", f"{kl[0]:.2g}"]


def number(value: float | None) -> str:
    """A figure with the places that its size needs, thousands apart; what does not exist is none."""
    if value is None:
        return "none"
    places = 0 if abs(value) >= 1000 else 1 if abs(value) >= 20 else 2
    return f"{value:,.{places}f}"


def table(headings: tuple[str, ...], lines: list[list[str]]) -> str:
    """A Markdown table."""
    return "".join(f"{table_row(row)}\n" for row in (headings, ["---"] * len(headings), *lines))


def table_row(cells: Iterable[str]) -> str:
    """One row of a Markdown table, for programs that print each as it is there."""
    return "| " + " | ".join(cells) + " |"


def commits(summaries: list[Summary]) -> str:
    """The commits that runs were begun on, `-dirty` kept."""
    return ", ".join(sorted({summary["commit"] for summary in summaries}))


def made_with_lines(summaries: list[Summary]) -> str:
    """Machine and versions of runs, a line for each combination."""
    return "".join(sorted({summary["made_with"] + "\n" for summary in summaries}))
