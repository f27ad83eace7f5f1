"""Vanilla model-based RL: one model, and a policy improved in it as if it were the world.

The baseline that the ensemble is measured against (Kurutach et al. 2018, arXiv 1802.10592, section 3): everything is
ME-PPO's but that there is one member, so nothing tells where the model is wrong, and every update is accepted.
"""

import dataclasses

from mbrl_core.algorithms.learner import Learner
from mbrl_core.algorithms.me_ppo import MePpoConfig, me_ppo
from mbrl_core.tasks.task import Task


def vanilla(task: Task, config: MePpoConfig | None = None, *, seed: int = 0, device: str = "cpu") -> Learner:
    """Return a learner with a single model; the config's members, elites and share of the 70 % rule are not used.

    Raises:
      ValueError: a setting is out of bounds.
    """
    config = config or MePpoConfig()
    single = dataclasses.replace(
        config,
        ensemble=dataclasses.replace(config.ensemble, members=1, elites=0),
        validation=dataclasses.replace(config.validation, ratio=0.0),
    )
    return me_ppo(task, single, seed=seed, device=device)
