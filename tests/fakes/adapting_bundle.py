"""A bundle that adapts, of a policy that nobody has trained: its mean is near 0, and the inner step is the real one."""

import dataclasses

import torch

from mbrl_core.algorithms.accepted import Accepted, BundleMaker
from mbrl_core.algorithms.mb_mpo import MbMpoConfig, mb_mpo
from mbrl_core.bundle import AdaptationMetadata, Bundle, DisagreementMetadata
from mbrl_core.models.ensemble import Ensemble, EnsembleConfig
from mbrl_core.models.ensemble_graph import BOUNDS, EnsembleGraph, calibrated
from mbrl_core.models.normaliser import Normaliser
from mbrl_core.policies.gaussian_mlp import PolicyConfig
from mbrl_core.reality_gap import transitions


def adapting_bundle(task, *, version: int = 1, max_kl: float = 1.0) -> Bundle:
    """What MB-MPO begins with on a task."""
    method = mb_mpo(task, MbMpoConfig(policy=PolicyConfig(hidden=(16,))), seed=0).method
    trained = method.initial()
    layers = sum(name.startswith("weight") for name in trained.value)
    adaptation = AdaptationMetadata(form="lvc", discount=0.98, trace=0.95, max_kl=max_kl, value_layers=layers)
    norm = Normaliser(torch.zeros(task.obs_dim), torch.ones(task.obs_dim))
    accepted = Accepted(version=version, trained=trained, obs_norm=norm)
    return BundleMaker(task, method.policy, adaptation=adaptation).make(accepted)


def imagining(bundle: Bundle, task, episodes, *, break_with: float = 1.0) -> Bundle:
    """The same with a small ensemble fitted to episodes; its first weights are multiplied by `break_with`."""
    real = transitions(task, episodes)
    data = task.model_input(real.states, real.actions), task.model_target(real.states, real.next_states)
    inputs, targets = (torch.as_tensor(part, dtype=torch.float32) for part in data)
    settings = EnsembleConfig(members=3, elites=2, hidden=(8,), max_steps=20)
    ensemble = Ensemble(task.input_dim, task.learned_dim, settings, seed=0)
    ensemble.fit(inputs, targets, inputs, targets)
    made = calibrated(ensemble, inputs)
    bounds = DisagreementMetadata(**{name: float(made[name]) for name in BOUNDS})
    return dataclasses.replace(
        bundle,
        metadata=dataclasses.replace(bundle.metadata, disagreement=bounds),
        ensemble_onnx=EnsembleGraph(ensemble).of(made | {"weight0": made["weight0"] * break_with}),
    )
