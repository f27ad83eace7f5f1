"""One loop for every imagined rollout: the policy enters as a function; gradients flow unless the caller stops them.

Under torch.no_grad() it yields experience; with gradients, and a generator seeded alike, it is a pure and
differentiable function of whatever the policy depends on (reparameterised actions and next states, Kingma and Welling
2014, arXiv 1312.6114), which is what backpropagation through time needs.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mbrl_core.config import refuse
from mbrl_core.models.ensemble import Ensemble
from mbrl_core.models.normaliser import Normaliser
from mbrl_core.models.state_range import StateRange
from mbrl_core.policies.diagonal_gaussian import log_density
from mbrl_core.tasks.task import Task

# Normalised observations (B, O) to the action's mean (B, A) and log standard deviation (A,) or (B, A).
Act = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Rules:
    """What imagination does beyond a plain rollout; the defaults do nothing."""

    propagation: str = "rollout"  # one member for a whole rollout, or "step": a random one for every row and step
    most_disagreement: float = math.inf  # a rollout is cut before a step with more, but never before its first
    bonus: float = 0.0  # reward for a disagreement of 1
    within: StateRange | None = None  # where states are kept; None: anywhere


PLAIN = Rules()


@dataclass(frozen=True)
class Rollouts:
    """Imagined experience; time first."""

    obs: Tensor  # (H+1, B, O), normalised
    actions: Tensor  # (H, B, A), as drawn, before any limit
    log_prob: Tensor  # (H, B), of those, in nats
    rewards: Tensor  # (H, B), 0 after the end
    terminated: Tensor  # (H, B) bool, the steps with which rollouts end
    truncated: Tensor  # (H, B) bool, the last steps of rollouts that are cut: a value follows, but no step
    alive: Tensor  # (H, B) bool, the steps that are taken: what comes after the end is none
    last_states: Tensor  # (B, S)
    member: Tensor  # (H, B), which member predicts each step

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
    rules: Rules = PLAIN,
) -> Rollouts:
    """Act in the ensemble; a rollout that has terminated, or was cut, stays where it is.

    Row b lives in member b // (B / K) of the K asked, or is dealt one at every step, as the rules say.

    Args:
      task: what is known.
      ensemble: what is learned.
      act: the policy, given normalised observations.
      obs_norm: normalises observations.
      starts: (B, S), B a multiple of K.
      goals: (B, G).
      horizon: H.
      generator: draws actions and next states; without one, both are the mean.
      rules: who predicts, where to cut, what disagreement is worth, and where states are kept.

    Raises:
      ValueError: B is not a multiple of K, or there is no generator to deal members with.
      FloatingPointError: a reward or a state is not finite.
    """
    members = ensemble.asked
    if len(starts) % members:
        raise refuse("starts", f"a multiple of {members} rows", len(starts))
    state, records, alive = starts, [], torch.ones(len(starts), dtype=torch.bool, device=starts.device)
    for step in range(horizon):
        obs = obs_norm(task.observe(state, goals))
        mean, log_std = act(obs)
        action = mean + torch.exp(log_std) * _noise(mean, generator)
        sent = task.admissible(state, action)
        inputs = task.model_input(state, sent)
        disagreement = _disagreement(ensemble, inputs, rules)
        cut = alive & (disagreement > rules.most_disagreement) & (step > 0)
        alive = alive & ~cut
        change, member = _predict(ensemble, inputs, generator, rules)
        following = task.next_state(state, sent, change)
        following = rules.within.nearest(following) if rules.within else following
        following = torch.where(alive[:, None], following, state)
        reward = task.reward(state, sent, following, goals) + rules.bonus * disagreement
        reward = torch.where(alive, reward, 0.0)
        ends = alive & task.terminates(following, goals)
        records.append((obs, action, log_density(mean, log_std, action), reward, ends, cut, alive, member))
        state, alive = following, alive & ~ends
    last_obs = obs_norm(task.observe(state, goals))
    columns = (torch.stack(column) for column in zip(*records, strict=True))
    all_obs, actions, log_prob, rewards, ended, cuts, taken, member = columns
    if not (torch.isfinite(rewards).all() and torch.isfinite(state).all()):
        raise FloatingPointError("imagination: expected finite rewards and states, got NaN or infinity")
    all_obs = torch.cat([all_obs, last_obs[None]])
    truncated = torch.cat([cuts[1:], torch.zeros_like(cuts[:1])])
    return Rollouts(all_obs, actions, log_prob, rewards, ended, truncated, taken, state, member)


def _disagreement(ensemble: Ensemble, inputs: Tensor, rules: Rules) -> Tensor:
    """(B, I) to (B,); 0 where the rules do not look at it."""
    if rules.bonus or rules.most_disagreement < math.inf:
        return ensemble.disagreement(inputs)
    return torch.zeros_like(inputs[:, 0])


def _predict(
    ensemble: Ensemble, inputs: Tensor, generator: torch.Generator | None, rules: Rules
) -> tuple[Tensor, Tensor]:
    """Draw what every row's member predicts, (B, D), and say which member that is, (B,)."""
    member = ensemble.elite.repeat_interleave(len(inputs) // ensemble.asked)
    if rules.propagation == "rollout":
        return _draw(ensemble, inputs, generator), member
    if generator is None:
        raise refuse("generator", "one, to deal the members of every step", generator)
    order = torch.randperm(len(inputs), generator=generator, device=inputs.device)
    back = torch.argsort(order)
    return _draw(ensemble, inputs[order], generator)[back], member[back]


def _draw(ensemble: Ensemble, inputs: Tensor, generator: torch.Generator | None) -> Tensor:
    """What the members predict of their share of the rows, in order: (B, I) to (B, D)."""
    mean, log_var = ensemble.predict(inputs.reshape(ensemble.asked, -1, inputs.shape[-1]))
    drawn: Tensor = mean + torch.exp(0.5 * log_var) * _noise(mean, generator)
    return drawn.reshape(len(inputs), -1)


def _noise(like: Tensor, generator: torch.Generator | None) -> Tensor:
    if generator is None:
        return torch.zeros_like(like)
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)
