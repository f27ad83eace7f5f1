"""Whole episodes from a Gymnasium environment, and evaluation on fixed seeds."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mbrl_core.actor import RandomActor, ZeroActor
from mbrl_core.config import refuse
from mbrl_core.types import STEP_BUDGET, TIME_LIMIT, Episode, Vector
from mbrl_sim.environment import Env
from mbrl_sim.gym_task import GymTask

EVALUATION_SEED = 1_000_000


class Acts(Protocol):
    """Anything of `mbrl_core.actor`."""

    version: int

    def draw(self, obs: Vector, rng: np.random.Generator | None = None) -> Vector:
        """(O,) to (A,), before any limit."""


@dataclass(frozen=True, kw_only=True)
class Returns:
    """Returns of whole episodes."""

    mean: float
    std: float
    min: float
    episodes: int


def run_episode(
    env: Env,
    task: GymTask,
    actor: Acts,
    *,
    seed: int,
    index: int = 0,
    rng: np.random.Generator | None = None,
    budget: int | None = None,
) -> Episode:
    """Run one episode to its end, or until the budget is used up; actions are sent within [-1, 1].

    Args:
      env: the environment.
      task: the task over it.
      actor: who acts.
      seed: of the environment's start and of all chance in it.
      index: number of the episode.
      rng: for exploration; without one the actor is deterministic.
      budget: steps at most.

    Raises:
      ValueError: the environment gave no number, or one that is not finite, an observation of another shape than its
        space, or a reward other than the known one.
    """
    obs, _ = env.reset(seed=seed)
    goal, states, ends, truncated = task.goal(obs), [task.first_state(obs)], False, False
    rows: list[tuple[Vector, Vector, float]] = []
    while not (ends or truncated or len(rows) == budget):
        asked = actor.draw(obs, rng)
        action = np.clip(asked, -1.0, 1.0)
        next_obs, paid, ends, truncated, _ = env.step(_to_env(env, task, action))
        reward = _number(f"{task.name}: reward", paid)
        states.append(task.state_after(obs, action, next_obs, reward, ends))
        rows.append((asked, action, reward))
        obs = next_obs
    asked_actions, actions, rewards = (np.array(column) for column in zip(*rows, strict=True))
    return Episode(
        states=np.array(states),
        goal=goal,
        actions_asked=asked_actions,
        actions_sent=actions,
        rewards=rewards,
        stamps_s=np.arange(len(states)) * task.step_s,
        flags=np.zeros(len(rows), dtype=np.uint8),  # whatever lies in [-1, 1] is sent as it is
        policy_versions=np.full(len(rows), actor.version, dtype=np.uint32),
        episode=index,
        arm="",
        task=task.name,
        terminated=bool(ends),
        truncated=not ends,
        end_reason="terminated" if ends else TIME_LIMIT if truncated else STEP_BUDGET,
        exploring=rng is not None,
    )


def evaluate(env: Env, task: GymTask, actor: Acts, *, episodes: int, seed: int = EVALUATION_SEED) -> Returns:
    """Return what an actor reaches without exploration on the seeds from `seed` on."""
    returns = [
        run_episode(env, task, actor, seed=seed + index, rng=_rng_for(actor, seed + index)).episode_return
        for index in range(episodes)
    ]
    return Returns(
        mean=float(np.mean(returns)), std=float(np.std(returns)), min=float(np.min(returns)), episodes=episodes
    )


def baselines(env: Env, task: GymTask, *, episodes: int, seed: int = EVALUATION_SEED) -> dict[str, Returns]:
    """What "zero" (the middle of the bounds) and "random" (uniform) actions reach on the same seeds."""
    actors: dict[str, Acts] = {
        "zero": ZeroActor(task.action_dim),
        "random": RandomActor(task.action_dim, hold_steps=1, take_back=False),
    }
    return {name: evaluate(env, task, actor, episodes=episodes, seed=seed) for name, actor in actors.items()}


def _number(name: str, value: object) -> float:
    """A scalar of Python or numpy; an array, though it hold one number only, is none."""
    array = np.asarray(value)
    if array.shape != () or array.dtype.kind not in "fiub":
        got = f"an array of shape {array.shape}" if array.shape else value
        raise refuse(name, "a number", got)
    return float(array)


def _rng_for(actor: Acts, seed: int) -> np.random.Generator | None:
    return np.random.default_rng(seed) if isinstance(actor, RandomActor) else None


def _to_env(env: Env, task: GymTask, action: Vector) -> Vector:
    space = env.action_space
    converted: Vector = np.asarray(task.env_action(action), dtype=space.dtype).reshape(space.shape)
    return converted
