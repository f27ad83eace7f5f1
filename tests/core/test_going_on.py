"""Where a round ends that validation accepts nothing of, the next one begins; what acts is the last good policy."""

import dataclasses

import numpy as np
import pytest
import torch
from fakes.point_task import PointTask, point_replay

from mbrl_core.algorithms.mb_mpo import MbMpoConfig, mb_mpo
from mbrl_core.algorithms.me_ppo import MePpoConfig, me_ppo
from mbrl_core.algorithms.validation import Score
from mbrl_core.models.ensemble import EnsembleConfig
from mbrl_core.models.imagination import ImaginationConfig

SHORT = {
    "iterations": 2,
    "ensemble": EnsembleConfig(hidden=(16, 16), max_steps=50),
    "imagination": ImaginationConfig(rollouts=50, horizon=5),
}
METHODS = {"me-ppo": (me_ppo, MePpoConfig(**SHORT)), "mb-mpo": (mb_mpo, MbMpoConfig(**SHORT))}


@pytest.fixture(scope="module")
def replay():
    return point_replay(3)


def bias(trained) -> float:
    return round(trained.policy["bias2"][0].item(), 4)


@pytest.fixture(params=METHODS)
def walking(request):
    """A learner with a good policy of bias 0, and the biases that its iterations began at: each adds 1."""
    method, config = METHODS[request.param]
    learner, begun = method(PointTask(), config, seed=0), []
    learner._good = dataclasses.replace(learner._good, version=1)

    def iterate(world):
        now = learner.method.trained.copied()
        begun.append(bias(now))
        now.policy["bias2"] += 1.0
        learner.method.replace(now)
        return 0

    learner.method.iterate = iterate
    return learner, begun


def scored(learner, *returns: float, spread: float = 0.0) -> None:
    """What validation finds, call by call."""
    found = iter(returns)
    learner._score = lambda trial: Score(
        torch.full((5,), float(next(found))), torch.full((5,), spread), torch.zeros(5)
    )


def test_it_goes_on_until_the_last_good_policy_is_beaten(walking, replay):
    learner, begun = walking
    scored(learner, 5, 1, 5)  # the last good policy, that at the end, the last good one from where episodes begin
    assert not learner.round(replay).accepted
    assert bias(learner._good.trained) == bias(learner.method.trained) == 0, "what acts is what it was"
    scored(learner, 5, 1, 3, 5)  # the last good policy, that which goes on, that at the end, and the last good one
    report = learner.round(replay)
    assert not report.accepted
    assert report.validation_ratio == 1.0, "progress, and yet worse than the last good one"
    scored(learner, 5, 3, 6, 6)
    assert learner.round(replay).accepted
    assert learner.version == 2
    assert bias(learner._good.trained) == 6
    scored(learner, 6, 7, 7)
    learner.round(replay)
    assert begun == [0, 1, 2, 3, 4, 5, 6, 7]


def test_a_round_that_goes_on_without_progress_is_the_last_one_that_does(walking, replay):
    learner, begun = walking
    for returns in ((5, 1, 5), (5, 1, 1, 5), (5, 1, 5), (5, 1, 1, 5)):
        scored(learner, *returns)
        assert not learner.round(replay).accepted
    assert begun == [0, 1, 2, 3, 0, 1, 2, 3]


def test_chance_alone_does_not_keep_what_goes_on_from_replacing_the_last_good_one(walking, replay):
    learner, _ = walking
    scored(learner, 5, 1, 5)
    learner.round(replay)
    scored(learner, 5, 1, 4.9, 4.9, spread=10.0)  # less by 0.01 of the spread over starts
    assert learner.round(replay).accepted


