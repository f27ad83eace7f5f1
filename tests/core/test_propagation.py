"""Who predicts, where a rollout is cut, what disagreement is worth: on a point with known members."""

import dataclasses
import math
from functools import partial

import numpy as np
import pytest
import torch
from fakes.known_ensemble import BendingEnsemble
from fakes.point_task import STEP, PointTask
from fakes.point_task import point_replay as replay

from mbrl_core.algorithms.bptt import BpttConfig, bptt
from mbrl_core.algorithms.dataset import dataset
from mbrl_core.algorithms.mb_mpo import MbMpoConfig, mb_mpo
from mbrl_core.algorithms.me_ppo import MePpo, MePpoConfig, me_ppo
from mbrl_core.algorithms.me_trpo import MeTrpoConfig, me_trpo
from mbrl_core.algorithms.ppo import PpoConfig
from mbrl_core.algorithms.validation import Trial, score
from mbrl_core.algorithms.value_fit import ValueConfig, ValueFit
from mbrl_core.algorithms.vanilla import vanilla
from mbrl_core.algorithms.world import Imagined, World
from mbrl_core.models.ensemble import EnsembleConfig
from mbrl_core.models.imagination import BonusConfig, ImaginationConfig
from mbrl_core.models.normaliser import Normaliser
from mbrl_core.models.roll_out import PLAIN, Rules, roll_out
from mbrl_core.models.state_range import StateRange
from mbrl_core.policies.gaussian_mlp import GaussianMlp

NORM, ROWS, HORIZON = Normaliser(torch.zeros(4), torch.ones(4)), 10, 4
STEP_RULES = Rules("step")


class Doubtful(BendingEnsemble):
    """Member m moves x by (m + 1) STEP times the action; members disagree by x, wherever the point is."""

    def __init__(self):
        super().__init__()
        self.asked_for = []

    def predict(self, inputs):
        self.asked_for.append(inputs.shape)
        gain = torch.arange(1.0, 6.0)[:, None, None] * STEP
        return gain * inputs[..., 2:], torch.full((*inputs.shape[:2], 2), -80.0)

    def disagreement(self, inputs):
        return inputs[..., 0].clamp(min=0.0)


def ahead(obs):
    """Half a step in x, the same for everybody."""
    return torch.tensor([0.5, 0.0]).expand(len(obs), 2), torch.full((2,), -20.0)


def rolled(rules=PLAIN, ensemble=None, task=None, horizon=HORIZON, seed=0):
    starts, goals = torch.zeros(ROWS, 2), torch.zeros(ROWS, 2)
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    ensemble, task = ensemble or Doubtful(), task or PointTask()
    return roll_out(task, ensemble, ahead, NORM, starts, goals, horizon, generator, rules)


def test_members_dealt_at_every_step_are_used_evenly_and_change():
    ensemble = Doubtful()
    result = rolled(STEP_RULES, ensemble, horizon=30)
    assert ensemble.asked_for == [(5, 2, 4)] * 30
    for step in range(30):
        assert result.member[step].bincount().tolist() == [2] * 5
    assert all(len(set(result.member[:, row].tolist())) == 5 for row in range(ROWS))


def test_a_row_moves_as_the_member_that_it_is_dealt_says():
    result = rolled(STEP_RULES)
    moved = result.obs[1:, :, 0] - result.obs[:-1, :, 0]
    assert torch.allclose(moved, (result.member + 1) * 0.5 * STEP, atol=1e-5)


def test_members_cannot_be_dealt_without_a_generator():
    with pytest.raises(ValueError, match="generator: expected one, to deal the members of every step, got None"):
        rolled(STEP_RULES, seed=None)


def test_a_rollout_is_cut_before_the_step_on_which_members_disagree():
    # member m is at 0.05 (m + 1) t after t steps; beyond 0.12 nothing is trusted
    result = rolled(Rules(most_disagreement=0.12))
    steps = result.alive.sum(0).reshape(5, 2)[:, 0]
    assert steps.tolist() == [3, 2, 1, 1, 1]
    assert torch.equal(result.truncated.nonzero()[:, 0].bincount(), torch.tensor([6, 2, 2]))
    assert (result.truncated & ~result.alive).sum() == 0
    assert torch.allclose(result.last_states[::2, 0], torch.tensor([0.15, 0.2, 0.15, 0.2, 0.25]), atol=1e-4)
    assert torch.allclose(result.obs[-1, :, 0], result.last_states[:, 0])
    assert (result.rewards[~result.alive] == 0).all()
    assert not result.terminated.any()


