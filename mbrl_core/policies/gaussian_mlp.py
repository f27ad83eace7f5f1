"""A Gaussian policy as a pure function of its parameters: pi(a | o) = N(mean(o), exp(log_std)^2), log_std free of o.

Parameters are a dict of named tensors, or one flat vector theta (P,) in the order of `shapes`. Observations are
normalised by numbers that travel with the parameters.

What a policy draws outside [-1, 1] is cut before it acts. Every draw beyond has the same consequence, so neither score
nor pathwise gradient shows a mean that has left the interval the way back, and it would stay out for good. So it costs
something, in the objective of every method; little, since where the best action is a bound it is reached most often
by a mean beyond it (ten times the cost halved what HalfCheetah learned in 30,000 steps).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mbrl_core.config import refuse, setting
from mbrl_core.mlp import mlp
from mbrl_core.models.normaliser import Normaliser

Parameters = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """Size, spread and bounds of the policy."""

    hidden: tuple[int, ...] = setting((64, 64), doc="widths of the hidden layers", low=1)
    initial_std: float = setting(0.4, doc="standard deviation of actions at the start", low=1e-3, high=2.0)
    min_std: float = setting(0.1, doc="it never falls below this: exploration goes on", low=1e-4, high=1.0)
    outside_cost: float = setting(
        0.1, doc="of a step whose mean action lies 1 outside [-1, 1], in spreads of what the method judges by", low=0
    )


def mlp_shapes(sizes: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a network's parameters: weights are (in, out)."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, (width_in, width_out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        shapes[f"weight{layer}"], shapes[f"bias{layer}"] = (width_in, width_out), (width_out,)
    return shapes


def initial_mlp(sizes: tuple[int, ...], generator: torch.Generator, last_gain: float) -> Parameters:
    """Orthogonal weights with gain sqrt(2), `last_gain` in the last layer; zero biases."""
    parameters: Parameters = {}
    last = len(sizes) - 2
    for name, shape in mlp_shapes(sizes).items():
        tensor = torch.zeros(shape, device=generator.device)
        if len(shape) == 2:
            gain = last_gain if name == f"weight{last}" else math.sqrt(2.0)
            torch.nn.init.orthogonal_(tensor, gain, generator=generator)
        parameters[name] = tensor
    return parameters


def rebased(parameters: Parameters, old: Normaliser, new: Normaliser) -> Parameters:
    """Parameters that compute with a new normaliser what the given ones computed with the old one."""
    weight = parameters["weight0"]
    return parameters | {
        "weight0": weight * (new.scale / old.scale)[:, None],
        "bias0": parameters["bias0"] + ((new.mean - old.mean) / old.scale) @ weight,
    }


class GaussianMlp:
    """The policy's shape; it holds no parameters."""

    def __init__(self, obs_dim: int, action_dim: int, config: PolicyConfig | None = None) -> None:
        """Take O and A. Raises ValueError when the policy would start below its smallest spread."""
        self.config = config or PolicyConfig()
        if self.config.initial_std < self.config.min_std:
            raise refuse("policy.initial_std", f"at least min_std {self.config.min_std}", self.config.initial_std)
        self.sizes = (obs_dim, *self.config.hidden, action_dim)
        self.layers = len(self.sizes) - 1
        self.shapes = mlp_shapes(self.sizes) | {"log_std": (action_dim,)}
        self._min_log_std = math.log(self.config.min_std)

    @property
    def count(self) -> int:
        """Number of parameters, P."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def initial(self, generator: torch.Generator) -> Parameters:
        """Fresh parameters whose mean action is near zero."""
        log_std = torch.full(self.shapes["log_std"], math.log(self.config.initial_std), device=generator.device)
        return initial_mlp(self.sizes, generator, last_gain=0.01) | {"log_std": log_std}

    def distribution(self, parameters: Parameters, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (..., A) and log standard deviation (A,) of the action, given normalised observations (..., O).

        The spread is never below `min_std`, whatever the parameters are. Its gradient is whole at the bound, and zero
        below it: `project_` keeps parameters that are being learned from getting there.
        """
        log_std = parameters["log_std"].clamp(min=self._min_log_std)
        return mlp(parameters, obs, self.layers), log_std

    @torch.no_grad()
    def project_(self, parameters: Parameters) -> None:
        """Put a spread that a step has taken below its bound back on it, in place; the distribution is the same."""
        parameters["log_std"].clamp_(min=self._min_log_std)

    def log_prob(self, parameters: Parameters, obs: Tensor, action: Tensor) -> Tensor:
        """Log density of actions (..., A), before any clipping, given normalised observations (..., O): (...) nats."""
        mean, log_std = self.distribution(parameters, obs)
        error = (action - mean) * torch.exp(-log_std)
        return -0.5 * (error * error + 2 * log_std + math.log(math.tau)).sum(-1)

    def outside(self, parameters: Parameters, obs: Tensor) -> Tensor:
        """What mean actions outside [-1, 1] cost, squared distances times `outside_cost`: (..., O) to (...)."""
        mean, _ = self.distribution(parameters, obs)
        return self.config.outside_cost * ((mean.abs() - 1.0).clamp(min=0.0) ** 2).sum(-1)

    def flatten(self, parameters: Parameters) -> Tensor:
        """Named parameters as one vector: (P,)."""
        return torch.cat([parameters[name].reshape(-1) for name in self.shapes])

    def unflatten(self, theta: Tensor) -> Parameters:
        """The inverse of `flatten`.

        Raises:
          ValueError: theta is not (P,).
        """
        if theta.shape != (self.count,):
            raise refuse("theta", f"({self.count},)", tuple(theta.shape))
        parts = torch.split(theta, [math.prod(shape) for shape in self.shapes.values()])
        return {name: part.reshape(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}
