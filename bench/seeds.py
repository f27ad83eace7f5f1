"""Puts finished runs of `make sim` side by side as a Markdown table.

for seed in 0 1 2; do make sim SEED=$seed; done
.venv/bin/python bench/seeds.py runs/*/summary.json
"""

import argparse
import json
import statistics
from pathlib import Path

COLUMNS = {
    "seed": lambda run: str(run["seed"]),
    "goals reached": lambda run: f"{100 * run['success_rate']:.0f} %",
    "median, 95 % distance": lambda run: (
        f"{1e3 * run['final_distance_m_median']:.1f}, {1e3 * run['final_distance_m_p95']:.1f} mm"
    ),
    "zero, random": lambda run: f"{100 * run['zero_success_rate']:.0f} %, {100 * run['random_success_rate']:.0f} %",
    "real steps": lambda run: str(run["real_steps"]),
    "random episodes": lambda run: str(run["random_episodes"]),
    "robot time": lambda run: f"{run['robot_time_s']:.1f} s",
    "robot time / wall": lambda run: f"{run['collection_ratio']:.3f}",
    "wall, all": lambda run: f"{run['wall_s'] / 60:.1f} min",
    "late stops": lambda run: str(run["watchdog_trips"]),
    "bus errors": lambda run: f"{run['bus_errors']} of {run['cycles']}",
    "re-armed": lambda run: str(run["rearms"]),
}


def main() -> None:
    """Print the table, the spread and the machine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("summaries", nargs="+", type=Path, help="summary.json of finished runs")
    runs = [json.loads(path.read_text()) for path in parser.parse_args().summaries]
    runs = sorted((run for run in runs if run["ended"] == "completed"), key=lambda run: run["seed"])
    if not runs:
        raise SystemExit("no run is complete: summary.json says how each ended")
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + "---|" * len(COLUMNS))
    for run in runs:
        print("| " + " | ".join(show(run) for show in COLUMNS.values()) + " |")
    rates = [run["success_rate"] for run in runs]
    print(f"\nsuccess: mean {100 * statistics.mean(rates):.1f} %, min {100 * min(rates):.0f} %, {len(runs)} seeds")
    print(f"machine: {runs[0]['machine']}; versions: {runs[0]['versions']}")


if __name__ == "__main__":
    main()
