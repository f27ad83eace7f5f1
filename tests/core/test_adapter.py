"""The inner step by ONNX Runtime against torch, what it refuses, and that it needs no torch."""

import dataclasses
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from fakes.blocked import WITHOUT_LEARNING
from fakes.point_task import PointTask, point_episode

from mbrl_core.actor import Actor
from mbrl_core.adapter import Adapter
from mbrl_core.algorithms.accepted import Accepted, BundleMaker, Trained
from mbrl_core.algorithms.inner_step import StepBatch, adapt, inner_loss
from mbrl_core.algorithms.mb_mpo import MbMpoConfig, mb_mpo
from mbrl_core.algorithms.me_ppo import MePpoConfig, me_ppo
from mbrl_core.algorithms.validation import ValidationConfig
from mbrl_core.algorithms.value import ValueMlp
from mbrl_core.bundle import AdaptationMetadata, Bundle
from mbrl_core.models.ensemble import EnsembleConfig
from mbrl_core.models.imagination import ImaginationConfig
from mbrl_core.models.normaliser import Normaliser
from mbrl_core.policies.export import adapt_graph
from mbrl_core.policies.gaussian_mlp import GaussianMlp
from mbrl_core.real_batch import RealBatch
from mbrl_core.replay import Replay, write_episode
from mbrl_core.types import StepFlag

ROOT = Path(__file__).parents[2]
POLICY, VALUE = GaussianMlp(4, 2), ValueMlp((4, 8, 1), members=2)
FORMS = ("lvc", "log_likelihood")


@cache
def accepted() -> Accepted:
    generator = torch.Generator().manual_seed(0)
    policy = {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in POLICY.shapes.items()}
    sizes = {name: 0.03 * torch.rand(shape, generator=generator) for name, shape in POLICY.shapes.items()}
    norm = Normaliser(torch.randn(4, generator=generator), torch.rand(4, generator=generator) + 0.5)
    return Accepted(version=1, trained=Trained(policy, VALUE.initial(generator), sizes), obs_norm=norm)


@cache
def bundle(form: str = "lvc") -> Bundle:
    facts = AdaptationMetadata(form=form, discount=0.9, trace=0.95, max_kl=0.05, value_layers=2)
    return BundleMaker(PointTask(), POLICY, adaptation=facts).make(accepted())


def adapter(form: str = "lvc") -> Adapter:
    return Adapter(bundle(form), PointTask())


def a_batch(count: int, seed: int = 0) -> RealBatch:
    """Steps that the policy of the bundle drew; every tenth does not count."""
    generator, given = torch.Generator().manual_seed(seed), accepted()
    obs = given.obs_norm.mean + given.obs_norm.scale * torch.randn(count, 4, generator=generator)
    mean, log_std = POLICY.distribution(given.trained.policy, given.obs_norm(obs))
    actions = mean + torch.exp(log_std) * torch.randn(count, 2, generator=generator)
    log_prob = POLICY.log_prob(given.trained.policy, given.obs_norm(obs), actions)
    weights = (torch.arange(count) % 10 != 9).float()
    advantages = torch.randn(count, generator=generator) * weights
    return RealBatch(*(part.numpy() for part in (obs, actions, log_prob, advantages, weights)))


def by_torch(theta, batch: RealBatch, form: str):
    given = accepted()
    steps = StepBatch(*(torch.as_tensor(part) for part in batch))
    steps = steps._replace(obs=given.obs_norm(steps.obs))
    step = adapt(POLICY, POLICY.unflatten(theta), given.trained.step_sizes, steps, form)
    return POLICY.flatten(step.parameters), step, inner_loss(POLICY, step.parameters, steps, form)


def apart(one, other) -> float:
    """Relative distance of two vectors."""
    return float(np.linalg.norm(np.asarray(one) - np.asarray(other)) / np.linalg.norm(other))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("count", [1, 2, 7, 256, 4000])
