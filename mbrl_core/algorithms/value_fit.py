"""Fits the value function alone, for methods whose policy step is not PPO's."""

from collections.abc import Iterator

import torch
from torch import Tensor

from mbrl_core.algorithms.ppo import PpoConfig
from mbrl_core.algorithms.value import ValueMlp
from mbrl_core.policies.gaussian_mlp import Parameters


class ValueFit:
    """Value parameters with their optimiser."""

    def __init__(self, value: ValueMlp, config: PpoConfig, generator: torch.Generator) -> None:
        """Draw initial parameters; epochs, minibatch and learning rate are PPO's, so that methods compare."""
        self._value, self._config, self._generator = value, config, generator
        self.replace(value.initial(generator))

    def replace(self, parameters: Parameters) -> None:
        """Go on from other parameters, with a fresh optimiser."""
        self.parameters = {name: tensor.detach().clone() for name, tensor in parameters.items()}
        trained = [tensor.requires_grad_() for tensor in self.parameters.values() if tensor.ndim]
        self._optimiser = torch.optim.Adam(trained, lr=self._config.learning_rate, fused=True)

    def values(self, obs: Tensor) -> Tensor:
        """Value in units of the reward, differentiable: (..., O) normalised to (...)."""
        return self._value.value(self.parameters, obs)

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
        for _ in range(self._config.epochs):
            order = torch.randperm(count, generator=self._generator, device=self._generator.device)
            yield from torch.split(order, self._config.minibatch)
