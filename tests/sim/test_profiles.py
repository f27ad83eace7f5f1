"""Every arm that comes with the project: its profile agrees with its MJCF, it holds itself, it reaches its goals."""

import dataclasses
import itertools
import math
import warnings
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest

from mbrl_core.actor import RandomActor
from mbrl_core.arm import ArmProfile, load_profile
from mbrl_core.control_config import ControlConfig
from mbrl_core.kinematics import Chain
from mbrl_core.types import TIME_LIMIT
from mbrl_sim import ASSETS
from mbrl_sim.physics import ArmPhysics
from mbrl_sim.profile_check import check_profile
from mbrl_sim.reach_env import ReachEnv, run_episode
from mbrl_sim.reachable import nearest

NAMES = ("koch", "open_manipulator_x", "so100", "so101", "so101_ros2_control")
SAG = {"koch": 0.075, "open_manipulator_x": 0.02, "so100": 0.025, "so101": 0.015, "so101_ros2_control": 0.015}  # rad
FRACTIONS = list(itertools.product([0.0, 1.0], repeat=3)) + np.random.default_rng(0).uniform(size=(30, 3)).tolist()


def test_this_file_knows_every_profile() -> None:
    assert sorted(path.stem for path in ASSETS.glob("*.yaml")) == sorted(NAMES)


@pytest.fixture(scope="module", params=NAMES)
def profile(request: pytest.FixtureRequest) -> ArmProfile:
    return load_profile(ASSETS / f"{request.param}.yaml")


@pytest.fixture(scope="module")
def arm(profile: ArmProfile) -> ArmPhysics:
    return ArmPhysics(profile)


def test_profile_agrees_with_its_mjcf(profile: ArmProfile) -> None:
    check_profile(profile)


@pytest.mark.parametrize("whole", [False, True])
def test_forward_kinematics_is_mujocos(profile: ArmProfile, arm: ArmPhysics, whole: bool) -> None:
    lower, upper, home = (profile.vector(f"{name}_rad") for name in ("lower", "upper", "home"))
    chain, rng = Chain(profile, whole=whole), np.random.default_rng(0)
    for _ in range(50):
        pose = rng.uniform(lower, upper)
        if not whole:
            pose = np.where([joint.controlled for joint in profile.joints], pose, home)
        arm.reset(pose)
        np.testing.assert_allclose(chain.tip(pose if whole else pose[profile.controlled]), arm.tip, atol=1e-9)


def test_home_holds_under_gravity(profile: ArmProfile, arm: ArmPhysics) -> None:
    """A servo sags by the torque that it carries over its gain; dry friction may add its share either way."""
    home = profile.vector("home_rad")
    arm.reset(home)
    carried, gain = np.abs(arm.data.qfrc_bias), arm.model.actuator_gainprm[:, 0]
    arm.advance(3.0)
    sag = np.abs(arm.position - home)
    assert (np.abs(arm.load) < 0.35 * arm.stall_torque).all()
    assert (sag < 1.1 * (carried + arm.model.dof_frictionloss) / gain).all()
    assert sag.max() < SAG[profile.name] < 0.8 * ControlConfig().reset_tolerance_rad
    assert np.abs(arm.velocity).max() < 0.01


def test_every_goal_is_within_reach_and_clear_of_the_table(profile: ArmProfile, arm: ArmPhysics) -> None:
    low, high = np.array(profile.goal_low_m), np.array(profile.goal_high_m)
    arm.reset(profile.vector("home_rad"))
    start = arm.tip
    for where in FRACTIONS:
        goal = low + np.array(where) * (high - low)
        np.testing.assert_allclose(nearest(profile, arm.model, arm.data, goal), goal, atol=1e-3)
        mujoco.mj_forward(arm.model, arm.data)
        assert arm.data.ncon == 0
        assert np.linalg.norm(goal - start) < 0.25


def test_few_goals_are_reached_by_staying_at_home(profile: ArmProfile, arm: ArmPhysics) -> None:
    arm.reset(profile.vector("home_rad"))
    goals = np.random.default_rng(1).uniform(profile.goal_low_m, profile.goal_high_m, (10_000, 3))
    assert np.mean(np.linalg.norm(goals - arm.tip, axis=1) < 0.02) < 0.015


def test_random_episodes_stay_within_what_the_arm_can_do(profile: ArmProfile) -> None:
    env = ReachEnv(profile)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    for index in range(3):
        episode = run_episode(env, RandomActor(env.task.action_dim), index=index, rng=rng)
        assert episode.end_reason == TIME_LIMIT
        joints = env.task.joints
        position, velocity = episode.states[:, :joints], episode.states[:, joints : 2 * joints]
        lower, upper = (profile.vector(f"{name}_rad")[profile.controlled] for name in ("lower", "upper"))
        assert (position > lower - 0.15).all()
        assert (position < upper + 0.15).all()
        assert np.abs(velocity).max() < 4.0
        assert np.abs(np.diff(position, axis=0)).max() > 0.01


def test_twin_of_the_profile_obeys_its_servos_speed(profile: ArmProfile, arm: ArmPhysics) -> None:
    """The command's speed limit is one that each servo can keep, without load."""
    free = arm.stall_torque / arm.model.dof_damping
    assert (profile.vector("velocity_rad_s") < 0.75 * free).all()