def test_the_value_follows_a_cut_in_the_advantages_of_every_method():
    cut = rolled(Rules(most_disagreement=0.12))
    config = MePpoConfig(ppo=PpoConfig(discount=0.9))
    ppo = MePpo(PointTask(), config, torch.Generator().manual_seed(0))
    fit = ValueFit(4, ValueConfig(discount=0.9), torch.Generator().manual_seed(0))
    for values, returns in (
        (lambda obs: ppo._value.value(ppo.trained.value, obs), lambda: ppo._samples(cut).returns[:ROWS]),
        (fit.values, lambda: fit.advantages(cut)[1][0]),
    ):
        with torch.no_grad():
            expected = cut.rewards[0] + 0.9 * values(cut.obs[1])  # of what is cut after its first step
            assert values(cut.obs[1]).abs().min() > 1e-3
        got = returns()
        assert torch.allclose(got[4:], expected[4:], atol=1e-5)
        assert not torch.allclose(got[:2], expected[:2], atol=1e-3), "the first member's go on"


def test_the_first_step_is_always_taken_and_none_is_cut_at_the_horizon():
    result = rolled(Rules(most_disagreement=-1.0))
    assert result.alive.sum(0).tolist() == [1] * ROWS
    assert not rolled(Rules(most_disagreement=-1.0), horizon=1).truncated.any()


def test_a_rollout_that_has_terminated_is_not_cut():
    class Walled(PointTask):
        def terminates(self, state, goal):
            return state[..., 0] > 0.12

    result = rolled(Rules(most_disagreement=0.12), task=Walled())
    assert not result.truncated.any()
    assert result.terminated.any(0).all()


def test_a_bonus_pays_for_the_disagreement_before_the_step():
    plain, paid = rolled(), rolled(Rules(bonus=10.0))
    assert torch.allclose(paid.rewards - plain.rewards, 10 * plain.obs[:-1, :, 0], atol=1e-5)


def world(reward_spread=2.0, real_steps=0, ensemble=None, task=None):
    task = task or PointTask()
    data = dataclasses.replace(dataset(replay(), task, "cpu"), reward_spread=reward_spread, real_steps=real_steps)
    generator, ensemble = torch.Generator().manual_seed(0), ensemble or Doubtful()
    return World(task, ensemble, NORM, data, lambda count: torch.zeros(count, 2), generator, Imagined())


def test_settings_are_in_units_of_the_data():
    here = world(real_steps=25)
    usual = here.data.inputs[:, 0].clamp(min=0.0)
    config = ImaginationConfig(truncation=3.0, bonus=BonusConfig(weight=0.8, anneal_steps=100))
    rules = here.rules(config)
    assert rules.most_disagreement == pytest.approx(3 * float(usual.quantile(0.99)))
    assert rules.bonus == pytest.approx(0.8 * 0.75 * 2.0 / float(usual.mean()))
    assert here.imagined.bonus_weight == pytest.approx(0.6)
    plain = here.rules(ImaginationConfig())
    assert dataclasses.replace(plain, within=None) == PLAIN
    assert torch.equal(plain.within.high, here.data.state_range.widened(1.0).high)
    assert torch.equal(rules.within.high, plain.within.high)


def test_the_rewards_spread_is_that_of_what_was_collected():
    buffer = replay()
    rewards = np.concatenate([episode.rewards for episode in buffer.episodes])
    assert dataset(buffer, PointTask(), "cpu").reward_spread == pytest.approx(rewards.std())


def test_a_bonus_falls_linearly_to_nothing():
    bonus = BonusConfig(weight=2.0, anneal_steps=1000)
    assert [bonus.weight_at(steps) for steps in (0, 500, 1000, 5000)] == [2.0, 1.0, 0.0, 0.0]


def test_the_share_of_cut_rollouts_is_counted():
    class Steep(Doubtful):
        """Rollouts of the last two members are cut at once, those of the others never; usual disagreement is 1."""

        def disagreement(self, inputs):
            doubt = torch.ones(len(inputs))
            doubt[60:] = 9.0 if len(inputs) == 100 else 1.0
            return doubt

    here = world(ensemble=Steep())
    here.imagine(ahead, ImaginationConfig(rollouts=100, horizon=3, truncation=2.0))
    here.imagine(ahead, ImaginationConfig(rollouts=100, horizon=3))
    assert here.imagined.truncated_share == pytest.approx(40 / 200)


