"""The plot of learning curves: the real return of the last good policy over real steps, a panel for each task.

From the curves.csv and results.csv that bench/learning.py or bench/robustness.py writes: mean over seeds and their
range, on the few evaluation episodes of a run's curve, which may be easier or harder than all of them. The dotted line
is what zero actions get; what is worse by more than a tenth of it is not shown.

    python bench/learning_curves.py docs/results/learning --out docs/results/learning/curves.png
"""

import argparse
import sys
from pathlib import Path

from kept_results import CURVES, RESULTS, Line, read_lines
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from model_bias import band, draw_band


def by_run(lines: list[Line], env: str) -> dict[str, list[Line]]:
    """Rounds with a policy of every run on a task, by what distinguishes the run, in the file's order."""
    runs: dict[str, list[Line]] = {}
    for line in lines:
        if line["env"] == env and line["curve_return_mean"]:
            runs.setdefault(line["run"].removeprefix(f"{env}-"), []).append(line)
    return runs


def draw(axes: Axes, runs: dict[str, list[Line]], env: str, zero: float) -> None:
    """One task: a line for each run."""
    best = zero
    for colour, (name, lines) in enumerate(runs.items()):
        shown = band(lines, "curve_return_mean")
        seeds = len({line["seed"] for line in lines})
        draw_band(axes, shown, f"C{colour}", f"{name}, {seeds} seeds")
        best = max(best, float(shown.high.max()))
    axes.axhline(zero, color="grey", linestyle=":")
    axes.set(xlabel="real steps", ylabel="return of an episode", title=env)
    axes.set_ylim(zero - 0.1 * abs(zero) - 1e-3 * abs(best), best + 0.05 * abs(best - zero))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="x-small")


def main() -> None:
    """Read both files and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder of curves.csv and results.csv")
    parser.add_argument("--out", type=Path, default=Path("curves.png"))
    args = parser.parse_args()
    lines, results = (read_lines(args.results / name) for name in (CURVES, RESULTS))
    if not (lines and results):
        sys.exit(f"{args.results}: expected {CURVES} and {RESULTS} with runs, got none")
    tasks = list(dict.fromkeys(line["env"] for line in lines))
    zeros = {env: next(float(row["zero_return"]) for row in results if row["run"].startswith(env)) for env in tasks}
    columns = min(3, len(tasks))
    rows = -(-len(tasks) // columns)
    figure = Figure(figsize=(6 * columns, 4.5 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, env in zip(panels, tasks, strict=False):
        draw(axes, by_run(lines, env), env, zeros[env])
    for axes in panels[len(tasks) :]:
        axes.set_axis_off()
    figure.savefig(args.out, dpi=90)


if __name__ == "__main__":
    main()
