"""The ensemble's disagreement by ONNX Runtime against torch, its bounds, and what is refused."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from fakes.blocked import WITHOUT_LEARNING
from fakes.point_task import PointTask
from fakes.point_task import point_replay as replay

from mbrl_core.algorithms.accepted import Accepted, BundleMaker, Trained
from mbrl_core.algorithms.me_ppo import MePpoConfig, me_ppo
from mbrl_core.algorithms.validation import ValidationConfig
from mbrl_core.algorithms.vanilla import vanilla
from mbrl_core.arm import load_profile
from mbrl_core.bundle import Bundle
from mbrl_core.disagreement import Disagreement
from mbrl_core.models.ensemble import Ensemble, EnsembleConfig
from mbrl_core.models.ensemble_graph import EnsembleGraph, calibrated
from mbrl_core.models.imagination import ImaginationConfig
from mbrl_core.models.normaliser import Normaliser
from mbrl_core.policies.gaussian_mlp import GaussianMlp
from mbrl_core.tasks.reach import ReachTask
from mbrl_sim import profile_path
from mbrl_sim.environment import open_environment
from mbrl_sim.gym_task import GymTask

ROOT = Path(__file__).parents[2]
POLICY = GaussianMlp(4, 2)


def fitted(task, seed=0, **settings) -> Ensemble:
    """An ensemble on random data, a little of it: its members do not agree."""
    generator = torch.Generator().manual_seed(seed)
    inputs = 2 * torch.randn(60, task.input_dim, generator=generator) + 1
    targets = torch.sin(inputs[:, :1]) + torch.randn(60, task.learned_dim, generator=generator)
    ensemble = Ensemble(task.input_dim, task.learned_dim, EnsembleConfig(max_steps=100, **settings), seed=seed)
    ensemble.fit(inputs[:50], targets[:50], inputs[50:], targets[50:])
    return ensemble


def bundle_of(ensemble: Ensemble, task, inputs) -> Bundle:
    policy = GaussianMlp(task.obs_dim, task.action_dim)
    norm = Normaliser(torch.zeros(task.obs_dim), torch.ones(task.obs_dim))
    trained = Trained(policy.initial(torch.Generator()), {})
    given = Accepted(version=1, trained=trained, obs_norm=norm, gate=calibrated(ensemble, inputs))
    return BundleMaker(task, policy, ensemble=ensemble).make(given)


TASKS = {
    "point": PointTask,
    "reach": lambda: ReachTask(load_profile(profile_path("so101"))),
    "pendulum": lambda: GymTask(open_environment("Pendulum-v1")),
    "cheetah": lambda: GymTask(open_environment("HalfCheetah-v5")),
}
SETTINGS = {"plain": {}, "elites": {"members": 4, "elites": 2, "layer_norm": True, "activation": "tanh"}}


@pytest.mark.parametrize(("name", "settings"), [*((name, "plain") for name in TASKS), ("point", "elites")])
def test_it_is_the_figure_of_the_ensemble_at_the_action_that_is_sent(name, settings):
    task, rng = TASKS[name](), np.random.default_rng(0)
    ensemble = fitted(task, hidden=(16, 16), **SETTINGS[settings])
    disagreement = Disagreement(bundle_of(ensemble, task, torch.randn(100, task.input_dim)), task)
    for _ in range(20):
        state, action = rng.standard_normal(task.state_dim), 2 * rng.standard_normal(task.action_dim)
        sent = torch.as_tensor(action.clip(-1, 1), dtype=torch.float32)[None]
        inputs = task.model_input(torch.as_tensor(state, dtype=torch.float32)[None], sent)
        expected = float(ensemble.disagreement(inputs)[0])
        assert expected > 0
        assert disagreement(state, action) == pytest.approx(expected, rel=1e-5)


def test_the_bounds_are_those_of_the_training_data():
    task = PointTask()
    ensemble, inputs = fitted(task), torch.randn(5000, 4)
    figures = ensemble.disagreement(inputs).numpy()
    bundle = bundle_of(ensemble, task, inputs)
    disagreement = Disagreement(bundle, task)
    assert disagreement.slow_above == pytest.approx(np.quantile(figures, 0.99), rel=1e-5)
    assert disagreement.hold_above == pytest.approx(3 * np.quantile(figures, 0.999), rel=1e-5)
    assert disagreement(np.zeros(2), np.zeros(2)) < disagreement.slow_above
    assert disagreement(np.full(2, 100.0), np.zeros(2)) > disagreement.hold_above


def test_members_that_cannot_disagree_make_no_gate():
    task = PointTask()
    assert calibrated(fitted(task, members=1), torch.randn(50, 4)) == {}
    broken = fitted(task)
    broken.weights[0] = broken.weights[0] * np.nan
    with pytest.raises(FloatingPointError, match="expected a finite disagreement"):
        calibrated(broken, torch.randn(50, 4))


def test_the_graph_is_exported_once_and_filled_with_each_ensembles_numbers():
    task, one = PointTask(), fitted(PointTask())
    graph = EnsembleGraph(one)
    other = fitted(task, seed=7)
    first, second = (graph.of(calibrated(ensemble, torch.randn(50, 4))) for ensemble in (one, other))
    assert first != second
    assert first == graph.of(calibrated(one, torch.randn(50, 4)))
    assert second == EnsembleGraph(other).of(other.asked_tensors())
    for data in (first, second):
        model = onnx.load_from_string(data)
        onnx.checker.check_model(model)
        assert {node.domain for node in model.graph.node} == {""}
        assert [value.name for value in model.graph.input] == ["inputs"]
        assert b".py" not in data
        assert str(ROOT).encode() not in data


def learner(make=me_ppo, **ensemble):
    config = MePpoConfig(
        iterations=2,
        ensemble=EnsembleConfig(hidden=(16,), max_steps=50, **ensemble),
        imagination=ImaginationConfig(rollouts=25, horizon=5),
        validation=ValidationConfig(ratio=0.0),
    )
    return make(PointTask(), config, seed=0)


def test_a_policy_travels_with_the_ensemble_that_it_was_improved_in():
    learning, buffer = learner(), replay()
    learning.round(buffer)
    before = learning.bundle()
    figure = float(learning.ensemble.disagreement(torch.tensor([[0.1, 0.2, 0.3, -0.4]]))[0])
    disagreement = Disagreement(before, PointTask())
    assert disagreement(np.array([0.1, 0.2]), np.array([0.3, -0.4])) == pytest.approx(figure, rel=1e-5)
    assert 0 < disagreement.slow_above < disagreement.hold_above
    learning.ensemble.weights = [2 * weight for weight in learning.ensemble.weights]
    assert learning.bundle().to_bytes() == before.to_bytes()


def test_one_model_has_nobody_to_disagree_with():
    learning = learner(vanilla, members=1)
    learning.round(replay())
    bundle = learning.bundle()
    assert bundle.ensemble_onnx == b""
    with pytest.raises(ValueError, match="bundle.disagreement: expected a policy with an ensemble, got None"):
        Disagreement(bundle, PointTask())


def test_a_learner_of_a_checkpoint_without_a_gate_goes_on_and_makes_one():
    old, new = learner(), learner()
    old.round(replay())
    saved = old.checkpoint()
    arrays = {name: array for name, array in saved.arrays.items() if not name.startswith("gate.")}
    assert len(arrays) < len(saved.arrays)
    new.restore(dataclasses.replace(saved, arrays=arrays))
    assert new.bundle().metadata.disagreement is None
    new.round(replay(6))
    old.round(replay(6))
    assert new.version > saved.facts["good"]["version"]
    assert new.bundle().to_bytes() == old.bundle().to_bytes()


def test_a_gate_that_is_there_by_half_is_refused():
    learning = learner()
    learning.round(replay())
    saved = learning.checkpoint()
    arrays = {name: array for name, array in saved.arrays.items() if name != "gate.linear"}
    with pytest.raises(ValueError, match=r"checkpoint.gate.linear: expected an array, got 'nothing'"):
        learner().restore(dataclasses.replace(saved, arrays=arrays))


def test_what_does_not_fit_is_refused():
    task = PointTask()
    bundle = bundle_of(fitted(task), task, torch.randn(100, 4))
    disagreement = Disagreement(bundle, task)
    for state in (np.zeros(3), np.zeros((1, 2)), np.array([0.0, np.nan])):
        with pytest.raises(ValueError, match=r"state: expected \(2,\), finite"):
            disagreement(state, np.zeros(2))
    with pytest.raises(ValueError, match=r"action: expected \(2,\), finite"):
        disagreement(np.zeros(2), np.array([np.inf, 0.0]))
    with pytest.raises(ValueError, match=r"bundle.ensemble.onnx: expected a graph that ONNX Runtime loads"):
        Disagreement(dataclasses.replace(bundle, ensemble_onnx=b"rubbish"), task)
    with pytest.raises(ValueError, match=r"bundle.ensemble.onnx: inputs: expected inputs \(K, B, 4\)"):
        Disagreement(dataclasses.replace(bundle, ensemble_onnx=bundle.act_onnx), task)


def test_an_ensemble_too_large_for_a_bundle_is_left_out(monkeypatch):
    task = PointTask()
    monkeypatch.setattr("mbrl_core.algorithms.accepted.MAX_MEMBER_BYTES", 1000)
    bundle = bundle_of(fitted(task), task, torch.randn(100, 4))
    assert (bundle.ensemble_onnx, bundle.metadata.disagreement) == (b"", None)


WITHOUT_TORCH = WITHOUT_LEARNING + """
from pathlib import Path
import numpy as np
from mbrl_core.bundle import Bundle
from mbrl_core.disagreement import Disagreement
from fakes.point_task import PointTask
print(Disagreement(Bundle.load(Path(sys.argv[1])), PointTask())(np.full(2, 0.3), np.full(2, 0.2)))
"""


def test_the_robot_asks_without_torch(tmp_path):
    task = PointTask()
    bundle = bundle_of(fitted(task), task, torch.randn(100, 4))
    bundle.save(tmp_path / "policy.mbrl")
    output = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, tmp_path / "policy.mbrl"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
    ).stdout
    assert float(output) == Disagreement(bundle, task)(np.full(2, 0.3), np.full(2, 0.2))