def test_its_spread_is_widened_where_a_round_begins_from_the_last_good_policy_alone(walking, replay):
    learner, _ = walking
    narrow = learner._good.trained.copied()
    narrow.policy["log_std"].fill_(-2.0)
    learner._good = dataclasses.replace(learner._good, trained=narrow)
    iterate, spreads = learner.method.iterate, []

    def narrowing(world):
        now = learner.method.trained.copied()
        spreads.append(round(now.policy["log_std"][0].item(), 4))
        now.policy["log_std"] -= 0.01
        learner.method.replace(now)
        return iterate(world)

    learner.method.iterate = narrowing
    for returns in ((5, 1, 5), (5, 1, 1, 5), (5, 1, 5)):
        scored(learner, *returns)
        learner.round(replay)
    first = spreads[0]
    assert first > -2.0
    assert spreads == pytest.approx([first, first - 0.01, first - 0.02, first - 0.03, first, first - 0.01], abs=2e-4)


def test_it_does_not_go_on_from_where_a_number_was_not_finite(walking, replay):
    learner, begun = walking
    scored(learner, 5, 1, 5)
    learner.round(replay)
    iterate = learner.method.iterate

    def spoilt(world):
        raise FloatingPointError("a loss: expected a finite number, got nan")

    learner.method.iterate = spoilt
    scored(learner, 5, 1)
    assert learner.round(replay).problem
    learner.method.iterate = iterate
    scored(learner, 5, 1, 5)
    learner.round(replay)
    assert begun == [0, 1, 0, 1]


def test_a_round_that_is_stopped_before_any_validation_changes_nothing(walking, replay):
    learner, begun = walking
    scored(learner, 5, 5)
    learner.round(replay, should_stop=lambda: True)
    assert learner._candidate is None
    scored(learner, 5, 1, 5)
    learner.round(replay)
    scored(learner, 5, 1, 5)
    learner.round(replay, should_stop=lambda: True)
    scored(learner, 5, 1, 1, 5)
    learner.round(replay)
    assert begun == [0, 1, 2, 3]


def test_until_there_is_a_good_policy_every_round_begins_from_the_untrained_one(walking, replay):
    learner, begun = walking
    learner._good = dataclasses.replace(learner._good, version=0)
    for returns in ((5, 1, 5), (5, 1, 5)):
        scored(learner, *returns)
        learner.round(replay)
    assert begun == [0, 1, 0, 1]


def test_what_goes_on_acts_as_it_did_where_new_data_shift_the_normaliser(walking, replay):
    learner, _ = walking
    scored(learner, 5, 1, 5)
    learner.round(replay)
    ended, begun = learner._candidate, []
    raw = torch.linspace(-1.0, 1.0, 4)
    learner.method.iterate = lambda world: begun.append((world.obs_norm, learner.method.trained.copied())) or 0
    scored(learner, 5, 1, 1, 5)
    learner.round(point_replay(6, seed=1))
    norm, trained = begun[0]
    assert not torch.equal(norm.scale, ended.obs_norm.scale)
    was, _ = learner.method.policy.distribution(ended.trained.policy, ended.obs_norm(raw))
    now, _ = learner.method.policy.distribution(trained.policy, norm(raw))
    assert torch.allclose(was, now, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_a_learner_that_goes_on_resumes_exactly(name, replay):
    method, config = METHODS[name]
    first, second = (method(PointTask(), config, seed=seed) for seed in (0, 9))
    for learner in (first, second):  # every policy is worse than the one before: nothing is accepted
        learner._good = dataclasses.replace(learner._good, version=1)
        scored(learner, *range(0, -20, -1))
    first.round(replay)
    checkpoint = first.checkpoint()
    assert "candidate.policy.weight0" in checkpoint.arrays
    assert not np.array_equal(checkpoint.arrays["candidate.policy.weight0"], checkpoint.arrays["policy.weight0"])
    second.restore(checkpoint)
    for learner in (first, second):
        learner.round(replay)
    one, other = first.checkpoint(), second.checkpoint()
    assert "candidate.policy.weight0" not in one.arrays, "no progress: it is given up"
    assert one.facts == other.facts
    assert set(one.arrays) == set(other.arrays)
    assert all(np.array_equal(array, other.arrays[name]) for name, array in one.arrays.items())
    begun = [learner.method.trained.policy["weight0"] for learner in (first, second)]
    assert torch.equal(*begun)
