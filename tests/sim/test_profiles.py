"""Every arm that we ship: its profile fits its MJCF, and the arm can hold itself up and reach its goals."""

import numpy as np
import pytest

from mbrl_core.arm import ArmProfile, load_profile
from mbrl_core.kinematics import Chain
from mbrl_sim import ASSETS
from mbrl_sim.physics import ArmPhysics
from mbrl_sim.reach_env import ReachEnv

ARMS = sorted(path.stem for path in ASSETS.glob("*.yaml"))


@pytest.fixture(params=ARMS)
def profile(request: pytest.FixtureRequest) -> ArmProfile:
    return load_profile(ASSETS / f"{request.param}.yaml")


def test_there_are_arms_of_both_servo_families() -> None:
    assert {load_profile(ASSETS / f"{name}.yaml").bus.protocol for name in ARMS} >= {"feetech_sts", "dynamixel_x"}


def test_kinematics_are_mujocos(profile: ArmProfile) -> None:
    physics, chain, rng = ArmPhysics(profile), Chain(profile, whole=True), np.random.default_rng(0)
    for _ in range(20):
        pose = rng.uniform(profile.vector("lower_rad"), profile.vector("upper_rad"))
        physics.reset(pose)
        np.testing.assert_allclose(chain.tip(pose), physics.tip, atol=1e-6)


def test_home_is_held_against_gravity_inside_the_workspace(profile: ArmProfile) -> None:
    physics = ArmPhysics(profile)
    physics.advance(3.0)
    sag = np.abs(physics.position - profile.vector("home_rad"))
    assert sag.max() < 0.06, sag
    assert np.abs(physics.velocity).max() < 1e-3
    assert (physics.tip > profile.workspace_low_m).all() and (physics.tip < profile.workspace_high_m).all()


def test_goals_lie_in_the_workspace_and_within_reach(profile: ArmProfile) -> None:
    """Each corner of the goal box is reached by some pose of 200,000."""
    low, high = np.array(profile.goal_low_m), np.array(profile.goal_high_m)
    assert (low >= profile.workspace_low_m).all() and (high <= profile.workspace_high_m).all()
    index, rng = profile.controlled, np.random.default_rng(0)
    poses = rng.uniform(profile.vector("lower_rad")[index], profile.vector("upper_rad")[index], (200_000, len(index)))
    tips = Chain(profile).tip(poses)
    for corner in np.stack(np.meshgrid(*zip(low, high, strict=True)), axis=-1).reshape(-1, 3):
        assert np.linalg.norm(tips - corner, axis=-1).min() < 0.02, corner


def test_random_episodes_stay_finite_and_within_the_soft_limits(profile: ArmProfile) -> None:
    env = ReachEnv(profile)
    rng = np.random.default_rng(0)
    obs, _ = env.reset(seed=0)
    for _ in range(100):
        obs, reward, *_ = env.step(rng.uniform(-1, 1, env.action_space.shape))
        assert np.isfinite(obs).all() and np.isfinite(reward)