def test_five_steps_are_those_of_torch(form, count):
    """Parameters within 1e-6 of their norm, and 5e-5 of the way that they went.

    A way of a thousandth of the parameters' norm has only so many places left when they are stored in float32. The
    measures of a step follow from the parameters: an error there shows in the loss times its gradient.
    """
    batch, ours = a_batch(count), adapter(form)
    start = theirs = torch.as_tensor(bundle().theta)
    mine = bundle().theta
    for _ in range(5):
        step = ours.step(mine, batch)
        theirs, taken, after = by_torch(theirs, batch, form)
        assert apart(step.theta, theirs) < 1e-6
        numbers = (float(taken.loss), float(after), float(taken.kl), float(taken.gradient_norm))
        assert step[1:] == pytest.approx(numbers, rel=1e-4, abs=2e-6 + 5e-6 * numbers[-1])
        mine = step.theta
    assert apart(mine - bundle().theta, theirs - start) < 5e-5
    assert apart(mine, bundle().theta) > 5e-4, "nothing has moved: nothing was compared"


def test_a_step_goes_down_and_knows_how_far():
    step = adapter().step(bundle().theta, a_batch(256))
    assert step.loss_after < step.loss
    assert step.kl > 0
    assert step.gradient_norm > 0
    assert step.theta.dtype == np.float32


def test_a_batch_of_one_is_as_good_as_one_with_a_step_that_does_not_count():
    batch = a_batch(2)._replace(weights=np.array([1.0, 0.0], dtype=np.float32))
    one = RealBatch(*(part[:1] for part in batch))
    assert apart(adapter().step(bundle().theta, one).theta, adapter().step(bundle().theta, batch).theta) < 1e-7


def test_the_density_is_that_of_torch():
    batch = a_batch(50)
    assert np.allclose(adapter().log_prob(bundle().theta, batch.obs, batch.actions), batch.log_prob, atol=1e-5)


def exploring_episode(acting: Bundle, seed: int, terminated: bool = False):
    """An episode in which a policy drew its actions."""
    actor, rng, drawn = Actor(acting), np.random.default_rng(seed), []
    draw = lambda obs: drawn.append(actor.draw(obs, rng)) or drawn[-1]  # noqa: E731
    episode = point_episode(np.random.default_rng(seed + 100), draw, index=seed)
    versions = np.full(episode.steps, acting.version, dtype=np.uint32)
    changes = {"actions_asked": np.array(drawn), "terminated": terminated, "truncated": not terminated}
    return dataclasses.replace(episode, policy_versions=versions, exploring=True, **changes)


@cache
def learner(make=mb_mpo, config=MbMpoConfig):
    buffer, rng = Replay(), np.random.default_rng(0)
    for index in range(4):
        buffer.add(point_episode(rng, index=index))
    small = {
        "iterations": 2,
        "ensemble": EnsembleConfig(hidden=(16,), max_steps=50),
        "imagination": ImaginationConfig(rollouts=25, horizon=5),
        "validation": ValidationConfig(ratio=0.0),
    }
    made = make(PointTask(), config(**small), seed=0)
    made.round(buffer)
    return made


def test_the_robot_adapts_as_the_learner_does():
    meta = learner().bundle()
    episodes = [exploring_episode(meta, seed, terminated=seed == 1) for seed in range(3)]
    episodes[2].flags[4] = StepFlag.GAP
    robot = Adapter(Bundle.from_bytes(meta.to_bytes()), PointTask())
    step = robot.step(meta.theta, robot.batch(episodes, [meta.theta] * 3))
    there = learner().adapt(episodes)
    assert apart(step.theta, there.bundle.theta) < 1e-6
    assert apart(step.theta - meta.theta, there.bundle.theta - meta.theta) < 2e-5
    assert step.kl == pytest.approx(there.kl, rel=1e-3)
    assert step.gradient_norm == pytest.approx(there.gradient_norm, rel=1e-4)
    assert robot.why_refused(step) == ""


