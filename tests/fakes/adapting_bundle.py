"""A bundle that adapts, of a policy that nobody has trained: its mean is near 0, and the inner step is the real one."""

import torch

from mbrl_core.algorithms.accepted import Accepted, BundleMaker
from mbrl_core.algorithms.mb_mpo import MbMpoConfig, mb_mpo
from mbrl_core.bundle import AdaptationMetadata, Bundle
from mbrl_core.models.normaliser import Normaliser
from mbrl_core.policies.gaussian_mlp import PolicyConfig


def adapting_bundle(task, *, version: int = 1, max_kl: float = 1.0) -> Bundle:
    """What MB-MPO begins with on a task."""
    method = mb_mpo(task, MbMpoConfig(policy=PolicyConfig(hidden=(16,))), seed=0).method
    trained = method.initial()
    layers = sum(name.startswith("weight") for name in trained.value)
    adaptation = AdaptationMetadata(form="lvc", discount=0.98, trace=0.95, max_kl=max_kl, value_layers=layers)
    norm = Normaliser(torch.zeros(task.obs_dim), torch.ones(task.obs_dim))
    accepted = Accepted(version=version, trained=trained, obs_norm=norm)
    return BundleMaker(task, method.policy, adaptation=adaptation).make(accepted)
