"""Imagined rollouts: branched from real states, each in one member; what is known is computed, not learned.

Branching as in Janner et al. 2019 (arXiv 1906.08253); one member per rollout (TS-infinity of arXiv 1805.12114), so
that every rollout obeys one consistent world. Members are used evenly, by construction: row b is member b // (B / E)'s.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mbrl_core.config import refuse, setting
from mbrl_core.models.ensemble import Ensemble
from mbrl_core.models.normaliser import Normaliser
from mbrl_core.policies.gaussian_mlp import GaussianMlp, Parameters
from mbrl_core.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class ImaginationConfig:
    """Amount and length of imagined experience."""

    rollouts: int = setting(500, doc="rollouts per policy iteration; a multiple of the members", low=1)
    horizon: int = setting(20, doc="steps of a rollout, H", low=1, high=1000)


@dataclass(frozen=True)
class Rollouts:
    """Imagined experience; time first."""

    obs: Tensor  # (H+1, B, O), normalised
    actions: Tensor  # (H, B, A), as drawn, before any limit
    log_prob: Tensor  # (H, B), of those, in nats
    rewards: Tensor  # (H, B)
    last_states: Tensor  # (B, S)
    member: Tensor  # (B,), which member each rollout ran in

    @property
    def steps(self) -> int:
        """Imagined steps, H * B."""
        return self.rewards.numel()


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
    """Roll the policy out in the ensemble.

    Args:
      task: what is known.
      ensemble: what is learned.
      policy: its shape.
      parameters: its parameters.
      obs_norm: normalises observations.
      starts: (B, S), B a multiple of E.
      goals: (B, G).
      horizon: H.
      generator: draws actions and next states; without one, both are the mean.

    Raises:
      ValueError: B is not a multiple of E.
      FloatingPointError: a reward or a state is not finite.
    """
    members = ensemble.config.members
    if len(starts) % members:
        raise refuse("starts", f"a multiple of {members} rows", len(starts))
    state, records = starts, []
    for _ in range(horizon):
        obs = obs_norm(task.observe(state, goals))
        mean, log_std = policy.distribution(parameters, obs)
        action = mean + torch.exp(log_std) * _noise(mean, generator)
        sent = task.admissible(state, action)
        state = _step(task, ensemble, state, sent, generator)
        records.append((obs, action, policy.log_prob(parameters, obs, action), task.reward(sent, state, goals)))
    last_obs = obs_norm(task.observe(state, goals))
    all_obs, actions, log_prob, rewards = (torch.stack(column) for column in zip(*records, strict=True))
    if not (torch.isfinite(rewards).all() and torch.isfinite(state).all()):
        raise FloatingPointError("imagination: expected finite rewards and states, got NaN or infinity")
    member = torch.arange(members, device=starts.device).repeat_interleave(len(starts) // members)
    return Rollouts(torch.cat([all_obs, last_obs[None]]), actions, log_prob, rewards, state, member)


def _step(task: Task, ensemble: Ensemble, state: Tensor, action: Tensor, generator: torch.Generator | None) -> Tensor:
    """One step of every rollout in its own member: (B, S)."""
    inputs = task.model_input(state, action)
    mean, log_var = ensemble.predict(inputs.reshape(ensemble.config.members, -1, inputs.shape[-1]))
    change = mean + torch.exp(0.5 * log_var) * _noise(mean, generator)
    following: Tensor = task.next_state(state, action, change.reshape(len(state), -1))
    return following


def _noise(like: Tensor, generator: torch.Generator | None) -> Tensor:
    if generator is None:
        return torch.zeros_like(like)
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)
