"""Density of a Gaussian policy's actions and the distance between two such policies, in closed form."""

import math

import torch
from torch import Tensor

from mbrl_core.policies.gaussian_mlp import GaussianMlp, Parameters


def log_density(mean: Tensor, log_std: Tensor, action: Tensor) -> Tensor:
    """Log density of actions under N(mean, exp(log_std)^2), independent dimensions: (..., A) each to (...), in nats."""
    error = (action - mean) * torch.exp(-log_std)
    return -0.5 * (error * error + 2 * log_std + math.log(math.tau)).sum(-1)


def gaussian_kl(mean: Tensor, log_std: Tensor, other_mean: Tensor, other_log_std: Tensor) -> Tensor:
    """KL(N(mean, std^2) | N(other_mean, other_std^2)) of independent dimensions: (..., A) each to (...), in nats."""
    log_ratio = log_std - other_log_std
    error = (mean - other_mean) * torch.exp(-other_log_std)
    return 0.5 * (torch.expm1(2 * log_ratio) - 2 * log_ratio + error * error).sum(-1)


def policy_kl(policy: GaussianMlp, parameters: Parameters, other: Parameters, obs: Tensor) -> Tensor:
    """KL(pi(. | parameters) | pi(. | other)) at normalised observations: (..., O) to (...), in nats."""
    return gaussian_kl(*policy.distribution(parameters, obs), *policy.distribution(other, obs))
