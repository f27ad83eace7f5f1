"""How much model error ME-TRPO and MB-MPO bear: every member of the ensemble is made wrong on purpose.

The study of Clavera et al. 2018 (arXiv 1809.05214) on Reacher: each member's predictions get a constant bias, drawn
from U(0, b), and noise, in standard deviations of what is predicted. Real episodes and evaluation are not touched. A
run that is complete is not repeated and one that was stopped goes on.

    python bench/robustness.py --out runs/robustness
    python bench/robustness.py --out runs/try --levels 0.5 --seeds 1 --steps 50
"""

import argparse
import csv
import statistics
from dataclasses import dataclass
from pathlib import Path

from training_runs import (
    Spec,
    Summary,
    commits,
    complete_seeds,
    folder_of,
    inner_cells,
    made_with_lines,
    number,
    read_summary,
    return_cells,
    run_seed,
    table,
)

METHODS = ("me-trpo", "mb-mpo")
HEADINGS = (
    "Method",
    "Bias up to",
    "Noise",
    "Real steps",
    "Seeds",
    "Mean",
    "Std of seeds",
    "Worst seed",
    "Before / after the inner step",
    "Inner KL",
    "Zero",
    "Minutes a seed",
    "Commit",
)
MEASURES = (
    "eval_return_mean",
    "eval_return_std",
    "eval_return_min",
    "adapted_return_mean",
    "inner_kl",
    "zero_return",
    "wall_s",
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One method at one level of error."""

    env: str
    algorithm: str
    bias: float
    noise: float
    steps: int

    @property
    def spec(self) -> Spec:
        """What is trained."""
        group = f"{self.algorithm.replace('-', '_')}.ensemble.perturbation"
        return Spec(
            name=f"{self.env}-{self.algorithm}-{self.steps}-bias-{self.bias:g}-noise-{self.noise:g}",
            env=self.env,
            algorithm=self.algorithm,
            steps=self.steps,
            flags=((f"{group}.bias", self.bias), (f"{group}.noise", self.noise)),
        )


def table_line(case: Case, seeds: int, summaries: list[Summary], commit: str) -> list[str]:
    """One line of the table from the seeds that are complete."""
    zero, minutes = (
        statistics.mean(summary[name] for summary in summaries) / unit
        for name, unit in (("zero_return", 1), ("wall_s", 60))
    )
    count = sum(summary["eval_return_mean"] is not None for summary in summaries)
    cells = [case.algorithm, f"{case.bias:g}", f"{case.noise:g}", f"{case.steps:,}", f"{count} of {seeds}"]
    return [*cells, *return_cells(summaries), *inner_cells(summaries), number(zero), number(minutes), commit]


def write_results(out: Path, cases: list[Case], seeds: int) -> None:
    """Write table.md and results.csv, a line per run, from the runs that are complete."""
    lines: list[list[str]] = []
    runs: list[tuple[Case, int, Path]] = []
    for case in cases:
        complete = [(case, seed, folder_of(case.spec, seed, out)) for seed in complete_seeds(case.spec, seeds, out)]
        if complete:
            folders = [folder for _, _, folder in complete]
            lines.append(table_line(case, seeds, [read_summary(folder) for folder in folders], commits(folders)))
            runs += complete
    made_with = made_with_lines([folder for _, _, folder in runs])
    (out / "table.md").write_text(f"{table(HEADINGS, lines)}\n{made_with}")
    with (out / "results.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("env", "algorithm", "bias", "noise", "steps", "seed", *MEASURES))
        for case, seed, folder in runs:
            summary = read_summary(folder)
            known = (case.env, case.algorithm, case.bias, case.noise, case.steps, seed)
            writer.writerow((*known, *(summary[name] for name in MEASURES)))


def parse() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/robustness"))
    parser.add_argument("--env", default="Reacher-v5")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument(
        "--levels", type=float, nargs="+", default=[0.1, 0.5, 1.0], help="bounds b of the bias; 0 = none"
    )
    parser.add_argument("--noise", type=float, default=0.1)
    parser.add_argument("--steps", type=int, default=10_000, help="real steps of a run")
    parser.add_argument("--seeds", type=int, default=3)
    return parser.parse_args()


def main() -> None:
    """Run what is missing, first every level's first seed, and write the results after each run."""
    args = parse()
    cases = [
        Case(env=args.env, algorithm=method, bias=level, noise=args.noise, steps=args.steps)
        for level in args.levels
        for method in args.methods
    ]
    args.out.mkdir(parents=True, exist_ok=True)
    for seed in range(args.seeds):
        for case in cases:
            run_seed(case.spec, seed, args.out)
            write_results(args.out, cases, args.seeds)
    print((args.out / "table.md").read_text())


if __name__ == "__main__":
    main()
