"""One loop for every imagined rollout: the policy enters as a function; gradients flow unless the caller stops them.

Under torch.no_grad() it yields experience; with gradients, and a generator seeded alike, it is a pure and
differentiable function of whatever the policy depends on (reparameterised actions and next states, Kingma and Welling
2014, arXiv 1312.6114), which is what backpropagation through time needs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mbrl_core.config import refuse
from mbrl_core.models.ensemble import Ensemble
from mbrl_core.models.normaliser import Normaliser
from mbrl_core.policies.diagonal_gaussian import log_density
from mbrl_core.tasks.task import Task

# Normalised observations (B, O) to the action's mean (B, A) and log standard deviation (A,) or (B, A).
Act = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Rollouts:
    """Imagined experience; time first."""

    obs: Tensor  # (H+1, B, O), normalised
    actions: Tensor  # (H, B, A), as drawn, before any limit
    log_prob: Tensor  # (H, B), of those, in nats
    rewards: Tensor  # (H, B), 0 after the end
    terminated: Tensor  # (H, B) bool, the steps with which rollouts end
    alive: Tensor  # (H, B) bool, the steps that are taken: what comes after the end is none
    last_states: Tensor  # (B, S)
    member: Tensor  # (B,), which member each rollout ran in

    @property
    def steps(self) -> int:
        """Imagined steps, at most H * B."""
        return int(self.alive.sum())


def roll_out(
    task: Task,
    ensemble: Ensemble,
    act: Act,
    obs_norm: Normaliser,
    starts: Tensor,
    goals: Tensor,
    horizon: int,
    generator: torch.Generator | None,
) -> Rollouts:
    """Act in the ensemble; row b lives in member b // (B / K) of the K asked, and stays where it is once it has ended.

    Args:
      task: what is known.
      ensemble: what is learned.
      act: the policy, given normalised observations.
      obs_norm: normalises observations.
      starts: (B, S), B a multiple of K.
      goals: (B, G).
      horizon: H.
      generator: draws actions and next states; without one, both are the mean.

    Raises:
      ValueError: B is not a multiple of K.
      FloatingPointError: a reward or a state is not finite.
    """
    members = ensemble.asked
    if len(starts) % members:
        raise refuse("starts", f"a multiple of {members} rows", len(starts))
    state, records, alive = starts, [], torch.ones(len(starts), dtype=torch.bool, device=starts.device)
    for _ in range(horizon):
        obs = obs_norm(task.observe(state, goals))
        mean, log_std = act(obs)
        action = mean + torch.exp(log_std) * _noise(mean, generator)
        sent = task.admissible(state, action)
        following = torch.where(alive[:, None], _step(task, ensemble, state, sent, generator), state)
        reward = torch.where(alive, task.reward(state, sent, following, goals), 0.0)
        ends = alive & task.terminates(following, goals)
        records.append((obs, action, log_density(mean, log_std, action), reward, ends, alive))
        state, alive = following, alive & ~ends
    last_obs = obs_norm(task.observe(state, goals))
    all_obs, actions, log_prob, rewards, ended, taken = (torch.stack(column) for column in zip(*records, strict=True))
    if not (torch.isfinite(rewards).all() and torch.isfinite(state).all()):
        raise FloatingPointError("imagination: expected finite rewards and states, got NaN or infinity")
    member = ensemble.elite.repeat_interleave(len(starts) // members)
    all_obs = torch.cat([all_obs, last_obs[None]])
    return Rollouts(all_obs, actions, log_prob, rewards, ended, taken, state, member)


def _step(task: Task, ensemble: Ensemble, state: Tensor, action: Tensor, generator: torch.Generator | None) -> Tensor:
    """One step of every rollout in its own member: (B, S)."""
    inputs = task.model_input(state, action)
    mean, log_var = ensemble.predict(inputs.reshape(ensemble.asked, -1, inputs.shape[-1]))
    change = mean + torch.exp(0.5 * log_var) * _noise(mean, generator)
    following: Tensor = task.next_state(state, action, change.reshape(len(state), -1))
    return following


def _noise(like: Tensor, generator: torch.Generator | None) -> Tensor:
    if generator is None:
        return torch.zeros_like(like)
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)
