"""The members' networks, evaluated as one: every layer is a batched matrix product over the members.

Weights are a list, layer by layer: matrix (E, in, out) and bias (E, 1, out) and, with LayerNorm (Ba et al. 2016, arXiv
1607.06450), gain and bias of the normalised (E, 1, out) each. Departure: the gain is kept as its difference from 1, so
that weight decay draws it to "no change" and not to silence.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, relu, silu

from mbrl_core.models.normaliser import Normaliser

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"silu": silu, "relu": relu, "tanh": torch.tanh}


@dataclass(frozen=True)
class EnsembleNetwork:
    """The networks' shape; it holds no weights."""

    sizes: tuple[int, ...]  # (I, hidden..., outputs)
    activation: str = "silu"  # of the hidden layers, one of ACTIVATIONS
    layer_norm: bool = False  # before each hidden activation

    def initial(self, members: int, generator: torch.Generator, last_gain: float) -> list[Tensor]:
        """Every member's own fresh weights; the last layer is `last_gain` of its usual size."""
        weights: list[Tensor] = []
        for width_in, width_out in zip(self.sizes[:-1], self.sizes[1:], strict=True):
            shape = (members, width_in, width_out)
            noise = torch.randn(shape, generator=generator, device=generator.device)
            weights += [noise / math.sqrt(width_in), torch.zeros(members, 1, width_out, device=generator.device)]
            if self.layer_norm:
                weights += [torch.zeros(members, 1, width_out, device=generator.device) for _ in ("gain", "bias")]
        if self.layer_norm:
            del weights[-2:]  # none behind the last layer
        weights[-2] *= last_gain
        return weights

    def forward(self, weights: list[Tensor], x: Tensor) -> Tensor:
        """Inputs of each member's own to outputs: (E, B, I) to (E, B, outputs)."""
        activation, each = ACTIVATIONS[self.activation], 4 if self.layer_norm else 2
        *hidden, last, last_bias = weights
        for layer in range(0, len(hidden), each):
            matrix, bias, *norm = hidden[layer : layer + each]
            x = torch.baddbmm(bias, x, matrix)
            if norm:
                x = layer_norm(x, x.shape[-1:]) * (1.0 + norm[0]) + norm[1]
            x = activation(x)
        return torch.baddbmm(last_bias, x, last)


def renormalised(
    weights: list[Tensor], old_in: Normaliser, new_in: Normaliser, old_out: Normaliser, new_out: Normaliser
) -> list[Tensor]:
    """First and last layer changed so that the network adds the same to the mean for raw inputs, in raw units.

    The first matrix product gives what it gave, so whatever follows it, LayerNorm included, sees no change.
    """
    first, first_bias, *rest, last, last_bias = weights
    first_bias = first_bias + ((new_in.mean - old_in.mean) / old_in.scale)[None] @ first
    first = first * (new_in.scale / old_in.scale)[:, None]
    ratio = old_out.scale / new_out.scale
    gain = torch.cat([ratio, torch.ones_like(ratio)])
    shift = torch.cat([torch.zeros_like(ratio), 2 * torch.log(ratio)])
    return [first, first_bias, *rest, last * gain, last_bias * gain + shift]
