"""The end of a run for people: the table of policies, one row per evaluation episode in CSV files."""

import csv
from pathlib import Path

from rich.table import Table

from mbrl_core.types import Episode, StepFlag
from mbrl_ros.run_record import Statistics, statistics

HEADINGS = ("policy", "success", "distance median", "mean", "95 %", "return", "episodes")
COLUMNS = ("episode", "goal_x_m", "goal_y_m", "goal_z_m", "final_distance_m", "return", "success", "steps")
FLAGS = (StepFlag.CLAMPED, StepFlag.LATE, StepFlag.GAP, StepFlag.SLOWED)


def table(evaluations: dict[str, list[Episode]]) -> Table:
    """Policies beside each other."""
    view = Table(title="evaluation: goals that training never saw")
    for heading in HEADINGS:
        view.add_column(heading, justify="left" if heading == "policy" else "right")
    for actor, episodes in evaluations.items():
        numbers = statistics(episodes)
        if numbers:
            view.add_row(*row(actor, numbers))
    return view


def row(actor: str, numbers: Statistics) -> tuple[str, ...]:
    """One policy's cells."""
    return (
        actor,
        f"{100 * numbers.success_rate:.0f} %",
        f"{1000 * numbers.final_distance_m_median:.1f} mm",
        f"{1000 * numbers.final_distance_m_mean:.1f} mm",
        f"{1000 * numbers.final_distance_m_p95:.1f} mm",
        f"{numbers.return_mean:.1f}",
        str(numbers.episodes),
    )


def write_csv(path: Path, episodes: list[Episode]) -> None:
    """Write one row per evaluation episode; the last columns count flagged steps."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow((*COLUMNS, *(f"{str(flag.name).lower()}_steps" for flag in FLAGS), "end_reason"))
        for episode in episodes:
            writer.writerow(_cells(episode))


def _cells(episode: Episode) -> tuple[object, ...]:
    flagged = (int((episode.flags & flag > 0).sum()) for flag in FLAGS)
    return (
        episode.episode,
        *(f"{value:.6f}" for value in episode.goal),
        f"{episode.final_distance_m:.6f}",
        f"{episode.episode_return:.6f}",
        int(episode.success),
        episode.steps,
        *flagged,
        episode.end_reason,
    )