def test_every_episode_has_the_density_of_the_policy_that_acted_in_it():
    meta = learner().bundle()
    other = dataclasses.replace(meta, theta=meta.theta + np.float32(0.05))
    robot = Adapter(meta, PointTask())
    pair = exploring_episode(meta, 0), exploring_episode(other, 1)
    batch = robot.batch(pair, [meta.theta, other.theta])
    for episode, acting, got in zip(pair, (meta, other), np.split(batch.log_prob, 2), strict=True):
        own = robot.log_prob(acting.theta, batch.obs[:20] if acting is meta else batch.obs[20:], episode.actions_asked)
        assert np.allclose(got, own, atol=1e-5)
    with pytest.raises(ValueError, match="thetas: expected one for each of 2 episodes, got 1"):
        robot.batch(pair, [meta.theta])


def test_a_policy_that_was_adapted_acts_and_can_adapt_further():
    meta = learner().bundle()
    robot = Adapter(meta, PointTask())
    step = robot.step(meta.theta, robot.batch([exploring_episode(meta, 0)], [meta.theta]))
    adapted = dataclasses.replace(meta, theta=step.theta)
    obs = np.full(4, 0.3)
    assert not np.array_equal(Actor(adapted).draw(obs), Actor(meta).draw(obs))
    again = Bundle.from_bytes(adapted.to_bytes())
    robot = Adapter(again, PointTask())
    assert np.isfinite(robot.step(again.theta, robot.batch([exploring_episode(again, 1)], [again.theta])).theta).all()


def test_what_a_learner_hands_out():
    meta, of_member, plain = learner().bundle(), learner().bundle(0), learner(me_ppo, MePpoConfig).bundle()
    assert meta.metadata.adaptation is not None
    assert meta.step_sizes.shape == meta.theta.shape
    assert of_member.adapt_onnx == plain.adapt_onnx == of_member.ensemble_onnx == b""
    assert not np.array_equal(of_member.theta, meta.theta)
    assert plain.metadata.adaptation is None
    assert plain.metadata.disagreement is not None
    with pytest.raises(
        ValueError, match="bundle.adaptation: expected a policy of a method with an inner step, got None"
    ):
        Adapter(plain, PointTask())


def test_the_form_dice_is_exported_as_the_one_that_has_its_gradient():
    assert adapt_graph(POLICY, "dice") == adapt_graph(POLICY, "lvc") != adapt_graph(POLICY, "log_likelihood")
    batch, theta = a_batch(20), torch.as_tensor(bundle().theta)
    whole = RealBatch(*(part.reshape(4, 5, *part.shape[1:]) for part in batch))
    assert apart(adapter().step(bundle().theta, batch).theta, by_torch(theta, whole, "dice")[0]) < 1e-6
    with pytest.raises(ValueError, match="form: expected one of"):
        adapt_graph(POLICY, "second_order")


def test_the_graph_is_plain_onnx_and_carries_no_local_paths():
    graph = adapt_graph(POLICY, "lvc")
    model = onnx.load_from_string(graph)
    onnx.checker.check_model(model)
    assert {node.domain for node in model.graph.node} == {""}
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert b".py" not in graph
    assert str(ROOT).encode() not in graph
    named = {value.name: value.type.tensor_type.shape.dim for value in model.graph.input}
    assert list(named) == ["theta", "step_sizes", "obs_mean", "obs_scale", *RealBatch._fields]
    assert {named[name][0].dim_param for name in RealBatch._fields} == {"batch"}
    outputs = [value.name for value in model.graph.output]
    assert outputs == ["theta_adapted", "loss", "loss_after", "kl", "gradient_norm"]
    assert len(graph) < 30_000


def with_one(name, value):
    batch = a_batch(8)
    array = getattr(batch, name).copy()
    array.flat[3] = value
    return batch._replace(**{name: array})


