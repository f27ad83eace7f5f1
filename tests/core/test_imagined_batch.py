"""Rollouts on the robot against those of training, and by hand where the world is set right."""

import dataclasses

import numpy as np
import pytest
import torch
from fakes.adapting_bundle import adapting_bundle
from fakes.point_task import STEP, PointTask

from mbrl_core.adapter import Adapter
from mbrl_core.bundle import DisagreementMetadata
from mbrl_core.imagined_batch import ImaginedWorld
from mbrl_core.models.ensemble import Ensemble, EnsembleConfig
from mbrl_core.models.ensemble_graph import EnsembleGraph
from mbrl_core.models.normaliser import Normaliser
from mbrl_core.models.roll_out import roll_out
from mbrl_core.policies.gaussian_mlp import GaussianMlp, PolicyConfig
from mbrl_core.reality_gap import RealityGap
from mbrl_core.world_model import Prediction, WorldModel

HORIZON = 6


class Bounded(PointTask):
    """An episode ends right of 0.62."""

    def terminates(self, state, goal):
        return state[..., 0] > 0.62


class TwoMembers:
    """The position changes by STEP action, or twice as much, give or take 0.01."""

    members = 2

    def predict(self, inputs):
        mean = np.array([STEP, 2 * STEP])[:, None, None] * inputs[..., 2:]
        return Prediction(mean, np.full_like(mean, 2 * np.log(0.01)), np.zeros(1), inputs, np.array([0.1, 0.2]))


NO_GAP = RealityGap(np.zeros((2, 7, 2)), np.zeros(2))  # a constant, 4 inputs, 2 actions before
STARTS, GOALS = np.array([[0.0, 0.0], [0.1, 0.0], [0.0, 0.0], [0.1, 0.0]]), np.tile([0.3, 0.0], (4, 1))
BEFORE = np.tile([1.0, 0.0], (4, 1))


def rightwards(obs):
    """An action of 0.5 in x, drawn with a spread of 0.1 and 0.2."""
    return np.tile([0.5, 0.0], (len(obs), 1)), np.log([0.1, 0.2])


def test_without_noise_it_is_the_rollout_of_training():
    task = Bounded()
    generator = torch.Generator().manual_seed(0)
    inputs = 0.5 * torch.randn(100, 4, generator=generator)
    targets = 0.3 * torch.sin(3 * inputs[:, :2]) + 0.1 * inputs[:, 2:] + 0.1
    targets += 0.1 * torch.randn(100, 2, generator=generator)
    settings = EnsembleConfig(members=4, elites=3, hidden=(16,), max_steps=50)
    ensemble = Ensemble(4, 2, settings, seed=0)
    ensemble.fit(inputs[:80], targets[:80], inputs[80:], targets[80:])
    bundle = adapting_bundle(task)
    facts = dataclasses.replace(bundle.metadata, disagreement=DisagreementMetadata(slow_above=1.0, hold_above=2.0))
    graph = EnsembleGraph(ensemble).of(ensemble.asked_tensors())
    theta = bundle.theta + np.float32(0.1) * np.random.default_rng(0).standard_normal(len(bundle.theta), np.float32)
    bundle = dataclasses.replace(bundle, metadata=facts, ensemble_onnx=graph, theta=theta)
    policy, norm = GaussianMlp(4, 2, PolicyConfig(hidden=(16,))), Normaliser(torch.zeros(4), torch.ones(4))
    rng = np.random.default_rng(1)
    starts, goals = rng.uniform(-0.5, 0.5, (30, 2)), task.sample_goal(rng, 30)
    parameters = policy.unflatten(torch.as_tensor(theta))
    single = [torch.as_tensor(part, dtype=torch.float32) for part in (starts, goals)]
    act = lambda obs: policy.distribution(parameters, obs)  # noqa: E731
    with torch.no_grad():
        there = roll_out(task, ensemble, act, norm, *single, HORIZON, None)
    adapter = Adapter(bundle, task)
    world = ImaginedWorld(task, WorldModel(bundle, task), RealityGap(np.zeros((3, 7, 2)), np.zeros(2)))
    here = world.roll_out(lambda obs: adapter.distribution(theta, obs), starts, 0 * starts, goals, HORIZON, None)
    for name in ("obs", "actions", "log_prob", "rewards"):
        assert getattr(here, name) == pytest.approx(getattr(there, name).numpy(), abs=1e-4), name
    for name in ("terminated", "alive"):
        assert np.array_equal(getattr(here, name), getattr(there, name).numpy()), name
    assert 0 < there.terminated.sum() < 30, "some end, others do not"


