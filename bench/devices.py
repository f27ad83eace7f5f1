"""How long a round of learning takes on each device: the same random episodes, the same settings, fresh learners.

The rounds follow each other, as in a run; the first also pays for what a device does once and is left out.

    python bench/devices.py --devices cpu cuda
    python bench/devices.py --env HalfCheetah-v5 --steps 5000 --hidden 256 256 --horizon 15 --threads 2
"""

import argparse
import statistics
from pathlib import Path

import numpy as np
import torch
from training_runs import Spec, settings, table, table_row

from mbrl_core.actor import RandomActor
from mbrl_core.algorithms.report import RoundReport
from mbrl_core.replay import Replay
from mbrl_ros.provenance import machine, versions
from mbrl_ros.train_command import ALGORITHMS, GROUPS, make_learner
from mbrl_sim.environment import open_environment
from mbrl_sim.gym_collect import run_episode
from mbrl_sim.gym_task import GymTask

PARTS = {"fit": "fit_s", "improve": "improve_s", "validate": "validate_s", "round": "busy_s"}


def random_replay(name: str, steps: int) -> tuple[GymTask, Replay]:
    """So many real steps of random actions."""
    env = open_environment(name)
    task, replay, rng = GymTask(env), Replay(), np.random.default_rng(0)
    actor = RandomActor(task.action_dim, hold_steps=10, take_back=False)
    while replay.real_steps < steps:
        index, left = len(replay.episodes), steps - replay.real_steps
        replay.add(run_episode(env, task, actor, seed=index, index=index, rng=rng, budget=left))
    return task, replay


def spec(args: argparse.Namespace, device: str) -> Spec:
    """A run with the models' width and the horizon as asked."""
    group = GROUPS[args.algorithm]
    asked = {"device": device, f"{group}.ensemble.hidden": args.hidden, f"{group}.imagination.horizon": args.horizon}
    flags = tuple((name, value) for name, value in asked.items() if value is not None)
    return Spec(name=device, env=args.env, algorithm=args.algorithm, steps=args.steps, flags=flags)


def line(args: argparse.Namespace, device: str, reports: list[RoundReport]) -> str:
    """One line of Markdown: mean, least and most seconds of each part."""
    cells = [args.env, args.algorithm, device, str(len(reports))]
    for attribute in PARTS.values():
        seconds = [getattr(report, attribute) for report in reports]
        cells.append(f"{statistics.mean(seconds):.2f} ({min(seconds):.2f}-{max(seconds):.2f})")
    return table_row(cells)


def parse() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", nargs="+", default=["cpu", "cuda"], help="torch's names")
    parser.add_argument("--env", default="Pendulum-v1")
    parser.add_argument("--algorithm", default="me-ppo", choices=ALGORITHMS)
    parser.add_argument("--steps", type=int, default=1_000, help="real steps, random")
    parser.add_argument("--rounds", type=int, default=3, help="that are timed")
    parser.add_argument("--hidden", type=int, nargs="+", help="layers of the models; the default if absent")
    parser.add_argument("--horizon", type=int, help="of imagination; the default if absent")
    parser.add_argument("--threads", type=int, default=1, help="of torch, on the CPU")
    return parser.parse_args()


def main() -> None:
    """Time each device and print the table."""
    args = parse()
    torch.set_num_threads(args.threads)
    task, replay = random_replay(args.env, args.steps)
    print(table(("Task", "Method", "Device", "Rounds", *(f"{part}, s" for part in PARTS)), []), end="", flush=True)
    for device in args.devices:
        learner = make_learner(task, settings(spec(args, device), 0, Path()))
        reports = [learner.round(replay) for _ in range(args.rounds + 1)]
        print(line(args, device, reports[1:]), flush=True)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    print(f"\n{machine()['cpu']}, {args.threads} thread(s), {gpu}; {versions()}")


if __name__ == "__main__":
    main()
