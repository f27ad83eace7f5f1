"""A value function whose output is rescaled as returns change, so that its network sees unit-sized targets.

Rescaling keeps what it computes (Pop-Art, van Hasselt et al. 2016, arXiv 1602.07714, eq. 3 and 4).

With several members it is an ensemble, evaluated as one batched network: each has its own initialisation and learns
from its own bootstrap of the imagined steps (as the heads of Osband et al. 2016, arXiv 1602.04621), and the value is
their mean, at the horizon as in the baseline: an average varies less than its parts (bagging, Breiman 1996;
Averaged-DQN, Anschel et al. 2017, arXiv 1611.01929). It is not the minimum that REDQ (Chen et al. 2021, arXiv
2101.05982) takes, which makes up for a maximum over actions: there is none here.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import vmap

from mbrl_core.mlp import mlp
from mbrl_core.policies.gaussian_mlp import Parameters, initial_mlp


@dataclass(frozen=True)
class ValueMlp:
    """The value function's shape; it holds no parameters. "mean" and "scale" are its output's units, not trained.

    With V > 1 members every trained parameter has the leading axis V; the units are shared.
    """

    sizes: tuple[int, ...]  # (O, hidden..., 1)
    members: int = 1  # V

    def initial(self, generator: torch.Generator) -> Parameters:
        """Fresh parameters: zero everywhere, nearly."""
        units = {"mean": torch.zeros((), device=generator.device), "scale": torch.ones((), device=generator.device)}
        drawn = [initial_mlp(self.sizes, generator, last_gain=0.1) for _ in range(self.members)]
        if self.members == 1:
            return drawn[0] | units
        return {name: torch.stack([member[name] for member in drawn]) for name in drawn[0]} | units

    def normalised(self, parameters: Parameters, obs: Tensor) -> Tensor:
        """Value in units of its scale: (..., O) normalised observations to (...).

        With V > 1 members each is given its own: (V, ..., O) to (V, ...).
        """
        if self.members == 1:
            return self._network(parameters, obs)
        trained = {name: tensor for name, tensor in parameters.items() if tensor.ndim}
        return vmap(self._network)(trained, obs)

    def value(self, parameters: Parameters, obs: Tensor) -> Tensor:
        """Value in units of the reward, the mean over members: (..., O) to (...)."""
        if self.members == 1:
            normalised = self.normalised(parameters, obs)
        else:
            normalised = self.normalised(parameters, obs.expand(self.members, *obs.shape)).mean(0)
        return normalised * parameters["scale"] + parameters["mean"]

    def rescaled(self, parameters: Parameters, returns: Tensor) -> Parameters:
        """Parameters with the returns' mean and spread as units, which compute the same value."""
        mean, scale = returns.mean(), returns.std(correction=0).clamp(min=1e-3)
        last = len(self.sizes) - 2
        ratio = parameters["scale"] / scale
        return parameters | {
            f"weight{last}": parameters[f"weight{last}"] * ratio,
            f"bias{last}": parameters[f"bias{last}"] * ratio + (parameters["mean"] - mean) / scale,
            "mean": mean,
            "scale": scale,
        }

    def _network(self, parameters: Parameters, obs: Tensor) -> Tensor:
        """One member: (..., O) to (...)."""
        values: Tensor = mlp(parameters, obs, len(self.sizes) - 1).squeeze(-1)
        return values
