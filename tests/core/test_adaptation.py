import dataclasses
import math

import numpy as np
import pytest
import torch
from fakes.point_task import PointTask, point_episode, point_replay

from mbrl_core.algorithms.adaptation import real_batch
from mbrl_core.algorithms.inner_step import StepBatch, adapt, standardised, uniform_step_sizes
from mbrl_core.algorithms.mb_mpo import MbMpoConfig, mb_mpo
from mbrl_core.algorithms.me_ppo import MePpoConfig, me_ppo
from mbrl_core.algorithms.validation import ValidationConfig
from mbrl_core.models.ensemble import EnsembleConfig
from mbrl_core.models.imagination import ImaginationConfig
from mbrl_core.models.normaliser import Normaliser
from mbrl_core.policies.gaussian_mlp import GaussianMlp, PolicyConfig
from mbrl_core.types import StepFlag

POLICY = GaussianMlp(4, 2, PolicyConfig(hidden=()))
NORM = Normaliser(torch.tensor([0.1, 0.0, 0.0, 0.0]), torch.tensor([2.0, 1.0, 1.0, 1.0]))
SMALL = {
    "iterations": 2,
    "ensemble": EnsembleConfig(hidden=(16,), max_steps=50),
    "imagination": ImaginationConfig(rollouts=25, horizon=5),
    "validation": ValidationConfig(ratio=0.0),
}


def standing_still() -> dict:
    """Mean 0, spread 1."""
    return {"weight0": torch.zeros(4, 2), "bias0": torch.zeros(2), "log_std": torch.zeros(2)}


def short_episode(rewards, *, terminated=False, actions=None, flags=None):
    """The point stays at (0.3, 0) whatever it is asked; the goal is (0.5, 0.5)."""
    steps = len(rewards)
    asked = np.zeros((steps, 2)) if actions is None else np.array(actions)
    return dataclasses.replace(
        point_episode(np.random.default_rng(0)),
        states=np.tile([0.3, 0.0], (steps + 1, 1)),
        goal=np.array([0.5, 0.5]),
        actions_asked=asked,
        actions_sent=np.clip(asked, -1, 1),
        rewards=np.array(rewards),
        stamps_s=np.arange(steps + 1) * 0.05,
        flags=np.zeros(steps, dtype=np.uint8) if flags is None else np.array(flags, dtype=np.uint8),
        policy_versions=np.ones(steps, dtype=np.uint32),
        terminated=terminated,
        truncated=not terminated,
    )


def batch_of(*episodes, value=lambda obs: torch.zeros(len(obs)), discount=0.5, trace=1.0) -> StepBatch:
    return real_batch(PointTask(), POLICY, standing_still(), value, NORM, episodes, discount=discount, trace=trace)


def test_observations_are_what_the_policy_saw():
    batch = batch_of(short_episode([1.0, 2.0]))
    assert batch.obs.shape == (2, 1, 4)
    assert batch.obs[0, 0].tolist() == pytest.approx([(0.3 - 0.1) / 2, 0.0, 0.2, 0.5])


def test_actions_are_as_drawn_and_have_their_own_density():
    batch = batch_of(short_episode([1.0, 2.0], actions=[[3.0, 0.0], [0.0, 0.0]]))
    assert batch.actions[0, 0].tolist() == [3.0, 0.0]
    assert batch.log_prob[:, 0].tolist() == pytest.approx([-4.5 - math.log(math.tau), -math.log(math.tau)])


@pytest.mark.parametrize(("terminated", "bootstrap"), [(True, 0.0), (False, 5.0)])
def test_a_value_follows_where_time_ran_out_and_none_where_the_episode_ended(terminated, bootstrap):
    """Value 10, discount 1/2, trace 1: delta_t = r_t + 5 - 10 before the end, A_t = delta_t + A_{t+1} / 2."""
    rewards = [1.0, 2.0, 4.0]
    batch = batch_of(short_episode(rewards, terminated=terminated), value=lambda obs: torch.full((len(obs),), 10.0))
    last = 4.0 + bootstrap - 10.0
    middle = 2.0 - 5.0 + last / 2
    by_hand = torch.tensor([[1.0 - 5.0 + middle / 2], [middle], [last]])
    assert torch.allclose(batch.advantages, standardised(batch._replace(advantages=by_hand)).advantages)


