"""Real episodes as the batch of an inner step: the same numpy code in training and on the robot.

Actions are as the policy drew them: what an arm or an environment cut off still has the density of what was drawn, and
none of its own. The reward and the next state are those of the action that was sent. Computed in float64, handed on in
float32.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mbrl_core.algorithms.advantage import gae, standardised_advantages
from mbrl_core.config import refuse
from mbrl_core.tasks.task import Task
from mbrl_core.types import Episode, Vector

Single = NDArray[np.float32]


class RealBatch(NamedTuple):
    """Steps of real episodes, one after the other."""

    obs: Single  # (B, O), raw units
    actions: Single  # (B, A), as drawn, before any limit
    log_prob: Single  # (B,), of those under the policy that acted, in nats
    advantages: Single  # (B,), mean 0 and spread 1 over the steps that count
    weights: Single  # (B,), 1 where a step counts, 0 where it has a GAP


class RealSteps(NamedTuple):
    """The steps of one episode; T of them."""

    obs: Single  # (T, O), raw units
    actions: Single  # (T, A), as drawn
    advantages: Single  # (T,), standardised over all episodes of the batch
    weights: Single  # (T,)


def check_widths(task: Task, episode: Episode) -> None:
    """Refuse an episode of another task.

    Raises:
      ValueError: states, goal or actions are not of the task's widths.
    """
    widths = {"states": task.state_dim, "goal": task.goal_dim}
    for name, width in (widths | dict.fromkeys(("actions_asked", "actions_sent"), task.action_dim)).items():
        shape = getattr(episode, name).shape
        if shape[-1:] != (width,):
            raise refuse(f"episode.{name}", f"width {width}", shape)


def observations(task: Task, episode: Episode) -> Vector:
    """What the policy saw, and where the episode ended: (T+1, O), raw units.

    Raises:
      ValueError: as for `check_widths`.
    """
    check_widths(task, episode)
    goals = np.broadcast_to(episode.goal, (len(episode.states), task.goal_dim))
    return np.asarray(task.observe(np.asarray(episode.states, dtype=np.float64), goals))


def real_steps(
    task: Task,
    episodes: Sequence[Episode],
    value: Callable[[Vector], Vector],
    *,
    discount: float,
    trace: float,
) -> list[RealSteps]:
    """Observe the episodes' steps and estimate their advantages; the value follows where time ran out.

    Args:
      task: what is known.
      episodes: what happened.
      value: raw observations (T+1, O) to (T+1,), in units of the reward.
      discount: gamma, per step.
      trace: lambda of the advantage.

    Raises:
      ValueError: no step counts, or an episode is not of the task's widths.
    """
    weights = [episode.whole.astype(np.float64) for episode in episodes]
    if not any(part.any() for part in weights):
        raise refuse("episodes", "at least one step without a gap", f"{len(episodes)} episodes")
    obs = [observations(task, episode) for episode in episodes]
    raw = [_advantages(episode, value(rows), discount, trace) for episode, rows in zip(episodes, obs, strict=True)]
    joined = standardised_advantages(np.concatenate(raw), np.concatenate(weights), (-1,))
    advantages = np.split(joined, np.cumsum([episode.steps for episode in episodes])[:-1])
    return [
        RealSteps(*(_single(column) for column in (rows[:-1], episode.actions_asked, advantage, weight)))
        for episode, rows, advantage, weight in zip(episodes, obs, advantages, weights, strict=True)
    ]


def real_batch(
    task: Task,
    episodes: Sequence[Episode],
    log_probs: Sequence[Vector],
    value: Callable[[Vector], Vector],
    *,
    discount: float,
    trace: float,
) -> RealBatch:
    """Make one batch of all steps; `log_probs` holds, by episode, those of what was drawn, (T,) nats each.

    Raises:
      ValueError: as for `real_steps`.
    """
    parts = real_steps(task, episodes, value, discount=discount, trace=trace)
    obs, actions, advantages, weights = (np.concatenate(column) for column in zip(*parts, strict=True))
    return RealBatch(obs, actions, _single(np.concatenate(list(log_probs))), advantages, weights)


def _advantages(episode: Episode, values: Vector, discount: float, trace: float) -> Vector:
    """Not standardised: (T,)."""
    if not episode.steps:
        return np.zeros(0)
    ends = np.zeros((episode.steps, 1), dtype=bool)
    ends[-1] = episode.terminated
    rewards = np.asarray(episode.rewards, dtype=np.float64)[:, None]
    advantages, _ = gae(rewards, np.asarray(values, dtype=np.float64)[:, None], discount, trace, ends)
    return np.asarray(advantages[:, 0])


def _single(array: Vector) -> Single:
    return np.ascontiguousarray(array, dtype=np.float32)
