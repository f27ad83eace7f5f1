"""What a few real episodes say about how the world differs from the ensemble: two small fits in closed form. No torch.

- The change of the state: each member's error, in standard deviations of the target, is regressed on a constant, its
  standardised inputs and the action before this one (ridge, Hoerl and Kennard 1970). A payload, a softer servo or more
  friction moves an arm's response by about as much, and an arm that answers late does what it was told before; 500
  steps determine 26 numbers a dimension well, and what they do not say stays as learned.
- Where the reward's goal lies: the task's reward is known, the place where it is earned may not be, as on an arm whose
  link is bent or whose encoder is off. The offset d of the goal with r(s, a, s', g + d) nearest to the rewards that
  were earned is found by Gauss-Newton steps; a prior holds what the rewards do not say at 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mbrl_core.config import refuse
from mbrl_core.imagined_config import GapConfig
from mbrl_core.real_batch import check_widths
from mbrl_core.tasks.task import Task
from mbrl_core.types import Episode, Vector
from mbrl_core.world_model import Prediction, WorldModel

GAUSS_NEWTON_STEPS = 10
SMALLEST_REWARD_ERROR = 1e-3  # of the spread of the rewards: what is predicted better than that says no more


@dataclass(frozen=True)
class RealityGap:
    """How the world differs from the ensemble."""

    weights: Vector  # (K, 1 + I + A, D), error of a prediction in standard deviations of the target
    goal_offset: Vector  # (G,)

    def corrected(self, prediction: Prediction, before: Vector) -> Vector:
        """Means that allow for the gap, after actions (K, B, A) sent one step before: (K, B, D), raw units."""
        return np.asarray(prediction.mean + (_regressors(prediction, before) @ self.weights) * prediction.scale)


@dataclass(frozen=True)
class RealTransitions:
    """Steps without a GAP, of several episodes."""

    states: Vector  # (B, S)
    actions: Vector  # (B, A), as sent
    before: Vector  # (B, A), sent one step before; 0 at the beginning of an episode
    next_states: Vector  # (B, S)
    goals: Vector  # (B, G)
    rewards: Vector  # (B,)
    begins: NDArray[np.bool_]  # (B,), the first of its episode


def transitions(task: Task, episodes: Sequence[Episode]) -> RealTransitions:
    """Put the steps of episodes together.

    Raises:
      ValueError: no step counts, or an episode is not of the task's widths.
    """
    for episode in episodes:
        check_widths(task, episode)
    rows = [episode.whole for episode in episodes]
    if not any(row.any() for row in rows):
        raise refuse("episodes", "at least one step without a gap", f"{len(episodes)} episodes")
    goals = [np.broadcast_to(one.goal, (one.steps, len(one.goal))) for one in episodes]
    parts = [
        (one.states[:-1], one.actions_sent, _before(one), one.states[1:], goal, one.rewards, _first(row))
        for one, goal, row in zip(episodes, goals, rows, strict=True)
    ]
    columns = zip(*parts, strict=True)
    return RealTransitions(
        *(np.concatenate([part[row] for part, row in zip(column, rows, strict=True)]) for column in columns)
    )


def fit_gap(task: Task, model: WorldModel, real: RealTransitions, goals: Vector, config: GapConfig) -> RealityGap:
    """Fit both.

    Args:
      task: what is known.
      model: what was learned before.
      real: what happened.
      goals: (N, G), drawn by the task: their spread is the unit of the prior.
      config: settings.
    """
    offset = np.zeros(task.goal_dim)
    varies = np.ptp(goals, axis=0) > 0  # in a direction in which no two goals differ the prior has no unit
    if varies.any() and config.goal_prior > 0:
        axes = np.eye(task.goal_dim)[varies]
        offset = _goal_offset(task, real, axes, config.goal_prior * goals.std(0)[varies]) @ axes
    return RealityGap(_residual_weights(task, model, real, config.ridge), offset)


def _residual_weights(task: Task, model: WorldModel, real: RealTransitions, ridge: float) -> Vector:
    """(K, 1 + I + A, D)."""
    prediction = model.predict_all(np.asarray(task.model_input(real.states, real.actions)))
    targets = np.asarray(task.model_target(real.states, real.next_states))
    errors = (targets - prediction.mean) / prediction.scale
    inputs = _regressors(prediction, np.broadcast_to(real.before, (model.members, *real.before.shape)))
    transposed = inputs.transpose(0, 2, 1)
    curvature = transposed @ inputs + max(ridge, 1e-6) * np.eye(inputs.shape[-1])
    return np.asarray(np.linalg.solve(curvature, transposed @ errors))


def _goal_offset(task: Task, real: RealTransitions, axes: Vector, prior: Vector) -> Vector:
    """(F,), along axes (F, G); `prior` holds its standard deviation, (F,)."""

    def rewards(offset: Vector) -> Vector:
        return np.asarray(task.reward(real.states, real.actions, real.next_states, real.goals + offset @ axes))

    offset, nudges = np.zeros(len(prior)), np.diag(1e-3 * prior)
    floor = max(SMALLEST_REWARD_ERROR * float(real.rewards.std()), 1e-9)
    for _ in range(GAUSS_NEWTON_STEPS):
        error = real.rewards - rewards(offset)
        slopes = np.stack(
            [(rewards(offset + nudge) - rewards(offset - nudge)) / (2 * nudge.sum()) for nudge in nudges], axis=-1
        )
        variance = max(float(error.var()), floor * floor)
        curvature = slopes.T @ slopes / variance + np.diag(prior**-2.0)
        offset = offset + np.linalg.solve(curvature, slopes.T @ error / variance - offset / prior**2)
    return offset


def _before(episode: Episode) -> Vector:
    """(T, A)."""
    return np.concatenate([np.zeros_like(episode.actions_sent[:1]), episode.actions_sent[:-1]])


def _first(rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where the first of the rows (T,) is that count: (T,)."""
    return np.asarray(rows & (np.cumsum(rows) == 1))


def _regressors(prediction: Prediction, before: Vector) -> Vector:
    """(K, B, 1 + I + A)."""
    return np.concatenate([np.ones_like(before[..., :1]), prediction.features, before], axis=-1)
