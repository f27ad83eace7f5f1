"""Density of a Gaussian policy's actions where there is no torch; `policies/diagonal_gaussian.py` has it for torch."""

import math

import numpy as np

from mbrl_core.types import Vector


def log_density(mean: Vector, log_std: Vector, action: Vector) -> Vector:
    """Log density of actions under N(mean, exp(log_std)^2), independent dimensions: (..., A) each to (...), in nats."""
    error = (action - mean) * np.exp(-log_std)
    return np.asarray(-0.5 * (error * error + 2 * log_std + math.log(math.tau)).sum(-1))
