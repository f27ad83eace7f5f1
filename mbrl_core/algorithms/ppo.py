"""Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347, eq. 7) with a learned value function.

Departures: no value clipping and no entropy term (the policy's smallest spread is bounded instead); an update stops
early when the policy has moved by more than `max_kl`; several value functions, each with its own rows, share an update
by the mean of their losses; a cost of mean actions outside [-1, 1] (`gaussian_mlp.py`), in spreads of the advantages.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mbrl_core.algorithms.minibatches import bootstrapped, shuffled
from mbrl_core.algorithms.value import ValueMlp
from mbrl_core.config import setting
from mbrl_core.policies.gaussian_mlp import GaussianMlp, Parameters


@dataclass(frozen=True, kw_only=True)
class PpoConfig:
    """The policy's update."""

    discount: float = setting(0.98, doc="gamma, per policy step", low=0.0, high=1.0)
    trace: float = setting(0.95, doc="lambda of the advantage", low=0.0, high=1.0)
    clip: float = setting(0.2, doc="bound on the probability ratio's distance from 1", low=0.01, high=1.0)
    epochs: int = setting(2, doc="passes over the imagined steps", low=1)
    minibatch: int = setting(2000, doc="imagined steps per gradient step", low=1)
    learning_rate: float = setting(1e-3, doc="Adam's step size, policy and value", low=1e-7, high=1.0)
    max_gradient: float = setting(1.0, doc="the gradient is scaled down to this norm", low=1e-6)
    max_kl: float = setting(0.03, doc="an update stops beyond this distance from the old policy", unit="nats", low=0)
    value_hidden: tuple[int, ...] = setting((64, 64), doc="widths of the value function's hidden layers", low=1)
    value_members: int = setting(
        1, doc="value functions, each with its own bootstrap; their mean is used", low=1, high=64
    )


@dataclass(frozen=True)
class Samples:
    """What an update learns from; one row per imagined step."""

    obs: Tensor  # (B, O), normalised
    actions: Tensor  # (B, A)
    log_prob: Tensor  # (B,), under the policy that acted
    advantages: Tensor  # (B,), of zero mean and unit spread
    returns: Tensor  # (B,)


def clipped_loss(ratio: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """-mean(min(r A, clip(r, 1 - eps, 1 + eps) A)), eq. 7: (B,), (B,) to ()."""
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages).mean()


def kl_estimate(log_ratio: Tensor) -> Tensor:
    """Mean of r - 1 - log r over actions of the old policy: an unbiased estimate of KL(old | new) in nats."""
    return (torch.expm1(log_ratio) - log_ratio).mean()


class PpoUpdate:
    """Policy and value parameters with their optimiser."""

    def __init__(self, policy: GaussianMlp, value: ValueMlp, config: PpoConfig, generator: torch.Generator) -> None:
        """Draw initial parameters."""
        self._policy, self._value, self._config, self._generator = policy, value, config, generator
        self.replace(*self.initial())

    def initial(self) -> tuple[Parameters, Parameters]:
        """Draw fresh parameters of policy and value."""
        return self._policy.initial(self._generator), self._value.initial(self._generator)

    def replace(self, policy_parameters: Parameters, value_parameters: Parameters) -> None:
        """Go on from other parameters, with a fresh optimiser."""
        self.policy_parameters = {name: tensor.detach().clone() for name, tensor in policy_parameters.items()}
        self.value_parameters = {name: tensor.detach().clone() for name, tensor in value_parameters.items()}
        self._trained = [*self.policy_parameters.values()]
        self._trained += [tensor for tensor in self.value_parameters.values() if tensor.ndim]
        for tensor in self._trained:
            tensor.requires_grad_()
        self._optimiser = torch.optim.Adam(self._trained, lr=self._config.learning_rate, fused=True)

    def rescale_value(self, returns: Tensor) -> None:
        """Give the value function the returns' units, in place."""
        with torch.no_grad():
            for name, tensor in self._value.rescaled(self.value_parameters, returns).items():
                self.value_parameters[name].copy_(tensor)

    def step(self, samples: Samples) -> float:
        """Update policy and value; return the KL estimate of the last minibatch in nats.

        Raises:
          FloatingPointError: the gradient is not finite.
        """
        config, kl = self._config, 0.0
        targets = (samples.returns - self.value_parameters["mean"]) / self.value_parameters["scale"]
        for rows, value_rows in self._minibatches(len(samples.obs)):
            log_prob = self._policy.log_prob(self.policy_parameters, samples.obs[rows], samples.actions[rows])
            log_ratio = log_prob - samples.log_prob[rows]
            kl = float(kl_estimate(log_ratio.detach()))
            if kl > config.max_kl:
                break
            policy_loss = clipped_loss(torch.exp(log_ratio), samples.advantages[rows], config.clip)
            policy_loss = policy_loss + self._policy.outside(self.policy_parameters, samples.obs[rows]).mean()
            error = self._value.normalised(self.value_parameters, samples.obs[value_rows]) - targets[value_rows]
            self._optimiser.zero_grad()
            (policy_loss + 0.5 * (error * error).mean()).backward()
            norm = torch.nn.utils.clip_grad_norm_(self._trained, config.max_gradient)
            if not torch.isfinite(norm):
                raise FloatingPointError(f"policy gradient: expected a finite norm, got {float(norm)}")
            self._optimiser.step()
            self._policy.project_(self.policy_parameters)
        return kl

    def _minibatches(self, count: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows for the policy, and for the value: the same (size,), or each member's own (V, size) where V > 1."""
        size, passes, members = self._config.minibatch, self._config.epochs, self._value.members
        policy_rows = shuffled(count, size, passes, self._generator)
        if members == 1:
            return ((rows, rows) for rows in policy_rows)
        return zip(policy_rows, bootstrapped(count, members, size, passes, self._generator), strict=True)
