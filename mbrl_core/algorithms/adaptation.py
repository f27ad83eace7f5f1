"""Adapting to the real world: real episodes become the batch of an inner step, as imagined rollouts do in training.

MB-MPO's last step (Clavera et al. 2018, arXiv 1809.05214): a policy that adapts to every member of the ensemble by one
gradient step adapts to reality by the same step. Advantages are estimated as in training, by the learned value.

The step needs actions as the policy drew them: what an arm or an environment cut off still has the density of what was
drawn, and none of its own. The reward and the next state are those of the action that was sent, in reality as in
imagination.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mbrl_core.algorithms.advantage import gae
from mbrl_core.algorithms.inner_step import InnerStep, StepBatch, standardised
from mbrl_core.algorithms.report import InnerReport
from mbrl_core.config import refuse
from mbrl_core.models.normaliser import Normaliser
from mbrl_core.policies.gaussian_mlp import GaussianMlp, Parameters
from mbrl_core.tasks.task import Task
from mbrl_core.types import Episode, StepFlag


@runtime_checkable
class Adapts(Protocol):
    """A method with an inner step."""

    @property
    def inner(self) -> InnerReport:
        """What the inner steps of the last iteration came to in imagination."""

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
    columns = [_columns(task, value, obs_norm, episode, discount, trace) for episode in episodes]
    if not any(weights.any() for *_, weights in columns):
        raise refuse("episodes", "at least one step without a gap", f"{len(episodes)} episodes")
    obs, actions, advantages, weights = (pad_sequence(list(column)) for column in zip(*columns, strict=True))
    log_prob = policy.log_prob(acting, obs, actions)
    return standardised(StepBatch(obs, actions, log_prob, advantages, weights))


def _columns(
    task: Task,
    value: Callable[[Tensor], Tensor],
    obs_norm: Normaliser,
    episode: Episode,
    discount: float,
    trace: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Observations (T, O), actions (T, A), advantages (T,) and weights (T,); the value follows where time ran out."""

    def tensor(array: object) -> Tensor:
        return torch.as_tensor(array, dtype=torch.float32, device=obs_norm.mean.device)

    states = tensor(episode.states)
    obs = obs_norm(task.observe(states, tensor(episode.goal).expand(len(states), -1)))
    ends = torch.zeros(episode.steps, 1, dtype=torch.bool, device=obs.device)
    ends[-1] = episode.terminated
    advantages, _ = gae(tensor(episode.rewards)[:, None], value(obs)[:, None], discount, trace, ends)
    weights = tensor((episode.flags & StepFlag.GAP) == 0)
    return obs[:-1], tensor(episode.actions_asked), advantages[:, 0], weights
