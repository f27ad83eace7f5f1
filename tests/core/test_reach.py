import math

import numpy as np
import pytest
import torch

from mbrl_core.arm import load_profile
from mbrl_core.tasks.reach import ReachConfig, ReachTask
from mbrl_sim import profile_path

PROFILE = load_profile(profile_path("so101"))
TASK = ReachTask(PROFILE)


def states(count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    position = rng.uniform(TASK.increment.lower, TASK.increment.upper, (count, 5))
    return np.concatenate([position, rng.normal(0, 0.5, (count, 5)), position + rng.normal(0, 0.02, (count, 5))], 1)


def both(function, *arrays: np.ndarray) -> None:
    """A function gives the same for numpy and torch, in either precision."""
    expected = np.asarray(function(*arrays))
    double = function(*(torch.as_tensor(array) for array in arrays))
    single = function(*(torch.as_tensor(array, dtype=torch.float32) for array in arrays))
    assert np.allclose(double.numpy(), expected, atol=1e-12)
    assert np.allclose(single.numpy(), expected, atol=1e-4) or expected.dtype == bool


def test_numpy_and_torch_agree():
    state, rng = states(50), np.random.default_rng(1)
    action, goal = rng.uniform(-1.5, 1.5, (50, 5)), TASK.sample_goal(rng, 50)
    both(TASK.tip, state)
    both(TASK.observe, state, goal)
    both(TASK.distance, state, goal)
    both(TASK.reward, state, action, state, goal)
    both(TASK.success, state, goal)
    both(TASK.admissible, state, action)
    both(TASK.model_input, state, action)
    both(TASK.model_target, state, state[::-1].copy())
    both(TASK.next_state, state, action, rng.normal(0, 0.02, (50, 10)))


def test_reward_by_hand():
    config = ReachConfig(distance_weight=2.0, near_weight=0.5, near_width_m=0.04, effort_weight=0.01)
    task = ReachTask(PROFILE, config)
    state = np.concatenate([task.home, np.zeros(5), task.home])
    goal = task.tip(state) + np.array([0.0, 0.04, 0.0])
    action = np.array([1.0, -1.0, 0.5, 0.0, 0.0])
    assert task.reward(state, action, state, goal) == pytest.approx(
        0.5 * math.exp(-1) - 2 * 0.04 - 0.01 * 2.25, abs=1e-6
    )


def test_success_is_a_tip_within_the_tolerance():
    state = np.concatenate([TASK.home, np.zeros(5), TASK.home])
    tip = TASK.tip(state)
    assert TASK.success(state, tip + np.array([0.0199, 0, 0]))
    assert not TASK.success(state, tip + np.array([0.0, 0.0201, 0]))


def test_observation_is_what_its_slices_say():
    (state,), goal = states(1), np.array([0.2, 0.1, 0.15])
    obs = TASK.observe(state, goal)
    assert obs.shape == (TASK.obs_dim,) == (24,)
    parts = {name: obs[start:stop] for name, (start, stop) in TASK.obs_slices.items()}
    assert np.array_equal(parts["position"], state[:5])
    assert np.array_equal(parts["velocity"], state[5:10])
    assert np.allclose(parts["tracking_error"], state[10:] - state[:5])
    assert np.allclose(parts["tip"], TASK.tip(state))
    assert np.allclose(parts["goal_minus_tip"], goal - TASK.tip(state))


def test_a_state_follows_from_the_change_that_was_learned():
    before, after = states(2)
    action = (after[10:] - before[10:]) / PROFILE.action_scale_rad
    assert np.allclose(TASK.next_state(before, action, TASK.model_target(before, after)), after)


def test_admissible_actions_keep_the_arms_limits_and_leave_small_ones_alone():
    state, rng = states(300), np.random.default_rng(2)
    action = rng.uniform(-3, 3, (300, 5))
    sent = TASK.admissible(state, action)
    target = state[:, 10:] + PROFILE.action_scale_rad * sent
    inside = (state[:, 10:] >= TASK.increment.lower) & (state[:, 10:] <= TASK.increment.upper)
    kept = (target >= TASK.increment.lower - 1e-9) & (target <= TASK.increment.upper + 1e-9)
    assert kept[inside].all()
    travel = np.linalg.norm(TASK.chain.tip(target) - TASK.chain.tip(state[:, 10:]), axis=-1)
    assert (travel <= PROFILE.tcp_speed_m_s * PROFILE.step_s).all()
    home = np.concatenate([TASK.home, np.zeros(5), TASK.home])
    assert np.allclose(TASK.admissible(home, np.full(5, 0.1)), 0.1)


def test_goals_lie_in_the_box_and_repeat_with_their_seed():
    goals = TASK.sample_goal(np.random.default_rng(3), 200)
    assert goals.shape == (200, 3)
    assert (goals >= PROFILE.goal_low_m).all() and (goals <= PROFILE.goal_high_m).all()
    assert np.array_equal(goals, TASK.sample_goal(np.random.default_rng(3), 200))
