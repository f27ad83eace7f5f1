"""What adaptation came to: a CSV file with the return of every goal, and the table made of it."""

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from kept_results import made_sentence, short_commit
from training_runs import number, table

from mbrl_core.return_comparison import Comparison
from mbrl_core.types import Episode, Vector
from mbrl_ros.provenance import git_commit, machine, versions

GOALS = 12
LEVEL, BLOCK = 0.05, 5  # of the comparison that takes an adapted policy back
NOISE = 2.0  # standard errors of the mean difference over the same goals
SMALL_LOSS = 0.1  # of the return: a share of less says nothing
AFTER = (1, 2, 3, 5)  # exploring episodes
FIELDS = (
    *("seed", "case", "method", "route", "episodes", "steps", "taken_back", "success", "distance_mm"),
    *("commit", "made_with", "returns"),
)
HEADINGS = (
    "Another arm",
    "Lost",
    *(f"Won back after {count}" for count in AFTER),
    "One real step, 5",
    "ME-PPO lost",
    "ME-PPO, imagined, 5",
    "ME-PPO, one real step, 5",
    "Distance before / after 5",
    "Trained there",
)


class Results:
    """Rows in a CSV file, the returns of every goal in each."""

    def __init__(self, path: Path) -> None:
        """Read what is there."""
        self.path = path
        self.rows: list[dict[str, str]] = []
        if path.is_file():
            with path.open(newline="") as file:
                self.rows = list(csv.DictReader(file))

    def find(self, **key: object) -> dict[str, str] | None:
        """The row of a key."""
        wanted = {name: str(value) for name, value in key.items()}
        return next((row for row in self.rows if all(row[name] == value for name, value in wanted.items())), None)

    def returns(self, **key: object) -> Vector | None:
        """Returns of the row of a key, by goal: (GOALS,)."""
        row = self.find(**key)
        return None if row is None else np.array([float(value) for value in row["returns"].split()])

    def add(self, trials: list[Episode], *, steps: int = 0, before: Vector | None = None, **key: object) -> None:
        """Append a row; `before` holds the returns before adaptation, where there was one."""
        returns = np.array([episode.episode_return for episode in trials])
        row = {name: str(value) for name, value in key.items()} | {
            "steps": str(steps),
            "taken_back": str(before is not None and is_taken_back(before, returns)),
            "success": str(np.mean([episode.success for episode in trials])),
            "distance_mm": str(np.median([episode.final_distance_m * 1e3 for episode in trials])),
            "commit": short_commit(git_commit()),
            "made_with": made_sentence({"machine": machine(), "versions": versions()}),
            "returns": " ".join(f"{value:.4f}" for value in returns),
        }
        self.rows.append(row)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("w", newline="") as file:
            writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)

    @property
    def seeds(self) -> list[str]:
        """Those that there are rows of."""
        return sorted({row["seed"] for row in self.rows})


def is_taken_back(before: Vector, after: Vector) -> bool:
    """Whether the robot's own comparison, on as many episodes as it looks at, would fall back."""
    comparison = Comparison(tuple(before[:BLOCK]), block=BLOCK, level=LEVEL)
    return any([comparison.add(float(value)) for value in after])


def differences(results: Results, case: str, method: str, route: str, episodes: int) -> list[tuple[Vector, Vector]]:
    """For every seed that has both: what the perturbation took, and what adapting gave, by goal: (GOALS,) each."""
    found = []
    for seed in results.seeds:
        where = {"seed": seed, "method": method}
        whole = results.returns(**where, case="none")
        before = results.returns(**where, case=case, route="before")
        after = results.returns(**where, case=case, route=route, episodes=episodes)
        if whole is not None and before is not None and after is not None:
            found.append((whole - before, after - before))
    return found


def share(pairs: Iterable[tuple[Vector, Vector]]) -> str:
    """What was given over what was taken, over all seeds; where hardly anything was taken, what was given, signed."""
    taken, given = (float(np.mean([part.mean() for part in column])) for column in zip(*pairs, strict=True))
    return f"{100 * given / taken:.0f} %" if taken >= SMALL_LOSS else f"{given:+.2f}"


def case_line(results: Results, case: str) -> list[str] | None:
    """One line of the table."""
    before = differences(results, case, "mb-mpo", "before", 0)
    if not before:
        return None

    def won(method: str, route: str, episodes: int) -> str:
        pairs = differences(results, case, method, route, episodes)
        return share(pairs) if pairs else "none"

    plain = differences(results, case, "me-ppo", "before", 0)
    rows = [results.find(seed=seed, case=case, method="mb-mpo", route="before") for seed in results.seeds]
    after = [
        results.find(seed=seed, case=case, method="mb-mpo", route="imagined", episodes=AFTER[-1])
        for seed in results.seeds
    ]
    upper = results.returns(case=case, route="trained there")
    whole = results.returns(seed=0, method="me-ppo", case="none")
    return [
        case,
        number(float(np.mean([taken.mean() for taken, _ in before]))),
        *(won("mb-mpo", "imagined", count) for count in AFTER),
        won("mb-mpo", "real", AFTER[-1]),
        number(float(np.mean([taken.mean() for taken, _ in plain]))) if plain else "none",
        won("me-ppo", "imagined", AFTER[-1]),
        won("me-ppo", "real", AFTER[-1]),
        f"{_distance(rows)} / {_distance(after)} mm",
        "none" if upper is None or whole is None else f"{float((upper - whole).mean()):+.2f}",
    ]


def _distance(rows: list[dict[str, str] | None]) -> str:
    values = [float(row["distance_mm"]) for row in rows if row is not None]
    return f"{np.mean(values):.1f}" if values else "none"


def summary(results: Results, cases: list[str], method: str, route: str) -> str:
    """Over all seeds and cases, after the most episodes: won back, better, worse by more than noise, taken back."""
    pairs = [pair for case in cases for pair in differences(results, case, method, route, AFTER[-1])]
    if not pairs:
        return ""
    errors = [float(given.std(ddof=1)) / np.sqrt(len(given)) for _, given in pairs]
    better = sum(float(given.mean()) > 0 for _, given in pairs)
    worse = sum(float(given.mean()) < -NOISE * error for (_, given), error in zip(pairs, errors, strict=True))
    key = {"method": method, "route": route, "episodes": str(AFTER[-1])}
    back = sum(row["taken_back"] == "True" for row in results.rows if key.items() <= row.items())
    return (
        f"{method}, {route}, after {AFTER[-1]} episodes, {len(pairs)} pairs of seed and arm: {share(pairs)} won back; "
        f"better in {better}, worse by more than {NOISE:g} standard errors in {worse}; {back} taken back\n"
    )


def whole_table(results: Results, cases: list[str]) -> str:
    """Table, summary, and what it was made with."""
    lines = [line for case in cases if (line := case_line(results, case))]
    rows = (("mb-mpo", "imagined"), ("mb-mpo", "real"), ("me-ppo", "imagined"), ("me-ppo", "real"))
    sums = "".join(summary(results, cases, *row) for row in rows)
    made = "".join(sorted({f"{row['made_with']} Commit {row['commit']}.\n" for row in results.rows}))
    return f"{table(HEADINGS, lines)}\n{sums}\n{made}"
