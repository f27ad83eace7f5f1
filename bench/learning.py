"""The table of methods on public tasks: mean, worst, real steps and time, beside chance and what others published.

Every run has a folder of its own; a run that is complete is not repeated and one that was stopped goes on, so the
same command may be given again after anything. Episodes, seeds and evaluation are those of `mbrl train`.

    python bench/learning.py --out runs/learning
    python bench/learning.py --out runs/learning --only Pendulum-v1 --seeds 1
    python bench/learning.py --results docs/results/learning      # adds to what this repository has

Figures and curves of every run go into two CSV files (--results, by default the folder of the runs); runs that are
there are not made again.
"""

import argparse
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

from kept_results import KeptResults, Summary
from training_runs import (
    Spec,
    commits,
    folder_of,
    inner_cells,
    is_complete,
    made_with_lines,
    number,
    return_cells,
    run_seed,
    seeds_cell,
    table,
)

from mbrl_ros.train_command import GROUPS

PENDULUM = "SAC -929 at 2,000, -144 at 3,000; PETS solves it at 800"
PENDULUM_LATE = "tuned SAC -157, TQC -151 at 20,000; PPO -172 at 100,000"
REACHER = "SAC -7.7 at 10,000, -4.9 at 50,000"
REACHER_META = "at 200,000: MB-MPO -5.6, SLBO -4.1"
BALANCE = "theirs have another reward"
CHEETAH = "at 200,000: ME-TRPO 2,284, MB-MPO 3,639, PETS 2,795"
SINGLE = (("ensemble.members", 1), ("validation.ratio", 0.0))  # the same method with one model, as vanilla is ME-PPO's
CONTACTS = (("imagination.horizon", 15), ("ensemble.hidden", (256, 256)))  # more to learn, and errors that add up


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the table; overrides, shown there, are of horizon or width, or make the baseline of one model."""

    env: str
    steps: int
    seeds: int
    goal: str
    published: str
    algorithm: str = "me-ppo"
    overrides: tuple[tuple[str, float | tuple[int, ...]], ...] = ()  # dotted name in the method's settings, value

    @property
    def spec(self) -> Spec:
        """What is trained: one run serves all rows that differ in their steps only, the smaller ones as milestones."""
        budgets = sorted({row.steps for row in ROWS if self._same_run(row)})
        *milestones, steps = budgets
        name = "-".join([self.env, self.algorithm, *(f"{name}-{shown(value)}" for name, value in self.overrides)])
        flags = [(f"{GROUPS[self.algorithm]}.{name}", value) for name, value in self.overrides]
        flags += [("schedule.milestones", tuple(milestones))]
        return Spec(name=name, env=self.env, algorithm=self.algorithm, steps=steps, flags=tuple(flags))

    def at_its_steps(self, summary: Summary) -> Summary:
        """What the run had come to after the row's steps."""
        if summary["steps"] == self.steps:
            return summary
        return summary | next(passed for passed in summary["milestones"] if passed["milestone"] == self.steps)

    def _same_run(self, row: "Row") -> bool:
        return (row.env, row.algorithm, row.overrides) == (self.env, self.algorithm, self.overrides)


def shown(value: float | tuple[int, ...]) -> str:
    """An override's value in one word."""
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


