"""The picture of a run: learning curve, and the tip's paths to the evaluation goals."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mbrl_core.tasks.task import Task
from mbrl_core.types import Episode
from mbrl_ros.run_record import RunRecord, is_random

TIP = "tip"
PROJECTIONS = ((0, 1, "from above"), (0, 2, "from the side"))
AXES = ("x / m", "y / m", "z / m")


def draw_run(path: Path, record: RunRecord, task: Task) -> None:
    """Write a PNG of what the record holds."""
    figure = Figure(figsize=(12, 9), layout="constrained")
    FigureCanvasAgg(figure)
    curve, distance, above, side = figure.subplots(2, 2).ravel()
    _draw_curve(curve, record.collected, [episode.episode_return for episode in record.collected], "return")
    _draw_curve(distance, record.collected, _centimetres(record.collected), "final distance / cm")
    paths = record.evaluations.get("learned", [])
    for axes, (first, second, title) in zip((above, side), PROJECTIONS, strict=True):
        _draw_paths(axes, paths, task, first, second)
        axes.set_title(f"tip paths of {len(paths)} evaluation episodes, {title}")
    figure.savefig(path, dpi=110)


def _centimetres(episodes: list[Episode]) -> list[float]:
    return [100 * episode.final_distance_m for episode in episodes]


def _draw_curve(axes: Axes, episodes: list[Episode], values: list[float], label: str) -> None:
    steps = np.cumsum([episode.steps for episode in episodes])
    random_until = max((step for step, episode in zip(steps, episodes, strict=True) if is_random(episode)), default=0)
    if random_until:
        axes.axvspan(0, random_until, color="0.9", label="random actions")
    axes.plot(steps, values, "o-", markersize=4)
    axes.set(xlabel="real steps", ylabel=label)
    axes.grid(alpha=0.3)
    if random_until:
        axes.legend(loc="best")


def _draw_paths(axes: Axes, episodes: list[Episode], task: Task, first: int, second: int) -> None:
    low, high = task.obs_slices[TIP]
    for episode in episodes:
        tips = np.asarray(task.observe(episode.states, np.broadcast_to(episode.goal, (episode.steps + 1, 3))))
        tips, goal = tips[:, low:high], episode.goal
        colour = "tab:green" if episode.success else "tab:red"
        axes.plot(tips[:, first], tips[:, second], color=colour, linewidth=0.6, alpha=0.6)
        axes.plot(goal[first], goal[second], "x", color=colour, markersize=4)
    axes.set(xlabel=AXES[first], ylabel=AXES[second], aspect="equal")
    axes.grid(alpha=0.3)