def test_after_the_end_a_rollout_stays_and_earns_nothing():
    world = ImaginedWorld(Bounded(), TwoMembers(), NO_GAP)
    done = world.roll_out(rightwards, STARTS + [0.5, 0], BEFORE, GOALS, 4, None)
    assert done.alive[:, 2].tolist() == [True, True, False, False], "from 0.5 by 0.1 a step: past 0.62 with the second"
    assert done.terminated[:, 2].tolist() == [False, True, False, False]
    assert done.obs[:, 2, 0] == pytest.approx([0.5, 0.6, 0.7, 0.7, 0.7])
    assert done.rewards[:, 2] == pytest.approx([-0.3, -0.4, 0.0, 0.0], abs=1e-6)
    assert done.alive[:, 0].tolist() == [True, True, True, False], "the other member moves by 0.05"


def test_each_member_has_its_own_rows_and_its_own_correction():
    """Member 1 is told that it is 3 spreads too far in x, and half a spread for every unit of action too short in y."""
    weights = np.zeros((2, 7, 2))
    weights[1, 0, 0], weights[1, 3, 1] = -3 * 0.1, 0.5
    world = ImaginedWorld(PointTask(), TwoMembers(), RealityGap(weights, np.zeros(2)))
    done = world.roll_out(rightwards, STARTS, BEFORE, GOALS, 1, None)
    assert done.obs[1, :2, :2] == pytest.approx(STARTS[:2] + [0.05, 0.0])
    assert done.obs[1, 2:, :2] == pytest.approx(STARTS[2:] + [0.1 - 0.3 * 0.1, 0.5 * 0.5 * 0.2])


def test_a_late_arm_does_what_was_sent_one_step_before():
    """The first member's STEP action is taken back, and STEP times the action before put in its place."""
    weights = np.zeros((2, 7, 2))
    weights[0, 3, 0], weights[0, 5, 0] = -STEP / 0.1, STEP / 0.1
    world = ImaginedWorld(PointTask(), TwoMembers(), RealityGap(weights, np.zeros(2)))
    done = world.roll_out(rightwards, STARTS, BEFORE, GOALS, 3, None)
    assert done.obs[:, 0, 0] == pytest.approx([0.0, STEP, 1.5 * STEP, 2 * STEP]), "1 before, 0.5 from then on"


def test_rewards_are_earned_where_the_goal_truly_lies_and_the_policy_sees_where_it_is_said_to():
    world = ImaginedWorld(PointTask(), TwoMembers(), RealityGap(np.zeros((2, 7, 2)), np.array([0.1, 0.0])))
    done = world.roll_out(rightwards, STARTS, BEFORE, GOALS, 1, None)
    assert done.rewards[0] == pytest.approx([-0.35, -0.25, -0.30, -0.20], abs=1e-6)
    assert done.obs[0, :, 2] == pytest.approx([0.3, 0.2, 0.3, 0.2])


def test_actions_and_next_states_are_drawn_and_the_density_is_of_what_was_drawn():
    rng = np.random.default_rng(0)
    starts, goals = np.zeros((20_000, 2)), np.zeros((20_000, 2))
    done = ImaginedWorld(PointTask(), TwoMembers(), NO_GAP).roll_out(rightwards, starts, 0 * starts, goals, 1, rng)
    assert done.actions[0].mean(0) == pytest.approx([0.5, 0.0], abs=0.01)
    assert done.actions[0].std(0) == pytest.approx([0.1, 0.2], rel=0.03)
    z = (done.actions[0] - [0.5, 0.0]) / [0.1, 0.2]
    expected = -0.5 * (z**2).sum(1) - np.log(2 * np.pi * 0.1 * 0.2)
    assert done.log_prob[0] == pytest.approx(expected)
    left = (done.obs[1, :, :2] - np.repeat([STEP, 2 * STEP], 10_000)[:, None] * done.actions[0].clip(-1, 1)).std(0)
    assert left == pytest.approx([0.01, 0.01], rel=0.03)


def test_rows_that_cannot_be_shared_and_what_is_not_finite_are_refused():
    world = ImaginedWorld(PointTask(), TwoMembers(), NO_GAP)
    with pytest.raises(ValueError, match="starts: expected a multiple of 2 rows, got 3"):
        world.roll_out(rightwards, STARTS[:3], BEFORE[:3], GOALS[:3], 1, None)
    broken = ImaginedWorld(PointTask(), TwoMembers(), RealityGap(np.full((2, 7, 2), np.nan), np.zeros(2)))
    with pytest.raises(ValueError, match="imagination: expected finite rewards and states"):
        broken.roll_out(rightwards, STARTS, BEFORE, GOALS, 1, None)
