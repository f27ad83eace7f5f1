"""Soft actor-critic of stable-baselines3 on the evaluation episodes of `mbrl train`, for the table's comparison.

The same 100 seeds, without noise. Default settings but for the learning rate on Pendulum, which is RL Zoo's.

    pip install "stable-baselines3>=2.4"
    python bench/sac.py --env Pendulum-v1 --steps 20000 --seeds 0 1 2
"""

import argparse
import sys
import time
from typing import Any

import numpy as np
from training_runs import number, over_seeds, table_row

from mbrl_core.types import Vector
from mbrl_sim.environment import action_bounds, open_environment
from mbrl_sim.gym_collect import Returns, evaluate
from mbrl_sim.gym_task import GymTask
from mbrl_sim.training import Schedule

LEARNING_RATES = {"Pendulum-v1": 1e-3}
LEARNING_RATE = 3e-4  # the library's own


class SacActor:
    """A trained model as who acts in an episode."""

    version = 0

    def __init__(self, model: Any, low: Vector, high: Vector) -> None:
        """Take the model and the environment's bounds, (A,) each."""
        self._model, self._low, self._high = model, low, high

    def draw(self, obs: Vector, rng: np.random.Generator | None = None) -> Vector:
        """Return the mean action: (O,) to (A,), in [-1, 1]."""
        action, _ = self._model.predict(obs, deterministic=True)
        scaled: Vector = 2 * (np.asarray(action, dtype=np.float64).ravel() - self._low) / (self._high - self._low) - 1
        return scaled


def run_seed(sac: Any, name: str, steps: int, seed: int, rate: float) -> Returns:
    """Train one seed and evaluate it."""
    env = open_environment(name)
    model = sac("MlpPolicy", env, learning_rate=rate, seed=seed, verbose=0, device="cpu")
    model.learn(total_timesteps=steps)
    fresh = open_environment(name)
    actor = SacActor(model, *action_bounds(fresh))
    return evaluate(fresh, GymTask(fresh), actor, episodes=Schedule().eval_episodes)


def parse() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="Pendulum-v1")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--learning-rate", type=float, help="absent = RL Zoo's for the task, or the library's own")
    return parser.parse_args()


def main() -> None:
    """Train every seed and print a line for each, and one for the table."""
    args = parse()
    try:
        import stable_baselines3
    except ImportError:
        sys.exit('bench/sac.py needs stable-baselines3, which nothing else does: pip install "stable-baselines3>=2.4"')
    rate = args.learning_rate or LEARNING_RATES.get(args.env, LEARNING_RATE)
    began_s, means = time.monotonic(), []
    for seed in args.seeds:
        returns = run_seed(stable_baselines3.SAC, args.env, args.steps, seed, rate)
        means.append(returns.mean)
        print(f"seed {seed}: mean {returns.mean:.2f}, std {returns.std:.2f}, min {returns.min:.2f}", flush=True)
    minutes = (time.monotonic() - began_s) / 60 / len(means)
    figures = over_seeds([{"mean": mean} for mean in means], "mean") or ()
    method = f"SAC, stable-baselines3 {stable_baselines3.__version__}, learning rate {rate:g}"
    cells = [args.env, method, f"{args.steps:,}", f"{len(means)} of {len(means)}", *map(number, figures)]
    print(table_row([*cells, f"{number(minutes)} minutes a seed"]))


if __name__ == "__main__":
    main()
