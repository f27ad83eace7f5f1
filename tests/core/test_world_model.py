"""The ensemble's predictions by ONNX Runtime against torch, and what is refused."""

import dataclasses

import numpy as np
import pytest
import torch
from fakes.adapting_bundle import adapting_bundle, imagining
from fakes.point_task import PointTask, point_episode

from mbrl_core.bundle import DisagreementMetadata
from mbrl_core.models.ensemble import Ensemble, EnsembleConfig
from mbrl_core.models.ensemble_graph import EnsembleGraph
from mbrl_core.world_model import WorldModel

TASK = PointTask()


@pytest.fixture(scope="module")
def bundle():
    return adapting_bundle(TASK)


def fitted(**settings) -> Ensemble:
    """An ensemble on a little random data: its members do not agree."""
    generator = torch.Generator().manual_seed(0)
    inputs = 2 * torch.randn(60, 4, generator=generator) + 1
    targets = torch.tensor([1.0, 0.01]) * torch.sin(inputs[:, :2]) + 0.1 * torch.randn(60, 2, generator=generator)
    ensemble = Ensemble(4, 2, EnsembleConfig(hidden=(16, 16), max_steps=100, **settings), seed=0)
    ensemble.fit(inputs[:50], targets[:50], inputs[50:], targets[50:])
    return ensemble


def of(ensemble: Ensemble, bundle) -> WorldModel:
    facts = dataclasses.replace(bundle.metadata, disagreement=DisagreementMetadata(slow_above=1.0, hold_above=2.0))
    graph = EnsembleGraph(ensemble).of(ensemble.asked_tensors())
    return WorldModel(dataclasses.replace(bundle, metadata=facts, ensemble_onnx=graph), TASK)


SETTINGS = {
    "all": {"members": 3},
    "elites": {"members": 5, "elites": 2, "layer_norm": True, "activation": "tanh"},
    "one": {"members": 1},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_every_member_predicts_what_it_does_in_torch(settings, bundle):
    ensemble = fitted(**settings)
    model = of(ensemble, bundle)
    assert model.members == ensemble.asked
    inputs = torch.randn(ensemble.asked, 37, 4, generator=torch.Generator().manual_seed(1))
    mean, log_var = ensemble.predict(inputs)
    got = model.predict(inputs.numpy())
    assert got.mean == pytest.approx(mean.numpy(), rel=1e-5, abs=1e-6)
    assert got.log_var == pytest.approx(log_var.numpy(), rel=1e-5, abs=1e-5)
    assert got.features == pytest.approx(ensemble.input_norm(inputs).numpy(), rel=1e-5, abs=1e-6)
    assert got.scale == pytest.approx(ensemble.target_norm.scale.numpy(), rel=1e-6)
    assert {part.dtype for part in got} == {np.dtype(np.float64)}


def test_all_members_are_asked_the_same(bundle):
    ensemble = fitted(members=3)
    inputs = torch.randn(20, 4, generator=torch.Generator().manual_seed(1))
    got = of(ensemble, bundle).predict_all(inputs.numpy())
    assert got.mean == pytest.approx(ensemble.predict(inputs)[0].numpy(), rel=1e-5, abs=1e-6)
    assert got.disagreement == pytest.approx(ensemble.disagreement(inputs).numpy(), rel=1e-4)
    assert got.disagreement.min() > 0


def test_what_is_no_ensemble_of_the_task_is_refused(bundle):
    with pytest.raises(ValueError, match=r"bundle.ensemble: expected a policy with an ensemble, got None"):
        WorldModel(bundle, TASK)
    whole = imagining(bundle, TASK, [point_episode(np.random.default_rng(0))])
    assert WorldModel(whole, TASK).members == 2

    class Wide(PointTask):
        input_dim = 5

    class Deep(PointTask):
        learned_dim = 3

    with pytest.raises(ValueError, match=r"bundle.ensemble.onnx: inputs: expected inputs \(K, B, 5\)"):
        WorldModel(whole, Wide())
    with pytest.raises(ValueError, match=r"bundle.ensemble.onnx: mean: expected \(2, 1, 3\), got \(2, 1, 2\)"):
        WorldModel(whole, Deep())
    with pytest.raises(ValueError, match=r"bundle.ensemble.onnx: expected a graph that ONNX Runtime loads"):
        WorldModel(dataclasses.replace(whole, ensemble_onnx=whole.ensemble_onnx[:-200]), TASK)
