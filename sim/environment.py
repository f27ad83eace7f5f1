"""Any Gymnasium environment with a continuous action space, opened and checked."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from mbrl_core.config import refuse
from mbrl_core.types import Vector

Env = gymnasium.Env[Any, Any]


def open_environment(name: str, *, episode_steps: int = 0) -> Env:
    """Make an environment by its id; observations that are no vector are flattened.

    Args:
      name: what gymnasium.make takes, for example Pendulum-v1.
      episode_steps: length of an episode; 0 = the environment's own.

    Raises:
      ValueError: unknown, not installed, no time limit, or its actions are not continuous and bounded.
    """
    limits = {"max_episode_steps": episode_steps} if episode_steps else {}
    try:
        env: Env = gymnasium.make(name, disable_env_checker=True, **limits)
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        raise refuse("env", "an environment that is installed", f"{name}: {error}") from error
    except gymnasium.error.Error as error:
        raise refuse("env", "an environment that Gymnasium knows", f"{name}: {error}") from error
    except Exception as error:  # whatever the environment's own code raises
        raise refuse("env", "an environment that opens", f"{name}: {type(error).__name__}: {error}") from error
    _check_actions(name, env.action_space)
    if env.spec is None or not env.spec.max_episode_steps:
        env.close()
        raise refuse(f"{name}: max_episode_steps", "a time limit, or --episode-steps", None)
    if not isinstance(env.observation_space, Box) or len(env.observation_space.shape) != 1:
        env = _flattened(name, env)
    return env


def _flattened(name: str, env: Env) -> Env:
    space = env.observation_space
    try:
        flat = gymnasium.wrappers.FlattenObservation(env)
    except NotImplementedError:
        flat = None
    if flat is None or not isinstance(flat.observation_space, Box):
        raise refuse(f"{name}: observation_space", "one of fixed size", str(space))
    return flat


def action_bounds(env: Env) -> tuple[Vector, Vector]:
    """Lower and upper bounds of the flattened action: (A,), (A,)."""
    space = env.action_space
    return np.asarray(space.low, dtype=np.float64).ravel(), np.asarray(space.high, dtype=np.float64).ravel()


def _check_actions(name: str, space: gymnasium.Space[Any]) -> None:
    if not isinstance(space, Box) or not np.issubdtype(space.dtype, np.floating):
        raise refuse(f"{name}: action_space", "continuous, a Box of real numbers", str(space))
    if not (np.isfinite(space.low).all() and np.isfinite(space.high).all() and (space.low < space.high).all()):
        raise refuse(f"{name}: action_space", "finite bounds, low below high", str(space))