def test_steps_with_a_gap_and_after_the_end_do_not_count():
    """Value 0, discount 1/2: advantages (1 + 2/2, 2) and (4), of which the gap's is left out."""
    gap = short_episode([1.0, 2.0], flags=[0, StepFlag.GAP | StepFlag.CLAMPED])
    batch = batch_of(gap, short_episode([4.0]))
    assert batch.weights.tolist() == [[1.0, 1.0], [0.0, 0.0]]
    assert batch.advantages.tolist() == [[-1.0, 1.0], [0.0, 0.0]]
    with pytest.raises(ValueError, match="episodes: expected at least one step without a gap, got '0 episodes'"):
        batch_of()
    with pytest.raises(ValueError, match="episodes: expected at least one step without a gap, got '1 episodes'"):
        batch_of(short_episode([1.0], flags=[StepFlag.GAP]))


def test_the_step_goes_towards_the_action_that_did_better():
    """Two one-step episodes: loss = -(r_1 - r_2) / 2, so the mean moves by alpha / 2 of (action 1 - action 2)."""
    good, bad = short_episode([1.0], actions=[[2.0, 0.0]]), short_episode([0.0], actions=[[0.0, 0.5]])
    theta = standing_still()
    step = adapt(POLICY, theta, uniform_step_sizes(theta, 0.1), batch_of(good, bad))
    assert step.loss.item() == pytest.approx(0.0)
    assert step.parameters["bias0"].tolist() == pytest.approx([0.05 * 2.0, -0.05 * 0.5])
    assert step.kl > 0


@pytest.mark.parametrize("lead", [(), (2,)])
def test_standardised_advantages_have_mean_0_and_spread_1_where_steps_count(lead):
    advantages, weights = torch.tensor([[1.0, 5.0], [3.0, 99.0]]), torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    advantages, weights = advantages.expand(*lead, 2, 2), weights.expand(*lead, 2, 2)
    blank = torch.zeros(*lead, 2, 2, 1)
    result = standardised(StepBatch(blank, blank, weights, advantages, weights)).advantages
    spread = math.sqrt(8 / 3)
    expected = torch.tensor([[-2 / spread, 2 / spread], [0.0, 0.0]]).expand(*lead, 2, 2)
    assert torch.allclose(result, expected)


def learned(make, config, device="cpu"):
    learner = make(PointTask(), config, seed=0, device=device)
    return learner, learner.round(point_replay())


def test_a_learner_adapts_to_real_episodes_and_stays_as_it_is(device):
    learner, _ = learned(mb_mpo, MbMpoConfig(**SMALL), device)
    before, episodes = learner.checkpoint(), [short_episode([0.0, 1.0, 5.0], actions=[[2.0, 0.0]] * 3)]
    adaptation = learner.adapt(episodes)
    assert not np.array_equal(adaptation.bundle.theta, learner.bundle().theta)
    assert adaptation.kl > 0
    assert adaptation.gradient_norm > 0
    assert learner.adapt(episodes).bundle.to_bytes() == adaptation.bundle.to_bytes()
    after = learner.checkpoint()
    assert after.facts == before.facts
    assert all(np.array_equal(array, before.arrays[name]) for name, array in after.arrays.items())


def test_a_learner_that_cannot_adapt_says_why():
    with pytest.raises(ValueError, match="policy_version: expected at least 1"):
        mb_mpo(PointTask(), MbMpoConfig(**SMALL), seed=0).adapt([])
    learner, _ = learned(me_ppo, MePpoConfig(**SMALL))
    with pytest.raises(ValueError, match="method: expected one with an inner step, got 'MePpo'"):
        learner.adapt([])


def test_a_round_reports_its_last_inner_steps_where_there_are_any():
    _, report = learned(mb_mpo, MbMpoConfig(**SMALL))
    assert report.inner_return_before < 0
    assert report.inner_return_after < 0
    assert report.inner_return_after != report.inner_return_before
    assert report.inner_kl > 0
    _, report = learned(me_ppo, MePpoConfig(**SMALL))
    assert report.inner_return_before is report.inner_return_after is report.inner_kl is None
