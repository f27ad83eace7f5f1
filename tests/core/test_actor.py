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

from mbrl_core.actor import Actor, RandomActor, ZeroActor
from mbrl_core.algorithms.accepted import Accepted, BundleMaker, Trained
from mbrl_core.models.normaliser import Normaliser
from mbrl_core.policies.export import act_graph
from mbrl_core.policies.gaussian_mlp import GaussianMlp

ROOT = Path(__file__).parents[2]
POLICY = GaussianMlp(4, 2)
MAKER = BundleMaker(PointTask(), POLICY)


def accepted(seed: int = 0, version: int = 1) -> Accepted:
    generator = torch.Generator().manual_seed(seed)
    parameters = {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in POLICY.shapes.items()}
    norm = Normaliser(torch.randn(4, generator=generator), torch.rand(4, generator=generator) + 0.5)
    return Accepted(version=version, trained=Trained(parameters, {}), obs_norm=norm)


def torch_mean(policy: Accepted, obs: np.ndarray) -> np.ndarray:
    mean, _ = POLICY.distribution(policy.trained.policy, policy.obs_norm(torch.as_tensor(obs, dtype=torch.float32)))
    return mean.numpy()


def test_onnx_acts_as_torch_does():
    policy = accepted()
    actor, rng = Actor(MAKER.make(policy)), np.random.default_rng(0)
    for obs in rng.standard_normal((50, 4)):
        assert np.allclose(actor.act(obs), np.clip(torch_mean(policy, obs), -1, 1), atol=1e-6)


def test_graph_takes_any_batch_and_carries_no_local_paths():
    graph = act_graph(POLICY)
    model = onnx.load_from_string(graph)
    onnx.checker.check_model(model)
    assert model.opset_import[0].version == 20
    assert {node.domain for node in model.graph.node} == {""}
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert b".py" not in graph
    assert str(ROOT).encode() not in graph
    inputs = {value.name: value.type.tensor_type.shape.dim for value in model.graph.input}
    assert list(inputs) == ["theta", "obs_mean", "obs_scale", "obs"]
    assert inputs["obs"][0].dim_param
    assert len(graph) < 8_000


def test_sampling_spreads_around_the_mean_as_the_policy_says():
    policy = accepted()
    policy.trained.policy["log_std"] = torch.log(torch.tensor([0.2, 0.4]))
    policy.trained.policy["bias2"] = torch.zeros(2)
    policy.trained.policy["weight2"] = torch.zeros_like(policy.trained.policy["weight2"])
    actor, rng = Actor(MAKER.make(policy)), np.random.default_rng(0)
    samples = np.array([actor.act(np.zeros(4), rng) for _ in range(3000)])
    assert np.allclose(samples.std(0), [0.2, 0.4], rtol=0.08)
    assert np.abs(samples).max() <= 1.0


def test_an_action_as_drawn_knows_no_limit_and_is_sent_clipped():
    policy = accepted()
    policy.trained.policy["log_std"] = torch.log(torch.tensor([2.0, 2.0]))
    actor, obs = Actor(MAKER.make(policy)), np.full(4, 0.3)
    drawn = np.array([actor.draw(obs, np.random.default_rng(seed)) for seed in range(20)])
    sent = np.array([actor.act(obs, np.random.default_rng(seed)) for seed in range(20)])
    assert np.abs(drawn).max() > 1.0
    assert np.array_equal(sent, np.clip(drawn, -1, 1))


def test_an_update_changes_the_policy_and_keeps_the_session():
    actor = Actor(MAKER.make(accepted()))
    session, other = actor._session, accepted(seed=1, version=2)
    actor.update(MAKER.make(other))
    assert actor._session is session
    assert actor.version == 2
    obs = np.full(4, 0.3)
    assert np.allclose(actor.act(obs), np.clip(torch_mean(other, obs), -1, 1), atol=1e-6)


def test_a_bad_update_leaves_the_old_policy_in_place():
    actor, obs = Actor(MAKER.make(accepted())), np.full(4, 0.3)
    before = actor.act(obs)
    good = MAKER.make(accepted(seed=1, version=2))
    with pytest.raises(ValueError, match=r"act.onnx: expected a graph that ONNX Runtime loads"):
        actor.update(dataclasses.replace(good, act_onnx=b"rubbish"))
    with pytest.raises(ValueError, match=r"act.onnx: expected a graph that fits"):
        actor.update(dataclasses.replace(good, theta=good.theta[:-1]))
    with pytest.raises(ValueError, match=r"act.onnx: outputs: expected finite numbers"):
        actor.update(dataclasses.replace(good, theta=np.full_like(good.theta, 3e38)))
    assert actor.version == 1
    assert np.array_equal(actor.act(obs), before)


@pytest.mark.parametrize("obs", [np.zeros(3), np.zeros((1, 4)), np.array([0, 0, np.nan, 0])])
def test_a_bad_observation_is_refused(obs):
    with pytest.raises(ValueError, match=r"obs: expected \(4,\), finite"):
        Actor(MAKER.make(accepted())).act(obs)


def test_the_explorer_holds_each_action_takes_it_back_and_fills_the_range():
    actor, rng = RandomActor(2, hold_steps=5), np.random.default_rng(0)
    actions = np.array([actor.act(np.zeros(4), rng) for _ in range(500)]).reshape(100, 5, 2)
    assert (actions == actions[:, :1]).all()
    assert np.array_equal(actions[1::2], -actions[::2])
    assert np.abs(actions).max() <= 1.0
    assert actions.std() == pytest.approx(1 / np.sqrt(3), rel=0.15)
    with pytest.raises(ValueError, match="rng: expected a generator"):
        actor.act(np.zeros(4))


def test_the_zero_baseline_does_nothing():
    assert ZeroActor(2).act(np.ones(4)).tolist() == [0.0, 0.0]


WITHOUT_TORCH = WITHOUT_LEARNING + """
from pathlib import Path
import numpy as np
from mbrl_core.actor import Actor
from mbrl_core.bundle import Bundle
import mbrl_core.replay, mbrl_core.safety, mbrl_core.tasks.reach, mbrl_core.algorithms.report
print(*Actor(Bundle.load(Path(sys.argv[1]))).act(np.full(4, 0.3)))
"""


def test_the_robot_side_runs_without_torch(tmp_path):
    bundle = MAKER.make(accepted())
    bundle.save(tmp_path / "policy.mbrl")
    output = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path / "policy.mbrl")],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ).stdout
    assert np.allclose([float(word) for word in output.split()], Actor(bundle).act(np.full(4, 0.3)))