class Flat(PointTask):
    """Nothing is worth anything."""

    def reward(self, state, action, next_state, goal):
        return 0.0 * next_state[..., 0]


@pytest.mark.parametrize(("weight", "drawn"), [(0.0, False), (1.0, True)])
def test_a_policy_prefers_where_members_disagree_if_there_is_a_bonus(weight, drawn):
    shape = ImaginationConfig(rollouts=100, horizon=10, bonus=BonusConfig(weight=weight))
    config = MePpoConfig(imagination=shape, ppo=PpoConfig(minibatch=250, learning_rate=3e-3))
    here = world(task=Flat())
    method = MePpo(Flat(), config, torch.Generator().manual_seed(0))
    for _ in range(20):
        method.iterate(here)
    act = partial(method.policy.distribution, method.trained.policy)
    with torch.no_grad():
        mean, _ = act(torch.zeros(1, 4))
    assert (mean[0, 0].item() > 0.3) == drawn, "disagreement grows with x"


def test_validation_pays_no_bonus_and_cuts_nothing():
    policy = GaussianMlp(4, 2)
    parameters = policy.initial(torch.Generator().manual_seed(0)) | {"bias2": torch.tensor([0.9, 0.0])}
    trial = Trial(torch.ones(3, 2), torch.zeros(3, 2), StateRange(torch.full((2,), -9.0), torch.full((2,), 9.0)), 6)
    result = score(Flat(), Doubtful(), policy, parameters, NORM, trial)
    assert result.returns.tolist() == [0.0] * 5, "members disagree, and the task pays nothing"


def test_a_round_reports_cuts_and_bonus():
    shape = ImaginationConfig(
        rollouts=100, horizon=10, propagation="step", truncation=0.1, bonus=BonusConfig(weight=0.5, anneal_steps=160)
    )
    small = EnsembleConfig(hidden=(8,), max_steps=50)
    learner = me_ppo(PointTask(), MePpoConfig(iterations=5, ensemble=small, imagination=shape))
    report = learner.round(replay())
    assert not report.problem
    assert report.bonus_weight == pytest.approx(0.25)
    assert 0 < report.truncated_share <= 1
    assert report.imagined_steps < 5 * 100 * 10


@pytest.mark.parametrize(("method", "settings"), [(bptt, BpttConfig), (me_trpo, MeTrpoConfig), (mb_mpo, MbMpoConfig)])
def test_other_methods_improve_on_cut_rollouts_with_a_bonus(method, settings):
    shape = ImaginationConfig(rollouts=50, horizon=10, truncation=0.1, bonus=BonusConfig(weight=0.1))
    small = EnsembleConfig(hidden=(8,), max_steps=50, elites=2)
    report = method(PointTask(), settings(iterations=3, ensemble=small, imagination=shape)).round(replay())
    assert not report.problem
    assert 0 < report.truncated_share <= 1
    assert report.bonus_weight > 0


@pytest.mark.parametrize(
    ("shape", "complaint"),
    [
        (ImaginationConfig(truncation=2.0), "imagination.truncation: expected 0 with one member, .* got 2.0"),
        (ImaginationConfig(bonus=BonusConfig(weight=0.5)), "bonus.weight: expected 0 with one member, .* got 0.5"),
        (ImaginationConfig(bonus=BonusConfig(weight=-1.0)), "BonusConfig.weight: expected at least 0"),
        (ImaginationConfig(propagation="world"), "ImaginationConfig.propagation: expected one of"),
        (ImaginationConfig(truncation=math.inf), "ImaginationConfig.truncation: expected a finite number"),
    ],
)
def test_what_cannot_be_imagined_is_refused(shape, complaint):
    with pytest.raises(ValueError, match=complaint):
        vanilla(PointTask(), MePpoConfig(imagination=shape))


def test_policies_of_the_members_own_stay_in_their_members():
    with pytest.raises(ValueError, match="imagination.propagation: expected 'rollout': each member has a policy"):
        mb_mpo(PointTask(), MbMpoConfig(imagination=ImaginationConfig(propagation="step")))
