"""Each member acted in by its own policy, as MB-MPO's adapted policies are: what `roll_out` takes as its `act`."""

import torch
from torch import Tensor
from torch.func import vmap

from mbrl_core.config import refuse
from mbrl_core.models.roll_out import Act
from mbrl_core.policies.gaussian_mlp import GaussianMlp, Parameters


def by_member(policy: GaussianMlp, parameters: Parameters) -> Act:
    """Return the function that gives every row the action distribution of its own member's policy.

    Args:
      policy: its shape.
      parameters: of K policies, each tensor with the leading axis K.

    Returns:
      A function of normalised observations (B, O), rows grouped by member, to mean (B, A) and log standard
      deviation (B, A).

    Raises:
      ValueError: a tensor lacks the leading axis, or (from the function) the rows cannot be shared evenly.
    """
    members = len(parameters["log_std"])
    for name, shape in policy.shapes.items():
        if parameters[name].shape != (members, *shape):
            raise refuse(f"parameters.{name}", (members, *shape), tuple(parameters[name].shape))

    def act(obs: Tensor) -> tuple[Tensor, Tensor]:
        if len(obs) % members:
            raise refuse("obs", f"a multiple of {members} rows", len(obs))
        grouped = obs.reshape(members, -1, obs.shape[-1])
        mean, log_std = vmap(policy.distribution)(parameters, grouped)
        return mean.flatten(0, 1), torch.repeat_interleave(log_std, grouped.shape[1], dim=0)

    return act
