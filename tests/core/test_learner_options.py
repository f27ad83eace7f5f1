"""Options that all methods share, on the toy task, with rounds so short that they learn little."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from fakes.point_task import PointTask, point_replay

from mbrl_core.algorithms.bptt import BpttConfig, bptt
from mbrl_core.algorithms.mb_mpo import MbMpoConfig, OuterStepConfig, mb_mpo
from mbrl_core.algorithms.me_ppo import MePpoConfig, me_ppo
from mbrl_core.algorithms.me_trpo import MeTrpoConfig, me_trpo
from mbrl_core.algorithms.validation import Score
from mbrl_core.models.ensemble import EnsembleConfig
from mbrl_core.models.imagination import ImaginationConfig
from mbrl_core.policies.gaussian_mlp import PolicyConfig

SHORT = {
    "iterations": 2,
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
    return point_replay(3)


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


def restarting(name: str, restart: str, seed: int = 0):
    method, config = METHODS[name]
    return method(PointTask(), dataclasses.replace(config, restart=restart), seed=seed)


def with_a_good_policy(learner):
    """As if a round had accepted the policy that it began with."""
    learner._good = dataclasses.replace(learner._good, version=1)
    return learner


def idle(learner) -> list:
    """Let iterations change nothing; what they would have begun from is kept."""
    begun = []
    learner.method.iterate = lambda world: begun.append(learner.method.trained.copied()) or 0
    return begun


@pytest.mark.parametrize("restart", ["spread", "all"])
@pytest.mark.parametrize("name", METHODS)
def test_a_learner_that_restarts_resumes_exactly(name, restart, replay):
    first, second = (with_a_good_policy(restarting(name, restart, seed)) for seed in (0, 9))
    assert_resumes_exactly(first, second, replay)


@pytest.mark.parametrize("name", METHODS)
def test_a_restart_of_the_spread_goes_half_way_and_keeps_everything_else(name, replay):
    learner = with_a_good_policy(restarting(name, "spread"))
    good, begun = learner._good.trained.copied(), idle(learner)
    good.policy["log_std"].fill_(-2.0)
    learner._good = dataclasses.replace(learner._good, trained=good)
    learner._go_back()
    learner.round(replay)
    half_way = math.exp((-2.0 + math.log(PolicyConfig().initial_std)) / 2)
    assert begun[0].policy["log_std"].exp().tolist() == pytest.approx([half_way, half_way])
    assert torch.equal(begun[0].policy["weight1"], good.policy["weight1"])
    assert torch.equal(begun[0].value["weight1"], good.value["weight1"])


@pytest.mark.parametrize("name", METHODS)
def test_a_whole_restart_draws_everything_anew_in_every_round(name, replay):
    learner = with_a_good_policy(restarting(name, "all"))
    good, begun = learner._good.trained, idle(learner)
    for _ in range(2):
        learner.round(replay)
    one, other = begun[0], begun[-1]
    for drawn, another in ((one, good), (other, good), (other, one)):
        assert not torch.equal(drawn.policy["weight0"], another.policy["weight0"])
        assert not torch.equal(drawn.value["weight0"], another.value["weight0"])
    assert one.policy["log_std"].exp().tolist() == pytest.approx([PolicyConfig().initial_std] * 2)
    assert one.value["scale"] == 1.0
    assert all((size == size.flatten()[0]).all() for size in one.step_sizes.values()), "nothing is left of the learning"


@pytest.mark.parametrize("name", METHODS)
def test_a_fresh_policy_that_is_not_better_leaves_the_last_good_one(name, replay):
    learner = with_a_good_policy(restarting(name, "all"))
    good = learner._good
    scores = iter([5.0, 0.0, 1.0, 4.0])  # of the last good policy, the fresh one, that at the end, the one that is kept
    learner._score = lambda trial: Score(torch.full((5,), next(scores)), torch.zeros(5), torch.zeros(5))
    idle(learner)
    report = learner.round(replay)
    assert report.validation_ratio == 1.0, "progress within the round"
    assert not report.accepted
    assert learner._good is good
    assert torch.equal(learner.method.trained.policy["weight0"], good.trained.policy["weight0"]), "it goes on from it"
    assert report.imagined_return == 4.0, "the last good policy's"


def test_a_fresh_policy_that_is_better_replaces_the_last_good_one(replay):
    learner = with_a_good_policy(restarting("me-ppo", "all"))
    good = learner._good.trained
    scores = iter([5.0, 0.0, 6.0, 6.0])
    learner._score = lambda trial: Score(torch.full((5,), next(scores)), torch.zeros(5), torch.zeros(5))
    begun = idle(learner)
    assert learner.round(replay).accepted
    assert learner.version == 2
    assert torch.equal(learner._good.trained.policy["weight0"], begun[0].policy["weight0"])
    assert not torch.equal(learner._good.trained.policy["weight0"], good.policy["weight0"])


def test_an_unknown_restart_is_refused():
    with pytest.raises(ValueError, match=r"MePpoConfig.restart: expected one of \['none', 'spread', 'all'\]"):
        restarting("me-ppo", "some")
