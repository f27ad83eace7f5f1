"""What a round begins from where it does not go on: the last good policy, with more spread or not, or a fresh one.

A policy that goes on from round to round may be stuck in an optimum of a model that has since been corrected, with a
spread too small to leave it. A fresh one learns from a better model from its first step, and takes longer.
"""

import math

from mbrl_core.policies.gaussian_mlp import GaussianMlp, Parameters

RESTARTS = ("none", "spread", "all")
RESTART_DOC = "afresh in a round that does not go on: nothing, the spread by half, or policy, value and step sizes"


def half_way_to_initial_spread(policy: GaussianMlp, parameters: Parameters) -> Parameters:
    """The same mean action, with a spread (its geometric mean) between its own and a fresh policy's.

    Half way: all the way back, a policy that was fine-tuned at a small spread has to find its precision again in every
    round, and validation then finds nothing better; not at all, an early optimum of a wrong model is never left.
    """
    log_std = 0.5 * (parameters["log_std"] + math.log(policy.config.initial_std))
    return parameters | {"log_std": log_std}
