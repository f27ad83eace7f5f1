"""A small network as a pure function, the same code for torch (training) and numpy (on the robot) (xp)."""

from collections.abc import Mapping

from array_api_compat import array_namespace

from mbrl_core.types import Array


def mlp(parameters: Mapping[str, Array], x: Array, layers: int) -> Array:
    """A tanh network with a linear last layer: (..., in) to (..., out) (xp); weights are (in, out)."""
    xp = array_namespace(x)
    for layer in range(layers):
        x = x @ parameters[f"weight{layer}"] + parameters[f"bias{layer}"]
        if layer < layers - 1:
            x = xp.tanh(x)
    return x
