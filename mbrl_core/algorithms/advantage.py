"""Generalised advantage estimation (Schulman et al. 2016, arXiv 1506.02438, eq. 16)."""

import torch
from torch import Tensor


def gae(
    rewards: Tensor,
    values: Tensor,
    discount: float,
    trace: float,
    terminated: Tensor | None = None,
    truncated: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Advantages A_t = sum_l (discount * trace)^l delta_{t+l}, delta_t = r_t + discount * V_{t+1} - V_t.

    Args:
      rewards: (H, B).
      values: (H+1, B); the last row is the value bootstrapped at the horizon.
      discount: gamma, per step.
      trace: lambda.
      terminated: (H, B) bool, where no value follows; without it, nowhere.
      truncated: (H, B) bool, after which the value of the state that is reached follows but no step, as at the
        horizon; without it, nowhere.

    Returns:
      Advantages (H, B) and returns (H, B), advantage plus value.
    """
    follows = torch.ones_like(rewards) if terminated is None else (~terminated).to(rewards.dtype)
    traced = follows if truncated is None else follows * (~truncated).to(rewards.dtype)
    delta = rewards + discount * follows * values[1:] - values[:-1]
    advantages = torch.empty_like(rewards)
    running = torch.zeros_like(rewards[0])
    for step in range(len(rewards) - 1, -1, -1):
        running = delta[step] + discount * trace * traced[step] * running
        advantages[step] = running
    return advantages, advantages + values[:-1]
