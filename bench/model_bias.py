"""The plot of model bias: what a policy promises in imagination and what it gets, over real steps.

One member (vanilla) beside five (me-ppo), from the curves.csv that bench/learning.py writes: where both were trained,
as far as both went, the mean over seeds and their range. Both returns are of the same policy, the last good one, from
where episodes begin, without noise: the imagined one where recorded episodes do, the real one on the few evaluation
episodes of the curve, which may be easier or harder than all of them. They compare only where whole episodes are
imagined: a task with longer ones is left out, and said so.

    python bench/model_bias.py runs/learning/curves.csv --out runs/learning/model-bias.png
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import gymnasium
import numpy as np
from kept_results import Line, read_lines
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mbrl_core.algorithms.validation import ValidationConfig
from mbrl_core.types import Vector

METHODS = {"vanilla": "one member", "me-ppo": "five members"}
RETURNS = {"imagined_return": ("imagined", "--"), "curve_return_mean": ("real", "-")}


@dataclass(frozen=True)
class Band:
    """A return over real steps: mean and range of the seeds."""

    steps: Vector  # (T,)
    mean: Vector  # (T,)
    low: Vector  # (T,)
    high: Vector  # (T,)


def comparable(lines: list[Line]) -> list[str]:
    """Tasks on which both methods were trained, in the file's order."""
    found = dict.fromkeys(line["env"] for line in lines)
    return [env for env in found if all(of_method(lines, env, method) for method in METHODS)]


def of_method(lines: list[Line], env: str, method: str) -> list[Line]:
    """The rounds of a method on a task that ended well, with a policy."""
    return [
        line
        for line in lines
        if (line["env"], line["algorithm"]) == (env, method)
        and line["curve_return_mean"]
        and line["imagined_return"] != "nan"
    ]


def band(lines: list[Line], column: str) -> Band:
    """Mean and range over seeds at the steps that all seeds cover, straight lines between rounds."""
    seeds: dict[str, list[tuple[float, float]]] = {}
    for line in lines:
        seeds.setdefault(line["seed"], []).append((float(line["real_steps"]), float(line[column])))
    curves = [np.array(points).T for points in seeds.values()]
    first, last = max(steps[0] for steps, _ in curves), min(steps[-1] for steps, _ in curves)
    grid = np.unique(np.concatenate([steps for steps, _ in curves]))
    grid = grid[(grid >= first) & (grid <= last)]
    values = np.array([np.interp(grid, steps, returns) for steps, returns in curves])
    return Band(grid, values.mean(0), values.min(0), values.max(0))


def draw_band(axes: Axes, shown: Band, colour: str, label: str, style: str = "-") -> None:
    """A line for the mean over a shade for the range."""
    axes.plot(shown.steps, shown.mean, style, color=colour, label=label)
    axes.fill_between(shown.steps, shown.low, shown.high, color=colour, alpha=0.12, linewidth=0)


def too_long(env: str) -> str:
    """Why imagined and real return of a task do not compare; empty where they do."""
    episode, horizon = gymnasium.spec(env).max_episode_steps or 0, ValidationConfig().horizon
    return f"episodes have {episode} steps, of which {horizon} are imagined" if episode > horizon else ""


def draw(axes: Axes, lines: list[Line], env: str) -> None:
    """One task: two returns of two methods."""
    ends = []
    for colour, (method, label) in enumerate(METHODS.items()):
        rounds = of_method(lines, env, method)
        for column, (kind, style) in RETURNS.items():
            shown = band(rounds, column)
            draw_band(axes, shown, f"C{colour}", f"{label}, {kind}", style)
            ends.append(shown.steps[-1])
    seeds = {method: len({line["seed"] for line in of_method(lines, env, method)}) for method in METHODS}
    count = ", ".join(f"{method} {number} seeds" for method, number in seeds.items())
    axes.set(xlabel="real steps", ylabel="return of an episode", title=f"{env}: {count}", xlim=(0, min(ends)))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def main() -> None:
    """Read the curves and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("curves", type=Path, help="curves.csv of bench/learning.py")
    parser.add_argument("--out", type=Path, default=Path("model-bias.png"))
    args = parser.parse_args()
    lines = read_lines(args.curves)
    tasks = comparable(lines)
    for env in tasks:
        if too_long(env):
            print(f"left out: {env}: {too_long(env)}")
    tasks = [env for env in tasks if not too_long(env)]
    if not tasks:
        sys.exit(f"{args.curves}: expected a task with {' and '.join(METHODS)}, got none")
    figure = Figure(figsize=(6 * len(tasks), 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, env in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        draw(axes, lines, env)
    figure.savefig(args.out, dpi=110)


if __name__ == "__main__":
    main()