@pytest.mark.parametrize("name", RealBatch._fields)
def test_a_number_that_is_not_finite_is_refused(name):
    for value in (np.nan, np.inf):
        with pytest.raises(ValueError, match=rf"batch.{name}: expected finite numbers"):
            adapter().step(bundle().theta, with_one(name, value))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda batch: RealBatch(*(part[:0] for part in batch)), "batch: expected at least one step, got 0"),
        (
            lambda batch: batch._replace(weights=0 * batch.weights),
            "batch.weights: expected none below 0, and one above",
        ),
        (lambda batch: batch._replace(weights=-batch.weights), "batch.weights: expected none below 0, and one above"),
        (lambda batch: batch._replace(actions=batch.actions[:, :1]), r"batch.actions: expected \(8, 2\), got \(8, 1\)"),
        (lambda batch: batch._replace(log_prob=batch.log_prob[1:]), r"batch.log_prob: expected \(8,\), got \(7,\)"),
        (lambda batch: batch._replace(log_prob=batch.log_prob - 200), "adapt.onnx: outputs: expected finite numbers"),
    ],
)
def test_a_bad_batch_is_refused_by_field(change, message):
    with pytest.raises(ValueError, match=message):
        adapter().step(bundle().theta, change(a_batch(8)))


def test_bad_parameters_are_refused():
    for theta in (bundle().theta[1:], bundle().theta * np.nan):
        with pytest.raises(ValueError, match=r"theta: expected \(4612,\), finite"):
            adapter().step(theta, a_batch(8))


def test_a_step_that_goes_too_far_or_the_wrong_way_is_called_a_bad_one():
    ours = adapter()
    step = ours.step(bundle().theta, a_batch(256))
    assert ours.why_refused(step._replace(kl=0.05)) == ""
    assert "at most 0.05 nats, got 0.06" in ours.why_refused(step._replace(kl=0.06))
    assert "loss after the step" in ours.why_refused(step._replace(loss_after=step.loss + 0.1))


def test_a_foreign_or_damaged_bundle_is_refused():
    other = dataclasses.replace(bundle(), metadata=dataclasses.replace(bundle().metadata, task="walk"))
    with pytest.raises(ValueError, match="bundle.task: expected point, got 'walk'"):
        Adapter(other, PointTask())
    with pytest.raises(ValueError, match=r"bundle.adapt.onnx: expected a graph that ONNX Runtime loads"):
        Adapter(dataclasses.replace(bundle(), adapt_onnx=b"rubbish"), PointTask())
    with pytest.raises(ValueError, match=r"bundle.adapt.onnx: expected a graph that fits the bundle's parameters"):
        Adapter(dataclasses.replace(bundle(), adapt_onnx=adapt_graph(GaussianMlp(5, 2), "lvc")), PointTask())
    with pytest.raises(ValueError, match=r"bundle.adapt.onnx: expected a graph that fits the bundle's parameters"):
        Adapter(dataclasses.replace(bundle(), adapt_onnx=bundle().act_onnx), PointTask())


WITHOUT_TORCH = WITHOUT_LEARNING + """
from pathlib import Path
from fakes.point_task import PointTask
from mbrl_core.adapter import Adapter
from mbrl_core.bundle import Bundle
from mbrl_core.replay import read_episode
bundle = Bundle.load(Path(sys.argv[1]))
adapter = Adapter(bundle, PointTask())
batch = adapter.batch([read_episode(Path(sys.argv[2]))], [bundle.theta])
print(adapter.step(bundle.theta, batch).theta.tobytes().hex())
"""


def test_the_robot_adapts_without_torch(tmp_path):
    meta = learner().bundle()
    episode = exploring_episode(meta, 0)
    meta.save(tmp_path / "policy.mbrl")
    write_episode(tmp_path / "episode-000000.safetensors", episode)
    output = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, tmp_path / "policy.mbrl", tmp_path / "episode-000000.safetensors"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
    ).stdout
    robot = Adapter(meta, PointTask())
    here = robot.step(meta.theta, robot.batch([episode], [meta.theta]))
    assert np.array_equal(np.frombuffer(bytes.fromhex(output.strip()), dtype=np.float32), here.theta)
