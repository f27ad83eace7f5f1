"""How much model error ME-TRPO and MB-MPO bear: every member of the ensemble is made wrong on purpose.

The study of Clavera et al. 2018 (arXiv 1809.05214) on Reacher: each member's predictions get a bias, drawn from U(0, b)
with every fit, and noise, in standard deviations of what is predicted. Real episodes and evaluation are not touched. A
run that is complete is not repeated and one that was stopped goes on.

    python bench/robustness.py --out runs/robustness
    python bench/robustness.py --out runs/try --levels 0.5 --seeds 1 --steps 50
"""

import argparse
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kept_results import KeptResults, Summary
from training_runs import (
    Spec,
    commits,
    folder_of,
    inner_cells,
    made_with_lines,
    number,
    return_cells,
    run_seed,
    seeds_cell,
    table,
)

METHODS = ("me-trpo", "mb-mpo")
LEVELS, SEEDS = (0.1, 0.5, 1.0), 3
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


def table_line(case: Case, seeds: int, summaries: list[Summary]) -> list[str]:
    """One line of the table from the seeds that are complete."""
    zero, minutes = (
        statistics.mean(summary[name] for summary in summaries) / unit
        for name, unit in (("zero_return", 1), ("wall_s", 60))
    )
    cells = [case.algorithm, f"{case.bias:g}", f"{case.noise:g}", f"{case.steps:,}", seeds_cell(summaries, seeds)]
    cells += [*return_cells(summaries), *inner_cells(summaries), number(zero), number(minutes)]
    return [*cells, commits(summaries)]


def whole_table(results: KeptResults, cases: list[Case], seeds: int) -> str:
    """The table from the runs of these cases that are there, and what they were made with."""
    found = [(case, results.summaries(case.spec.name, case.steps, seeds)) for case in cases]
    lines = [table_line(case, seeds, summaries) for case, summaries in found if summaries]
    return f"{table(HEADINGS, lines)}\n{made_with_lines([one for _, summaries in found for one in summaries])}"


def parse() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/robustness"))
    parser.add_argument("--results", type=Path, help="folder of results.csv, curves.csv and table.md; --out if absent")
    parser.add_argument("--env", default="Reacher-v5")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--levels", type=float, nargs="+", default=LEVELS, help="bounds b of the bias; 0 = none")
    parser.add_argument("--noise", type=float, default=0.1)
    parser.add_argument("--steps", type=int, default=10_000, help="real steps of a run")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    return parser.parse_args()


def of_levels(args: argparse.Namespace, levels: Iterable[float], methods: Iterable[str]) -> list[Case]:
    """The cases of some levels and methods, as the other arguments have it."""
    return [
        Case(env=args.env, algorithm=method, bias=level, noise=args.noise, steps=args.steps)
        for level in levels
        for method in methods
    ]


def main() -> None:
    """Run what is missing, first every level's first seed, keep what each came to, and write the table."""
    args = parse()
    cases = of_levels(args, args.levels, args.methods)
    folder = args.results or args.out
    results = KeptResults(folder)
    for seed in range(args.seeds):
        for case in cases:
            if not results.has(case.spec.name, case.steps, seed):
                summary = run_seed(case.spec, seed, args.out)
                results.add(case.spec.name, case.steps, seed, summary, folder_of(case.spec, seed, args.out))
                results.save()
    folder.mkdir(parents=True, exist_ok=True)
    kept = of_levels(args, sorted({*LEVELS, *args.levels}), METHODS)  # the file loses nothing by what was asked for
    (folder / "table.md").write_text(whole_table(results, kept, max(args.seeds, SEEDS)))
    print(whole_table(results, cases, args.seeds))


if __name__ == "__main__":
    main()
