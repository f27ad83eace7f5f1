"""What MB-MPO's inner step on real episodes would do were it larger: the learned step sizes times a factor.

For a folder of `mbrl train --algorithm mb-mpo` that has ended. Neither the episodes that are adapted to nor those of
the evaluation are training's; the first five are those of the run's own summary.

    python bench/step_sizes.py runs/robustness/Reacher-v5-mb-mpo-10000-bias-1-noise-0.1/seed-0
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import torch
from training_runs import number, table

from mbrl_core.actor import Actor
from mbrl_core.algorithms.learner_state import own_generators
from mbrl_core.checkpoint import Checkpoint, read_checkpoint
from mbrl_core.types import Episode
from mbrl_ros.train_command import make_learner, read_settings
from mbrl_sim.environment import Env, open_environment
from mbrl_sim.gym_collect import evaluate, run_episode
from mbrl_sim.gym_task import GymTask
from mbrl_sim.training import CHECKPOINT

SIZES = "step_sizes."  # what their names in a checkpoint begin with


def scaled(checkpoint: Checkpoint, factor: float) -> Checkpoint:
    """A learner's checkpoint with other step sizes."""
    arrays = {
        name: np.asarray(array * factor, dtype=array.dtype) if name.startswith(SIZES) else array
        for name, array in checkpoint.arrays.items()
    }
    return Checkpoint(arrays=arrays, facts=checkpoint.facts["learner"])


def explored(env: Env, task: GymTask, actor: Actor, seed: int, index: int) -> Episode:
    """A noisy episode, as a run adapts to after its last step."""
    (start,) = np.random.SeedSequence((seed, index, 2)).generate_state(1)
    rng = np.random.default_rng((seed, index, 3))
    return run_episode(env, task, actor, seed=int(start), index=index, rng=rng)


def main() -> None:
    """Adapt by every factor on every number of episodes, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of `mbrl train --algorithm mb-mpo`")
    parser.add_argument("--factors", type=float, nargs="+", default=[1, 3, 10, 30])
    parser.add_argument("--episodes", type=int, nargs="+", default=[5, 40], help="real episodes of a step")
    parser.add_argument("--evaluated", type=int, default=100, help="episodes of an evaluation")
    args = parser.parse_args()
    torch.set_num_threads(1)
    settings = read_settings(args.run)
    env = open_environment(settings.env, episode_steps=settings.episode_steps)
    task, checkpoint = GymTask(env), read_checkpoint(args.run / CHECKPOINT)
    learner = make_learner(task, dataclasses.replace(settings, device="cpu"))
    checkpoint = own_generators(checkpoint, learner.checkpoint())
    learner.restore(scaled(checkpoint, 1.0))
    actor = Actor(learner.bundle())
    before = evaluate(env, task, actor, episodes=args.evaluated).mean
    episodes = [explored(env, task, actor, settings.seed, index) for index in range(max(args.episodes))]
    lines = []
    for count in args.episodes:
        for factor in args.factors:
            learner.restore(scaled(checkpoint, factor))
            step = learner.adapt(episodes[:count])
            after = evaluate(env, task, Actor(step.bundle), episodes=args.evaluated).mean
            lines.append([str(count), f"{factor:g}", f"{step.kl:.2g}", number(before), number(after)])
    print(table(("Episodes", "Step sizes times", "KL", "Before", "After"), lines))


if __name__ == "__main__":
    main()
