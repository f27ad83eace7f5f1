"""What a round begins from: the last good policy, the same with its first spread, or a policy drawn afresh.

A policy that goes on from round to round may be stuck in an optimum of a model that has since been corrected, with a
spread too small to leave it. A fresh one learns from a better model from its first step, and takes longer.
"""

import math

import torch

from mbrl_core.policies.gaussian_mlp import GaussianMlp, Parameters

RESTARTS = ("none", "spread", "all")
RESTART_DOC = "what a round begins afresh: nothing, the policy's spread, or policy, value and step sizes"


def with_initial_spread(policy: GaussianMlp, parameters: Parameters) -> Parameters:
    """The same mean action, with the spread of a fresh policy."""
    log_std = torch.full_like(parameters["log_std"], math.log(policy.config.initial_std))
    return parameters | {"log_std": log_std}
