"""What is known of some Gymnasium environments beyond their spaces. What is not known of an environment is learned.

The functions take raw observations and actions as the environment gets them, with any leading axes (xp). Each is the
environment's own formula, and tests/sim compares it with the environment itself.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace

from mbrl_core.types import Array, Vector


@dataclass(frozen=True, kw_only=True)
class Known:
    """Facts about an environment; entries are of its observation, O."""

    reward: Callable[[Array, Array, Array], Array] | None = None  # obs, action, next_obs to reward
    rest_of_reward: bool = False  # whether the reward has a further part, which is learned
    terminates: Callable[[Array], Array] | None = None  # obs to bool
    circles: tuple[tuple[int, int], ...] = ()  # entries that are cosine and sine of one angle
    angles: tuple[int, ...] = ()  # entries that are angles without bounds, rad
    goal: tuple[int, int] = (0, 0)  # first and behind the last entry of the goal, which is no dynamics
    relative: tuple[tuple[int, int], ...] = ()  # an entry, and the entry of the goal that is subtracted in it
    sample_goal: Callable[[np.random.Generator, int], Vector] | None = None  # to (count, G)

    @property
    def learns_reward(self) -> bool:
        """Whether the reward, or a part of it, has to be learned."""
        return self.reward is None or self.rest_of_reward


def known(name: str) -> Known:
    """Facts about the environment with this id; nothing for one that is not listed here."""
    return _KNOWN.get(name, Known())


def nowhere(obs: Array) -> Array:
    """For environments that never terminate: (..., O) to (...) bool."""
    return obs[..., 0] != obs[..., 0]


def pendulum_reward(obs: Array, action: Array, next_obs: Array) -> Array:
    """-(angle^2 + 0.1 speed^2 + 0.001 torque^2), before the step; the angle is 0 upright."""
    angle = array_namespace(obs).atan2(obs[..., 1], obs[..., 0])
    return -(angle**2 + 0.1 * obs[..., 2] ** 2 + 0.001 * action[..., 0] ** 2)


def reacher_reward(obs: Array, action: Array, next_obs: Array) -> Array:
    """-|tip - target| - |action|^2, after the step."""
    return -_length(next_obs[..., 8:10]) - _square(action)


def pusher_reward(obs: Array, action: Array, next_obs: Array) -> Array:
    """-0.5 |object - tip| - |object - goal| - 0.1 |action|^2, after the step."""
    tip, thing, goal = next_obs[..., 14:17], next_obs[..., 17:20], next_obs[..., 20:23]
    return -0.5 * _length(thing - tip) - _length(thing - goal) - 0.1 * _square(action)


def cheetah_control_cost(obs: Array, action: Array, next_obs: Array) -> Array:
    """-0.1 |action|^2: the other part, the mean forward speed over the step, is in no observation."""
    return -0.1 * _square(action)


def pole_falls(obs: Array) -> Array:
    """Whether the pole leans by more than 0.2 rad: (..., 4) to (...) bool."""
    return (obs[..., 1] > 0.2) | (obs[..., 1] < -0.2)


def pole_reward(obs: Array, action: Array, next_obs: Array) -> Array:
    """1 unless the pole falls."""
    xp = array_namespace(next_obs)
    return xp.where(pole_falls(next_obs), xp.zeros_like(next_obs[..., 0]), xp.ones_like(next_obs[..., 0]))


def targets_in_reach(rng: np.random.Generator, count: int) -> Vector:
    """Reacher's targets: uniform in a disc of 0.2 m: (count, 2)."""
    radius, angle = 0.2 * np.sqrt(rng.random(count)), 2 * math.pi * rng.random(count)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)


def pusher_goal(rng: np.random.Generator, count: int) -> Vector:
    """Pusher's goal, always the same: (count, 3) m."""
    return np.tile([0.45, -0.05, -0.323], (count, 1))


def _square(x: Array) -> Array:
    return array_namespace(x).sum(x * x, axis=-1)


def _length(x: Array) -> Array:
    return array_namespace(x).sqrt(_square(x))


_KNOWN = {
    "Pendulum-v1": Known(reward=pendulum_reward, terminates=nowhere, circles=((0, 1),)),
    "Reacher-v5": Known(
        reward=reacher_reward,
        terminates=nowhere,
        circles=((0, 2), (1, 3)),
        goal=(4, 6),
        relative=((8, 4), (9, 5)),
        sample_goal=targets_in_reach,
    ),
    "Pusher-v5": Known(reward=pusher_reward, terminates=nowhere, goal=(20, 23), sample_goal=pusher_goal),
    "InvertedPendulum-v5": Known(reward=pole_reward, terminates=pole_falls),
    "HalfCheetah-v5": Known(reward=cheetah_control_cost, rest_of_reward=True, terminates=nowhere, angles=(1,)),
    "Swimmer-v5": Known(terminates=nowhere, angles=(0,)),
}