@pytest.mark.parametrize("name", [name for name in NAMES if "ros2_control" not in name])
def test_middle_of_an_asymmetric_range_is_where_calibration_puts_it(name: str) -> None:
    """Zeros are given for count 2048 at the middle of the mechanical range, or at angle 0."""
    profile = load_profile(ASSETS / f"{name}.yaml")
    model = ArmPhysics(profile).model
    for joint in profile.joints:
        middle = float(np.mean(model.joint(joint.name).range))
        count = joint.zero_count + joint.sign * middle * profile.bus.counts_per_turn / (2 * math.pi)
        assert joint.zero_count == 2048 or count == pytest.approx(2048, abs=1.0)


def with_joint(profile: ArmProfile, name: str, /, **changes: Any) -> ArmProfile:
    joints = (dataclasses.replace(joint, **changes) if joint.name == name else joint for joint in profile.joints)
    return dataclasses.replace(profile, joints=tuple(joints))


LIFT = "shoulder_lift"
SO100, SO101 = (load_profile(ASSETS / f"{name}.yaml") for name in ("so100", "so101"))
CONTRADICTIONS = {
    "joint missing": (with_joint(SO101, LIFT, name="lift"), r"joints: expected a hinge joint of the MJCF.*got 'lift'"),
    "tool site missing": (
        dataclasses.replace(SO101, tool_site="pen"),
        r"tool_site: expected a site of the MJCF, which has \['tool'\], got 'pen'",
    ),
    "limit outside": (
        with_joint(SO101, LIFT, lower_rad=-1.8),
        r"shoulder_lift\.lower_rad: expected inside the MJCF's range \[-1\.74533, 1\.74533\], got -1\.8",
    ),
    "limits mirrored": (
        with_joint(SO100, LIFT, lower_rad=-0.13, upper_rad=3.28, home_rad=2.1),
        r"shoulder_lift\.lower_rad, upper_rad: expected inside the MJCF's range \[-3\.32, 0\.174\]; its mirror image"
        r" fits.*got \[-0\.13, 3\.28\]",
    ),
    "sign wrong": (
        with_joint(SO100, LIFT, sign=-1),
        r"shoulder_lift\.lower_rad: expected within encoder counts 0 to 4095 \(zero_count 3073, sign -1\); with sign 1"
        r" it would be, got 5211",
    ),
    "zero wrong": (
        with_joint(SO101, LIFT, zero_count=600),
        r"shoulder_lift\.lower_rad: expected within encoder counts 0 to 4095 \(zero_count 600, sign 1\), got -508",
    ),
    "home in the table": (
        with_joint(SO101, LIFT, home_rad=1.4),
        r"so101: home pose: expected links .* none in the table \(world\), got \"\['world', .* at -0\.0",
    ),
    "home in itself": (
        with_joint(with_joint(with_joint(SO101, LIFT, home_rad=-1.7), "elbow_flex", home_rad=1.65), "wrist_flex",
                   home_rad=-1.6),
        r"so101: home pose: expected links 0\.005 m apart.*got \"\['shoulder', 'lower_arm'\] at -0\.00",
    ),
    "home outside the workspace": (
        dataclasses.replace(SO101, workspace_low_m=(0.26, -0.45, 0.02), goal_low_m=(0.27, -0.14, 0.07)),
        r"so101: tip at home: expected inside the workspace \[0\.26.*got \[0\.25",
    ),
    "goals outside the workspace": (
        dataclasses.replace(SO101, goal_high_m=(0.3, 0.5, 0.24)),
        r"so101\.goal_high_m: expected inside the workspace .*got \[0\.3, 0\.5, 0\.24\]",
    ),
    "goals out of reach": (
        dataclasses.replace(SO101, goal_high_m=(0.45, 0.14, 0.24)),
        r"so101\.goal_low_m, goal_high_m: expected a box within reach, got 'corner \[0\.45.*nearest tip \[0\.4",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_profile_that_contradicts_its_mjcf_is_refused_with_both_values(what: str) -> None:
    profile, message = CONTRADICTIONS[what]
    with pytest.raises(ValueError, match=message):
        check_profile(profile)
    with pytest.raises(ValueError, match=message):
        ArmPhysics(profile)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('<position name="elbow_flex" joint="elbow_flex"/>', "", "actuators of joint elbow_flex: expected 1, got 0"),
        (' range="-1.69 1.69"', "", r"so101\.xml: joint elbow_flex\.range: expected a range, got 'none'"),
        ('<worldbody>', '<worldbody><frame pos="0 0 0.1">', "so101.*expected a joint of so101.xml"),
    ],
)  # fmt: skip
def test_mjcf_that_contradicts_the_profile_is_refused(tmp_path: Path, before: str, after: str, message: str) -> None:
    text = (ASSETS / "so101.xml").read_text()
    assert before in text
    text = text.replace(before, after)
    (tmp_path / "so101.xml").write_text(
        text.replace("</worldbody>", "</frame></worldbody>") if "<frame" in text else text
    )
    with pytest.raises(ValueError, match=message):
        check_profile(dataclasses.replace(SO101, directory=str(tmp_path)))


def test_no_profile_makes_mujoco_warn(profile: ArmProfile) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        arm = ArmPhysics(profile)
        for target in (profile.vector("lower_rad"), profile.vector("upper_rad"), profile.vector("home_rad")):
            arm.set_target(target)
            arm.advance(2.0)
    assert sum(int(warning.number) for warning in arm.data.warning) == 0
    assert np.isfinite(arm.position).all()
