"""Adapting to the real world: real episodes become the batch of an inner step, as imagined rollouts do in training.

MB-MPO's last step (Clavera et al. 2018, arXiv 1809.05214): a policy that adapts to every member of the ensemble by one
gradient step adapts to reality by the same step. Advantages are estimated as in training, by the learned value.

`mbrl_core.real_batch` has what is the same on the robot: observations, advantages, which steps count. What takes torch
is here: the value, the density of what was drawn, and rollouts side by side, which the form "dice" needs.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mbrl_core.algorithms.inner_step import InnerStep, StepBatch
from mbrl_core.algorithms.report import InnerReport
from mbrl_core.bundle import AdaptationMetadata
from mbrl_core.models.normaliser import Normaliser
from mbrl_core.policies.gaussian_mlp import GaussianMlp, Parameters
from mbrl_core.real_batch import real_steps
from mbrl_core.tasks.task import Task
from mbrl_core.types import Episode, Vector


@runtime_checkable
class Adapts(Protocol):
    """A method with an inner step."""

    @property
    def inner(self) -> InnerReport:
        """What the inner steps of the last iteration came to in imagination."""

    @property
    def adaptation(self) -> AdaptationMetadata:
        """What a robot has to know to take its inner step."""

    def adapt(self, task: Task, obs_norm: Normaliser, episodes: Sequence[Episode]) -> InnerStep:
        """Take the inner step on real episodes; nothing is changed."""


@torch.no_grad()
def real_batch(
    task: Task,
    policy: GaussianMlp,
    acting: Parameters,
    value: Callable[[Tensor], Tensor],
    obs_norm: Normaliser,
    episodes: Sequence[Episode],
    *,
    discount: float,
    trace: float,
) -> StepBatch:
    """Make one task's batch of real episodes: H the longest episode's steps, B episodes.

    Args:
      task: what is known.
      policy: its shape.
      acting: the parameters that acted; `actions_asked` hold what they drew.
      value: normalised observations (T+1, O) to (T+1,), in units of the reward.
      obs_norm: normalises observations.
      episodes: what happened.
      discount: gamma, per step.
      trace: lambda of the advantage.

    Returns:
      Steps (H, B); advantages have mean 0 and spread 1. A step after the end or with a GAP has weight 0.

    Raises:
      ValueError: no step counts.
    """
    device = obs_norm.mean.device

    def evaluate(obs: Vector) -> Vector:
        return np.asarray(value(obs_norm(_tensor(obs, device))).cpu())

    parts = real_steps(task, episodes, evaluate, discount=discount, trace=trace)
    padded = (pad_sequence([_tensor(part, device) for part in column]) for column in zip(*parts, strict=True))
    raw, actions, advantages, weights = padded
    obs = obs_norm(raw)
    return StepBatch(obs, actions, policy.log_prob(acting, obs, actions), advantages, weights)


def _tensor(array: object, device: torch.device) -> Tensor:
    return torch.as_tensor(array, dtype=torch.float32, device=device)
