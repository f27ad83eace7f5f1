"""Trust-region policy optimisation (Schulman et al. 2015, arXiv 1502.05477, eq. 14 and appendix C) as pure functions.

A step maximises a surrogate subject to a bound on a KL. Both are callables of named parameters, so the same step serves
one policy and MB-MPO's meta-parameters, whose KL is that of the adapted policies. Departures: the length of the step is
set by the damped curvature, which shortens it (damping is there because the curvature is estimated from few
observations); a step is never taken where the KL, in float arithmetic, is beyond its bound or the surrogate not higher.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mbrl_core.config import setting
from mbrl_core.policies.gaussian_mlp import GaussianMlp, Parameters

Objective = Callable[[Parameters], Tensor]


@dataclass(frozen=True, kw_only=True)
class TrpoConfig:
    """The trust region and the search in it."""

    max_kl: float = setting(0.03, doc="bound on the mean KL from the policy that acted", unit="nats", low=1e-8)
    damping: float = setting(0.01, doc="added to the Fisher matrix's diagonal", low=0.0)
    cg_iterations: int = setting(10, doc="conjugate-gradient iterations at most", low=1)
    cg_tolerance: float = setting(1e-8, doc="they stop at this squared residual, relative to the start", low=0.0)
    backtracks: int = setting(10, doc="tries of the line search before no step is taken", low=1)
    backtrack: float = setting(0.6, doc="a try is this much shorter than the one before", low=0.01, high=0.99)


@dataclass(frozen=True)
class TrpoStep:
    """What a step did."""

    parameters: Parameters  # those given, where nothing was accepted
    accepted: bool
    kl: float  # nats, from the policy that acted
    improvement: float  # of the surrogate
    gradient_norm: float  # of the surrogate


def importance_surrogate(
    policy: GaussianMlp, parameters: Parameters, obs: Tensor, actions: Tensor, log_prob: Tensor, advantages: Tensor
) -> Tensor:
    """mean(pi(a | o) / pi_acting(a | o) * A), eq. 14.

    Args:
      policy: its shape.
      parameters: its parameters.
      obs: (..., O), normalised.
      actions: (..., A).
      log_prob: (...), of the actions under the policy that acted, in nats.
      advantages: (...).

    Returns:
      (), to be maximised.
    """
    ratio = torch.exp(policy.log_prob(parameters, obs, actions) - log_prob)
    return (ratio * advantages).mean()


def trpo_step(surrogate: Objective, kl: Objective, parameters: Parameters, config: TrpoConfig) -> TrpoStep:
    """Take the longest step along the natural gradient that keeps the bound and raises the surrogate.

    Args:
      surrogate: parameters to a scalar, to be maximised; twice differentiable with `kl`.
      kl: parameters to the mean KL from the policy that acted, in nats; zero and stationary there.
      parameters: where the step begins.
      config: the trust region.

    Raises:
      FloatingPointError: the surrogate or its gradient is not finite.
    """
    start = _leaves(parameters)
    value = surrogate(start)
    slope = _flat(torch.autograd.grad(value, list(start.values()), materialize_grads=True))
    norm = float(slope.norm())
    if not (torch.isfinite(value) and torch.isfinite(slope).all()):
        raise FloatingPointError(f"surrogate gradient: expected a finite norm, got {norm}")
    before = float(value.detach())
    step = _longest_step(slope, fisher_product(kl, start, config.damping), config)
    for tries in range(config.backtracks):
        candidate = moved(parameters, config.backtrack**tries * step)
        with torch.no_grad():
            distance, improvement = float(kl(candidate)), float(surrogate(candidate)) - before
        if distance <= config.max_kl and improvement > 0:  # false for NaN
            return TrpoStep(candidate, True, distance, improvement, norm)
    with torch.no_grad():
        return TrpoStep(parameters, False, float(kl(parameters)), 0.0, norm)


def fisher_product(kl: Objective, parameters: Parameters, damping: float) -> Callable[[Tensor], Tensor]:
    """The map v -> (Hessian of the KL + damping * I) v by double backpropagation (appendix C.1).

    The KL's gradient is differentiated once per product; its graph is built once. At the policy that acted the Hessian
    is the Fisher matrix.

    Args:
      kl: parameters to the mean KL in nats.
      parameters: where the Hessian is taken.
      damping: added to its diagonal.

    Returns:
      A function of (P,) to (P,), in the order of the parameters.
    """
    leaves = _leaves(parameters)
    inputs = list(leaves.values())  # gradients are zero where the KL does not depend on a parameter
    slope = _flat(torch.autograd.grad(kl(leaves), inputs, create_graph=True, materialize_grads=True))

    def product(vector: Tensor) -> Tensor:
        curved = torch.autograd.grad(slope @ vector, inputs, retain_graph=True, materialize_grads=True)
        return _flat(curved) + damping * vector

    return product


def conjugate_gradient(
    product: Callable[[Tensor], Tensor], target: Tensor, iterations: int, tolerance: float
) -> Tensor:
    """Solve M x = target for a positive definite M that is known by its products (Hestenes and Stiefel 1952).

    Args:
      product: (P,) to (P,).
      target: (P,).
      iterations: at most.
      tolerance: stop at this squared residual, relative to the target's squared norm.

    Returns:
      (P,), the best so far where the curvature along the next direction is not positive.
    """
    solution, residual = torch.zeros_like(target), target
    direction, square = residual, residual @ residual
    enough = tolerance * square
    for _ in range(iterations):
        image = product(direction)
        curvature = direction @ image
        if not (square > enough and curvature > 0):
            break
        length = square / curvature
        solution, residual = solution + length * direction, residual - length * image
        square, previous = residual @ residual, square
        direction = residual + square / previous * direction
    return solution


def moved(parameters: Parameters, step: Tensor) -> Parameters:
    """Parameters plus a flat step (P,), in their own order, without gradient."""
    parts = torch.split(step, [tensor.numel() for tensor in parameters.values()])
    return {
        name: (tensor + part.reshape(tensor.shape)).detach()
        for (name, tensor), part in zip(parameters.items(), parts, strict=True)
    }


def _longest_step(slope: Tensor, product: Callable[[Tensor], Tensor], config: TrpoConfig) -> Tensor:
    """sqrt(2 max_kl / x^T M x) x with M x = slope: to the edge of the quadratic model's trust region (appendix C)."""
    direction = conjugate_gradient(product, slope, config.cg_iterations, config.cg_tolerance)
    curvature = direction @ product(direction)
    if not curvature > 0:  # no slope, or none left after rounding
        return torch.zeros_like(slope)
    return torch.sqrt(2 * config.max_kl / curvature) * direction


def _leaves(parameters: Parameters) -> Parameters:
    return {name: tensor.detach().clone().requires_grad_() for name, tensor in parameters.items()}


def _flat(tensors: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])
