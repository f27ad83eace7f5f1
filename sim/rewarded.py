"""An environment with another reward: the same world, asked for something else."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np

from mbrl_core.types import Array
from mbrl_sim.environment import Env
from mbrl_sim.gym_task import GymTask
from mbrl_sim.known_environments import known

Reward = Callable[[Array, Array, Array], Array]  # obs (..., O), the environment's action (..., A), next_obs: to (...)


class Rewarded(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Pays what a function says of each step; whatever else an environment of `open_environment` does stays."""

    def __init__(self, env: Env, reward: Reward) -> None:
        """Take the environment and its new reward."""
        super().__init__(env)
        self._reward = reward
        self._obs = np.zeros(0)

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        obs, info = self.env.reset(**options)
        self._obs = np.array(obs)
        return obs, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step, paid by the function."""
        obs, _, terminated, truncated, info = self.env.step(action)
        reward = float(self._reward(self._obs, np.asarray(action, dtype=np.float64).ravel(), np.asarray(obs)))
        self._obs = np.array(obs)
        return obs, reward, terminated, truncated, info


def rewarded_task(env: Env, reward: Reward) -> tuple[Env, GymTask]:
    """The environment and its task under another reward; states stay what they were, whatever it was learned from."""
    facts = known(env.spec.id if env.spec else "")
    task = GymTask(env, replace(facts, reward=reward, rest_of_reward=False), idle_rest=facts.learns_reward)
    return Rewarded(env, reward), task
