"""Backpropagation through time through the learned model: the policy's gradient by the chain rule, not by its score.

J(theta) = mean_b (sum_t discount^t r_t + discount^L V(o_L)) over reparameterised rollouts of length L, which is H or
where a rollout is cut; the pathwise gradient of SVG (Heess et al. 2015, arXiv 1510.09142). Departures: noise is drawn
afresh in the model, not inferred from real steps (rollouts begin in real states but do not follow real ones); every
member rolls out its share. Gradients grow with the horizon where the model is chaotic: horizons are short, and the
gradient's norm is bounded.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import grad_and_value

from mbrl_core.models.roll_out import Rollouts
from mbrl_core.policies.gaussian_mlp import Parameters


class ClippedGradient(NamedTuple):
    """A gradient whose norm is bounded."""

    slope: Parameters  # by the parameters' names
    norm: float  # before it was bounded
    value: float  # of the objective


def bptt_objective(rollouts: Rollouts, last_value: Tensor, discount: float) -> Tensor:
    """Mean discounted return with the value bootstrapped at the horizon or where a rollout is cut, to be maximised.

    Args:
      rollouts: from `roll_out` with gradients.
      last_value: (B,), V of the last observations, where rollouts that ended have stayed, in units of the reward;
        differentiable through them.
      discount: gamma, per step.

    Returns:
      ().
    """
    horizon = len(rollouts.rewards)
    exponents = torch.arange(horizon, device=last_value.device)
    discounts = torch.as_tensor(discount, dtype=last_value.dtype, device=last_value.device) ** exponents
    powers = torch.tensor([discount**steps for steps in range(horizon + 1)], dtype=last_value.dtype)
    at_end = powers.to(last_value.device)[rollouts.alive.sum(0)]
    ran_on = (~rollouts.terminated.any(0)).to(last_value.dtype)
    return (discounts @ rollouts.rewards + at_end * ran_on * last_value).mean()


def clipped_gradient(
    objective: Callable[[Parameters], Tensor], parameters: Parameters, max_norm: float
) -> ClippedGradient:
    """The gradient of an objective, scaled down to `max_norm` where it is longer.

    Raises:
      FloatingPointError: the objective or its gradient is not finite.
    """
    slope, value = grad_and_value(objective)({name: tensor.detach() for name, tensor in parameters.items()})
    slope, value = {name: part.detach() for name, part in slope.items()}, value.detach()
    norm = float(torch.sqrt(torch.stack([(part * part).sum() for part in slope.values()]).sum()))
    if not torch.isfinite(value) or not norm < float("inf"):
        raise FloatingPointError(f"gradient through the model: expected a finite norm, got {norm}")
    scale = min(1.0, max_norm / max(norm, 1e-30))
    return ClippedGradient({name: scale * part for name, part in slope.items()}, norm, float(value))
