"""Options that all methods share, on the toy task, with rounds so short that they learn little."""

import dataclasses

import numpy as np
import pytest
import torch
from fakes.point_task import PointTask, point_episode

from mbrl_core.algorithms.bptt import BpttConfig, bptt
from mbrl_core.algorithms.mb_mpo import MbMpoConfig, OuterStepConfig, mb_mpo
from mbrl_core.algorithms.me_ppo import MePpoConfig, me_ppo
from mbrl_core.algorithms.me_trpo import MeTrpoConfig, me_trpo
from mbrl_core.models.ensemble import EnsembleConfig
from mbrl_core.models.imagination import ImaginationConfig
from mbrl_core.replay import Replay

SHORT = {
    "iterations": 4,
    "ensemble": EnsembleConfig(hidden=(16, 16), max_steps=50),
    "imagination": ImaginationConfig(rollouts=50, horizon=5),
}
METHODS = {
    "me-ppo": (me_ppo, MePpoConfig(**SHORT)),
    "me-trpo": (me_trpo, MeTrpoConfig(**SHORT)),
    "bptt": (bptt, BpttConfig(**SHORT)),
    "mb-mpo": (mb_mpo, MbMpoConfig(**SHORT)),
}


@pytest.fixture(scope="module")
def replay():
    buffer, rng = Replay(), np.random.default_rng(0)
    for index in range(3):
        buffer.add(point_episode(rng, index=index))
    return buffer


@pytest.mark.parametrize("name", [*METHODS, "mb-mpo, trpo"])
def test_a_spread_that_a_step_took_below_its_bound_is_put_back(name, replay):
    method, config = METHODS.get(name) or (mb_mpo, MbMpoConfig(**SHORT, outer=OuterStepConfig(method="trpo")))
    learner = method(PointTask(), config, seed=0)
    iterate, after = learner.method.iterate, []

    def from_below(world):
        learner.method.trained.policy["log_std"].data.fill_(-9.0)
        steps = iterate(world)
        after.append(learner.method.trained.policy["log_std"].detach().clone())
        return steps

    learner.method.iterate = from_below
    assert not learner.round(replay).problem
    assert torch.stack(after).exp().min() == pytest.approx(config.policy.min_std)


def several_values(config, count: int):
    """The config with so many value functions."""
    if isinstance(config, MePpoConfig):
        return dataclasses.replace(config, ppo=dataclasses.replace(config.ppo, value_members=count))
    return dataclasses.replace(config, value=dataclasses.replace(config.value, members=count))


def assert_resumes_exactly(first, second, replay) -> None:
    """Whatever the second learner did before: after a restore both go the same way."""
    first.round(replay)
    second.restore(first.checkpoint())
    first.round(replay)
    second.round(replay)
    one, other = first.checkpoint(), second.checkpoint()
    assert one.facts == other.facts
    assert set(one.arrays) == set(other.arrays)
    assert all(np.array_equal(array, other.arrays[name]) for name, array in one.arrays.items())


@pytest.mark.parametrize("name", METHODS)
def test_several_value_functions_resume_exactly(name, replay):
    method, config = METHODS[name]
    first, second = (method(PointTask(), several_values(config, 3), seed=seed) for seed in (0, 9))
    assert first.method.trained.value["weight0"].shape == (3, 4, 64)
    assert_resumes_exactly(first, second, replay)


def test_a_checkpoint_of_another_number_of_value_functions_is_refused():
    one, three = (me_ppo(PointTask(), several_values(MePpoConfig(), count), seed=0) for count in (1, 3))
    with pytest.raises(ValueError, match=r"checkpoint\.value\.weight0: expected \(3, 4, 64\), got \(4, 64\)"):
        three.restore(one.checkpoint())
