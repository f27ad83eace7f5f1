"""Fits the value function alone, for methods whose policy step is not PPO's."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mbrl_core.algorithms.advantage import gae
from mbrl_core.algorithms.minibatches import bootstrapped, shuffled
from mbrl_core.algorithms.value import ValueMlp
from mbrl_core.config import check, setting
from mbrl_core.models.roll_out import Rollouts
from mbrl_core.policies.gaussian_mlp import Parameters


@dataclass(frozen=True, kw_only=True)
class ValueConfig:
    """Advantages, and the fit of the value function; the defaults are PPO's, so that methods compare."""

    discount: float = setting(0.98, doc="gamma, per policy step", low=0.0, high=1.0)
    trace: float = setting(0.95, doc="lambda of the advantage", low=0.0, high=1.0)
    epochs: int = setting(2, doc="passes over the imagined steps", low=1)
    minibatch: int = setting(2000, doc="imagined steps per gradient step", low=1)
    learning_rate: float = setting(1e-3, doc="Adam's step size", low=1e-7, high=1.0)
    hidden: tuple[int, ...] = setting((64, 64), doc="widths of the hidden layers", low=1)
    members: int = setting(1, doc="value functions, each with its own bootstrap; their mean is used", low=1, high=64)


class ValueFit:
    """Value parameters with their optimiser."""

    def __init__(self, obs_dim: int, config: ValueConfig, generator: torch.Generator) -> None:
        """Draw initial parameters. Raises ValueError for a setting that is out of bounds."""
        self._value, self._config = ValueMlp((obs_dim, *check(config).hidden, 1), config.members), config
        self._generator = generator
        self.replace(self.initial())

    def initial(self) -> Parameters:
        """Draw fresh parameters."""
        return self._value.initial(self._generator)

    def replace(self, parameters: Parameters) -> None:
        """Go on from other parameters, with a fresh optimiser."""
        self.parameters = {name: tensor.detach().clone() for name, tensor in parameters.items()}
        trained = [tensor.requires_grad_() for tensor in self.parameters.values() if tensor.ndim]
        self._optimiser = torch.optim.Adam(trained, lr=self._config.learning_rate, fused=True)

    def values(self, obs: Tensor) -> Tensor:
        """Value in units of the reward, differentiable: (..., O) normalised to (...)."""
        return self._value.value(self.parameters, obs)

    @torch.no_grad()
    def advantages(self, rollouts: Rollouts) -> tuple[Tensor, Tensor]:
        """Advantages and returns, (H, B) each, with the value bootstrapped at the horizon or where a rollout is cut."""
        config, values = self._config, self.values(rollouts.obs)
        ends = rollouts.terminated, rollouts.truncated
        return gae(rollouts.rewards, values, config.discount, config.trace, *ends)

    def fit(self, obs: Tensor, returns: Tensor) -> None:
        """Regress on returns: (B, O) normalised, (B,)."""
        with torch.no_grad():
            for name, tensor in self._value.rescaled(self.parameters, returns).items():
                self.parameters[name].copy_(tensor)
        targets = (returns - self.parameters["mean"]) / self.parameters["scale"]
        for rows in self._minibatches(len(obs)):
            error = self._value.normalised(self.parameters, obs[rows]) - targets[rows]
            self._optimiser.zero_grad()
            (error * error).mean().backward()
            self._optimiser.step()

    def _minibatches(self, count: int) -> Iterator[Tensor]:
        """Rows of each gradient step, as `normalised` takes their observations: (size,), or (V, size) where V > 1."""
        size, passes, members = self._config.minibatch, self._config.epochs, self._value.members
        if members == 1:
            return shuffled(count, size, passes, self._generator)
        return bootstrapped(count, members, size, passes, self._generator)
