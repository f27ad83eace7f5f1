"""The learned value function where there is no torch: what `algorithms.value.ValueMlp.value` computes."""

from collections.abc import Mapping

from mbrl_core.mlp import mlp
from mbrl_core.types import Array


def critic(parameters: Mapping[str, Array], obs: Array) -> Array:
    """Value in units of the reward, the mean over members (xp).

    Args:
      parameters: those of a ValueMlp; with V > 1 members all but "mean" and "scale" have the leading axis V.
      obs: (B, O), normalised.

    Returns:
      (B,).
    """
    layers = sum(name.startswith("weight") for name in parameters)
    if parameters["weight0"].ndim == 2:
        values = mlp(parameters, obs, layers)[..., 0]
    else:
        by_row = {name: array[:, None] if name.startswith("bias") else array for name, array in parameters.items()}
        values = mlp(by_row, obs, layers)[..., 0].mean(0)
    return values * parameters["scale"] + parameters["mean"]
