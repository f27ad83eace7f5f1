"""How much of the state space a run sees, with and without the bonus for disagreement, at the same real steps.

Space is cut into cells whose edge is a fixed share of each state entry's spread under random actions, on the same
random episodes for everybody. A step is new if it ends in a cell where its run has not been before. What counts are the
steps after the random ones at the start, which are the same in both runs of a seed. In many dimensions nearly every
cell is new: name the few entries of the state that matter.

    python bench/exploration.py --steps 1000 --seeds 0 1 2
    python bench/exploration.py --env HalfCheetah-v5 --entries 0 1 --steps 5000 --weight 0.5
"""

import argparse
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from training_runs import table, table_row

from mbrl_core.actor import RandomActor
from mbrl_core.algorithms.me_ppo import MePpoConfig, me_ppo
from mbrl_core.models.imagination import BonusConfig, ImaginationConfig
from mbrl_core.replay import Replay
from mbrl_core.types import Episode, Vector
from mbrl_sim.environment import open_environment
from mbrl_sim.gym_collect import run_episode
from mbrl_sim.gym_task import GymTask
from mbrl_sim.training import Budget, Row, Schedule, Training

HEADINGS = ("Task", "Bonus", "Real steps", "Seeds", "New cells", "of steps", "Least", "Most", "Return")
REFERENCE_SEED = 2_000_000


@dataclass(frozen=True)
class Seen:
    """What one run saw."""

    new_cells: int  # first entered after the random steps
    steps: int  # taken after the random steps
    episode_return: float  # of the final policy, without noise

    @property
    def share(self) -> float:
        """Share of steps that ended in a new cell; 0 where no policy ever acted."""
        return self.new_cells / max(self.steps, 1)


class Silent:
    """Watches and says nothing."""

    def episode(self, episode: Episode, real_steps: int) -> None:
        """An episode was collected."""

    def round(self, row: Row) -> None:
        """A round has ended."""


def cell_edges(name: str, cell: float) -> Vector:
    """Edge of a cell along each state entry, `cell` spreads of it under random actions: (S,)."""
    env = open_environment(name)
    task, rng = GymTask(env), np.random.default_rng(REFERENCE_SEED)
    actor = RandomActor(task.action_dim, hold_steps=10, take_back=False)
    runs = [run_episode(env, task, actor, seed=REFERENCE_SEED + index, rng=rng).states for index in range(10)]
    spread: Vector = np.concatenate(runs).std(0)
    return cell * np.maximum(spread, 1e-6)


def new_cells(states: Vector, edges: Vector, before: int) -> int:
    """How many cells the states (B, S) enter that the first `before` of them do not."""
    cells = [tuple(row) for row in np.floor(states / edges).astype(int).tolist()]
    return len(set(cells[before:]) - set(cells[:before]))


def run(args: argparse.Namespace, weight: float, seed: int, edges: Vector) -> Seen:
    """Train once in a temporary folder and count."""
    env = open_environment(args.env)
    task, schedule = GymTask(env), Schedule(eval_episodes=args.episodes, curve_episodes=0)
    bonus = BonusConfig(weight=weight, anneal_steps=args.anneal_steps or args.steps)
    config = MePpoConfig(imagination=ImaginationConfig(bonus=bonus, truncation=args.truncation))
    budget = Budget(env=args.env, algorithm="me-ppo", steps=args.steps, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        training = Training(env, task, me_ppo(task, config, seed=seed), Path(folder), budget, schedule)
        summary = training.run(Silent())
        episodes = Replay(Path(folder) / "episodes").episodes
    drawn = sum(episode.steps for episode in episodes if not episode.policy_versions.any())
    states = np.concatenate([episode.states[1:] for episode in episodes])
    entries = args.entries or list(range(states.shape[1]))
    count = new_cells(states[:, entries], edges[entries], drawn)
    reached = summary["eval_return_mean"]
    return Seen(count, len(states) - drawn, float("nan") if reached is None else reached)


def table_line(args: argparse.Namespace, weight: float, runs: list[Seen]) -> str:
    """One line of Markdown."""
    shares = [seen.share for seen in runs]
    cells = [args.env, f"{weight:g}", f"{args.steps:,}", str(len(runs))]
    cells += [f"{statistics.mean(seen.new_cells for seen in runs):.0f}"]
    cells += [f"{100 * share:.1f} %" for share in (statistics.mean(shares), min(shares), max(shares))]
    cells += [f"{statistics.mean(seen.episode_return for seen in runs):.1f}"]
    return table_row(cells)


def parse() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="Pendulum-v1")
    parser.add_argument("--steps", type=int, default=1_000, help="real steps of a run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--weight", type=float, default=0.3, help="of the bonus")
    parser.add_argument("--anneal-steps", type=int, default=0, help="real steps until the bonus is gone; 0 = all")
    parser.add_argument("--truncation", type=float, default=0.0, help="as imagination.truncation, for both runs")
    parser.add_argument("--cell", type=float, default=0.25, help="edge of a cell, in spreads under random actions")
    parser.add_argument("--entries", type=int, nargs="*", default=[], help="entries of the state that count; all")
    parser.add_argument("--episodes", type=int, default=20, help="of the final policy's evaluation")
    return parser.parse_args()


def main() -> None:
    """Run every seed without and with the bonus and print the table."""
    args = parse()
    torch.set_num_threads(1)
    edges = cell_edges(args.env, args.cell)
    print(table(HEADINGS, []), end="", flush=True)
    for weight in (0.0, args.weight):
        print(table_line(args, weight, [run(args, weight, seed, edges) for seed in args.seeds]), flush=True)


if __name__ == "__main__":
    main()
