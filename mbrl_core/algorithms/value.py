"""A value function whose output is rescaled as returns change, so that its network sees unit-sized targets.

Rescaling keeps what it computes (Pop-Art, van Hasselt et al. 2016, arXiv 1602.07714, eq. 3 and 4).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mbrl_core.policies.gaussian_mlp import Parameters, initial_mlp, mlp


@dataclass(frozen=True)
class ValueMlp:
    """The value function's shape; it holds no parameters. "mean" and "scale" are its output's units, not trained."""

    sizes: tuple[int, ...]  # (O, hidden..., 1)

    def initial(self, generator: torch.Generator) -> Parameters:
        """Fresh parameters: zero everywhere, nearly."""
        units = {"mean": torch.zeros((), device=generator.device), "scale": torch.ones((), device=generator.device)}
        return initial_mlp(self.sizes, generator, last_gain=0.1) | units

    def normalised(self, parameters: Parameters, obs: Tensor) -> Tensor:
        """Value in units of its scale: (..., O) normalised observations to (...)."""
        return mlp(parameters, obs, len(self.sizes) - 1).squeeze(-1)

    def value(self, parameters: Parameters, obs: Tensor) -> Tensor:
        """Value in units of the reward: (..., O) to (...)."""
        return self.normalised(parameters, obs) * parameters["scale"] + parameters["mean"]

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
