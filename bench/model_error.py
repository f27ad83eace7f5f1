"""What the models know of each entry of the state: variance explained on held-out steps, after a fit from scratch.

An entry of which they know nothing is one that no policy can learn to move in them, however long it is improved. The
episodes are those of a run of `mbrl train`; its ensemble's settings are used but for what is named here, without errors
made on purpose.

    python bench/model_error.py runs/pusher --beta 0 0.5 1
    python bench/model_error.py runs/pusher --fits 8 --hidden 256 256 --entries 17 18
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import torch
from training_runs import table

from mbrl_core.algorithms.dataset import Dataset, dataset
from mbrl_core.models.ensemble import Ensemble, EnsembleConfig
from mbrl_ros.train_command import GROUPS, read_settings
from mbrl_sim.environment import open_environment
from mbrl_sim.gym_task import GymTask
from mbrl_sim.training import run_replay


def explained(ensemble: Ensemble, data: Dataset) -> np.ndarray:
    """Share of each target's variance that the members' mean explains: (D,), nan where a target does not vary."""
    with torch.no_grad():
        mean, _ = ensemble.predict(data.held_inputs)
    left = (data.held_targets - mean.mean(0)).square().mean(0)
    variance = data.held_targets.var(0, correction=0)
    return torch.where(variance > 1e-12, 1.0 - left / variance, torch.nan).numpy()


def row(data: Dataset, config: EnsembleConfig, fits: int, entries: list[int]) -> list[str]:
    """Fit from scratch and show one line."""
    ensemble = Ensemble(data.inputs.shape[1], data.targets.shape[1], config, seed=0)
    steps = 0
    for _ in range(fits):
        fit = ensemble.fit(data.inputs, data.targets, data.held_inputs, data.held_targets)
        steps += fit.steps
    shares = explained(ensemble, data)
    cells = [f"{config.beta:g}", "x".join(map(str, config.hidden)), f"{steps:,}"]
    cells += [f"{np.mean(values):.3f}" for values in (fit.holdout_error, fit.holdout_loss)]
    return [*cells, *(f"{shares[entry]:.2f}" for entry in entries)]


def parse() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of `mbrl train`")
    parser.add_argument("--beta", type=float, nargs="+", default=[0.0], help="as ensemble.beta, one line each")
    parser.add_argument("--hidden", type=int, nargs="+", help="as ensemble.hidden; the run's if absent")
    parser.add_argument("--fits", type=int, default=4, help="fits in a row, each of at most ensemble.max_steps")
    parser.add_argument("--entries", type=int, nargs="*", help="entries of the learned change that are shown; all")
    return parser.parse_args()


def main() -> None:
    """Fit once for each beta and print the table."""
    args = parse()
    if args.fits < 1:
        raise SystemExit(f"--fits: expected at least 1, got {args.fits}")
    torch.set_num_threads(1)
    settings = read_settings(args.run)
    task = GymTask(open_environment(settings.env, episode_steps=settings.episode_steps))
    data = dataset(run_replay(args.run, settings.schedule), task, "cpu")
    config = getattr(settings, GROUPS[settings.algorithm]).ensemble
    config = dataclasses.replace(config, hidden=tuple(args.hidden or config.hidden))
    entries = list(range(task.learned_dim)) if args.entries is None else args.entries
    for entry in entries:
        if not 0 <= entry < task.learned_dim:
            raise SystemExit(f"--entries: expected 0 to {task.learned_dim - 1}, got {entry}")
    headings = ("beta", "hidden", "gradient steps", "squared error", "nats", *(f"entry {entry}" for entry in entries))
    lines = [row(data, dataclasses.replace(config, beta=beta), args.fits, entries) for beta in args.beta]
    print(f"{settings.env}, {data.real_steps:,} real steps; variance explained of each entry's change\n")
    print(table(headings, lines))


if __name__ == "__main__":
    main()