ROWS = (
    Row(env="Pendulum-v1", steps=1_000, seeds=5, goal="mean -170, min -200", published=PENDULUM),
    Row(env="Pendulum-v1", steps=3_000, seeds=5, goal="5 of SAC at 20,000", published=PENDULUM_LATE),
    Row(env="Reacher-v5", steps=2_500, seeds=3, goal="-5.0", published=REACHER),
    Row(env="Reacher-v5", steps=10_000, seeds=3, goal="-4.2", published=REACHER),
    Row(env="Pendulum-v1", algorithm="mb-mpo", steps=1_000, seeds=5, goal="mean -170, min -200", published=PENDULUM),
    Row(env="Pendulum-v1", algorithm="mb-mpo", steps=3_000, seeds=5, goal="5 of SAC", published=PENDULUM_LATE),
    Row(env="Reacher-v5", algorithm="mb-mpo", steps=5_000, seeds=3, goal="-4.8", published=REACHER_META),
    Row(env="Reacher-v5", algorithm="mb-mpo", steps=20_000, seeds=3, goal="-4.1", published=REACHER_META),
    *(
        Row(env=env, algorithm=method, steps=steps, seeds=seeds, goal="beats vanilla", published=published)
        for env, steps, seeds, published in (("Pendulum-v1", 1_000, 5, PENDULUM), ("Reacher-v5", 2_500, 3, REACHER))
        for method in ("me-trpo", "vanilla", "bptt")
    ),
    *(
        Row(env=env, algorithm="me-trpo", steps=steps, seeds=seeds, goal="", published=published, overrides=SINGLE)
        for env, steps, seeds, published in (("Pendulum-v1", 1_000, 5, PENDULUM), ("Reacher-v5", 2_500, 3, REACHER))
    ),
    Row(env="Pusher-v5", steps=20_000, seeds=3, goal="-32", published="SAC -35.0 at 20,000, -33.0 at 50,000"),
    Row(env="InvertedPendulum-v5", steps=5_000, seeds=5, goal="1,000 on every seed", published=BALANCE),
    *(
        Row(
            env="HalfCheetah-v5",
            algorithm=method,
            steps=50_000,
            seeds=3,
            goal=goal,
            published=CHEETAH,
            overrides=CONTACTS,
        )
        for method, goal in (("mb-mpo", "2,500"), ("me-ppo", "beats vanilla"), ("vanilla", ""))
    ),
)
HEADINGS = (
    "Task",
    "Method",
    "Real steps",
    "Seeds",
    "Mean",
    "Std of seeds",
    "Worst seed",
    "Before / after the inner step",
    "Inner KL",
    "Zero",
    "Random",
    "Minutes a seed",
    "Goal",
    "Others",
    "Overrides",
    "Commit",
)


def table_line(row: Row, summaries: list[Summary]) -> list[str]:
    """One line of the table from the seeds that are complete."""
    zero, chance = (statistics.mean(summary[f"{name}_return"] for summary in summaries) for name in ("zero", "random"))
    minutes = statistics.mean(summary["wall_s"] for summary in summaries) / 60
    overrides = ", ".join(f"{name} {shown(value)}" for name, value in row.overrides) or "none"
    cells = [row.env, row.algorithm, f"{row.steps:,}", seeds_cell(summaries, row.seeds)]
    cells += [*return_cells(summaries), *inner_cells(summaries), *map(number, (zero, chance, minutes))]
    return [*cells, row.goal, row.published, overrides, commits(summaries)]


def whole_table(results: KeptResults, rows: list[Row]) -> str:
    """The table from the runs that are there, and what they were made with."""
    found = [(row, results.summaries(row.spec.name, row.steps, row.seeds)) for row in rows]
    lines = [table_line(row, summaries) for row, summaries in found if summaries]
    return f"{table(HEADINGS, lines)}\n{made_with_lines([one for _, summaries in found for one in summaries])}"


def parse() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/learning"))
    parser.add_argument("--results", type=Path, help="folder of results.csv, curves.csv and table.md")
    parser.add_argument("--only", nargs="*", default=[], help="words that a row's name must hold, any of them")
    parser.add_argument("--seeds", type=int, help="seeds of every row at most; as the table says if absent")
    parser.add_argument("--table", action="store_true", help="run nothing: take in what is complete")
    return parser.parse_args()


def main() -> None:
    """Run what is missing, seed by seed, keep what each came to, and write the table."""
    args = parse()
    rows = [row for row in ROWS if not args.only or any(word in row.spec.name for word in args.only)]
    if not rows:
        sys.exit(f"--only: expected a part of one of {sorted({row.spec.name for row in ROWS})}, got {args.only}")
    folder = args.results or args.out
    results = KeptResults(folder)
    for row in rows:
        for seed in range(min(args.seeds or row.seeds, row.seeds)):
            known = results.has(row.spec.name, row.steps, seed)
            if known or (args.table and not is_complete(row.spec, seed, args.out)):
                continue
            summary = row.at_its_steps(run_seed(row.spec, seed, args.out))
            results.add(row.spec.name, row.steps, seed, summary, folder_of(row.spec, seed, args.out))
            results.save()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text(whole_table(results, list(ROWS)))
    print(whole_table(results, rows))


if __name__ == "__main__":
    main()
