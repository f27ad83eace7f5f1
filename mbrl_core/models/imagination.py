"""Imagined rollouts: branched from real states, each in one member; what is known is computed, not learned.

Branching as in Janner et al. 2019 (arXiv 1906.08253); one member per rollout (TS-infinity of arXiv 1805.12114), so
that every rollout obeys one consistent world. Members are used evenly, by construction: row b is that of member
b // (B / K) of the K asked.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from mbrl_core.config import setting
from mbrl_core.models.ensemble import Ensemble
from mbrl_core.models.normaliser import Normaliser
from mbrl_core.models.roll_out import Rollouts, roll_out
from mbrl_core.policies.gaussian_mlp import GaussianMlp, Parameters
from mbrl_core.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class ImaginationConfig:
    """Amount and length of imagined experience."""

    rollouts: int = setting(500, doc="rollouts per policy iteration; a multiple of the members", low=1)
    horizon: int = setting(20, doc="steps of a rollout, H", low=1, high=1000)


@torch.no_grad()
def imagine(
    task: Task,
    ensemble: Ensemble,
    policy: GaussianMlp,
    parameters: Parameters,
    obs_norm: Normaliser,
    starts: Tensor,
    goals: Tensor,
    horizon: int,
    generator: torch.Generator | None,
) -> Rollouts:
    """Roll the policy out in the ensemble; a rollout that terminates stays where it is.

    Args:
      task: what is known.
      ensemble: what is learned.
      policy: its shape.
      parameters: its parameters.
      obs_norm: normalises observations.
      starts: (B, S), B a multiple of K.
      goals: (B, G).
      horizon: H.
      generator: draws actions and next states; without one, both are the mean.

    Raises:
      ValueError: B is not a multiple of K.
      FloatingPointError: a reward or a state is not finite.
    """
    act = partial(policy.distribution, parameters)
    return roll_out(task, ensemble, act, obs_norm, starts, goals, horizon, generator)
