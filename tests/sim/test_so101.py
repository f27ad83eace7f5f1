"""The SO-101's goals lie where the arm can go."""

import itertools

import mujoco
import numpy as np
import pytest

from mbrl_core.arm import ArmProfile, load_profile
from mbrl_sim import ASSETS
from mbrl_sim.physics import ArmPhysics

CORNERS = list(itertools.product([0.0, 1.0], repeat=3))
INSIDE = np.random.default_rng(0).uniform(size=(30, 3)).tolist()


@pytest.fixture(scope="module")
def profile() -> ArmProfile:
    return load_profile(ASSETS / "so101.yaml")


@pytest.fixture(scope="module")
def arm(profile: ArmProfile) -> ArmPhysics:
    return ArmPhysics(profile)


def reach(arm: ArmPhysics, goal: np.ndarray) -> np.ndarray:
    """Damped least squares from home with the five controlled joints, within the soft limits."""
    profile = arm.profile
    lower, upper, home = (profile.vector(f"{name}_rad") for name in ("lower", "upper", "home"))
    site = arm.model.site(profile.tool_site).id
    jacobian, position = np.zeros((3, arm.model.nv)), home.copy()
    for _ in range(200):
        arm.reset(position)
        mujoco.mj_jacSite(arm.model, arm.data, jacobian, None, site)
        active = jacobian[:, profile.controlled]
        pull = active.T @ np.linalg.solve(active @ active.T + 1e-4 * np.eye(3), goal - arm.tip)
        position[profile.controlled] += np.clip(0.5 * pull, -0.1, 0.1)
        position = np.clip(position, lower, upper)
    arm.reset(position)
    return position


@pytest.mark.parametrize("where", CORNERS + INSIDE)
def test_every_goal_is_within_reach_and_clear_of_the_table(
    arm: ArmPhysics, profile: ArmProfile, where: list[float]
) -> None:
    low, high = np.array(profile.goal_low_m), np.array(profile.goal_high_m)
    goal = low + np.array(where) * (high - low)
    reach(arm, goal)
    np.testing.assert_allclose(arm.tip, goal, atol=1e-3)
    assert arm.data.ncon == 0
    arm.reset(profile.vector("home_rad"))
    assert np.linalg.norm(goal - arm.tip) < 0.25


def test_few_goals_are_reached_by_staying_at_home(arm: ArmPhysics, profile: ArmProfile) -> None:
    arm.reset(profile.vector("home_rad"))
    goals = np.random.default_rng(1).uniform(profile.goal_low_m, profile.goal_high_m, (10_000, 3))
    assert np.mean(np.linalg.norm(goals - arm.tip, axis=1) < 0.02) < 0.01
