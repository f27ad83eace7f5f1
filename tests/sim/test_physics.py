"""The twin's body obeys physics: gravity, servo stiffness, friction, motor limits."""

import dataclasses

import mujoco
import numpy as np
import pytest

from mbrl_core.arm import ArmProfile, load_profile
from mbrl_sim import ASSETS
from mbrl_sim.physics import ArmPhysics

STALL_TORQUE = 2.94  # N m, datasheet at 12 V
NO_LOAD_SPEED = 4.9  # rad/s


@pytest.fixture
def profile() -> ArmProfile:
    return load_profile(ASSETS / "so101.yaml")


@pytest.fixture
def arm(profile: ArmProfile) -> ArmPhysics:
    return ArmPhysics(profile)


def potential_and_kinetic_energy(arm: ArmPhysics) -> tuple[float, float]:
    mujoco.mj_forward(arm.model, arm.data)
    mujoco.mj_energyPos(arm.model, arm.data)
    mujoco.mj_energyVel(arm.model, arm.data)
    return float(arm.data.energy[0]), float(arm.data.energy[1])


def test_arm_weighs_what_is_published(arm: ArmPhysics) -> None:
    assert arm.model.body_mass.sum() == pytest.approx(0.632, abs=0.002)


def test_stretched_arm_reaches_upper_arm_forearm_and_hand(arm: ArmPhysics) -> None:
    """From the lift axis at (0.069, 0.117): 0.116 up to the elbow, then forearm, wrist and hand forward."""
    arm.reset(np.zeros(6))
    elbow_x, elbow_z = 0.0388 + 0.0304 + 0.028, 0.0624 + 0.0542 + 0.1126
    forward = 0.1349 + 0.0611 + 0.0981
    np.testing.assert_allclose(arm.tip, [elbow_x + forward, 0.0, elbow_z], atol=6e-3)


def test_pan_turns_the_tip_about_the_vertical(arm: ArmPhysics) -> None:
    before = arm.tip
    home = arm.position
    home[0] = 0.7
    arm.reset(home)
    assert arm.tip[2] == pytest.approx(before[2], abs=1e-9)
    assert np.hypot(arm.tip[0] - 0.0388353, arm.tip[1]) == pytest.approx(before[0] - 0.0388353, abs=1e-4)
    assert arm.tip[1] < -0.1  # the pan axis points down


@pytest.mark.parametrize("joint", [1, 2, 3])
def test_lift_elbow_and_wrist_keep_the_tip_in_its_vertical_plane(arm: ArmPhysics, joint: int) -> None:
    before, pose = arm.tip, arm.position
    pose[joint] += 0.3
    arm.reset(pose)
    assert arm.tip[1] == pytest.approx(before[1], abs=1e-6)
    assert arm.tip[2] < before[2]  # positive bends the arm towards the table


def test_home_tip_is_in_front_of_the_base_and_above_the_table(arm: ArmPhysics) -> None:
    x, y, z = arm.tip
    assert 0.20 <= x <= 0.26
    assert abs(y) < 1e-3
    assert 0.15 <= z <= 0.20


def test_arm_sags_towards_the_table_under_its_weight(arm: ArmPhysics) -> None:
    target = np.array([0.0, 0.8, -0.7, 0.0, 0.0, 0.0])  # nearly stretched out
    arm.reset(target)
    arm.advance(2.0)
    sag = np.rad2deg(arm.position - target)
    assert 0.5 < sag[1] < 3.0
    assert 0.3 < sag[2] < 2.0
    assert abs(sag[0]) < 0.05  # gravity does not turn the vertical axis
    assert (arm.load[1:3] < 0).all()  # the servos push back


def test_servo_gives_two_degrees_under_one_and_a_half_newton_metre(arm: ArmPhysics) -> None:
    start = arm.position
    arm.data.qfrc_applied[0] = 1.5  # pan carries no weight, so this is the whole load
    arm.advance(2.0)
    assert 1.8 <= np.rad2deg(arm.position[0] - start[0]) <= 2.6


def test_dry_friction_stops_a_small_push_on_a_limp_joint(arm: ArmPhysics) -> None:
    arm.set_torque_enabled([False, True, True, True, True, True])
    arm.data.qfrc_applied[0] = 0.03
    arm.advance(0.5)
    below = arm.position[0]
    arm.data.qfrc_applied[0] = 0.30
    arm.advance(0.5)
    assert abs(below) < 0.005
    assert arm.position[0] > 0.1


def test_limp_arm_falls_onto_the_table_and_rests_there(arm: ArmPhysics) -> None:
    start = arm.tip[2]
    arm.set_torque_enabled(False)
    arm.advance(0.5)
    assert arm.tip[2] < start - 0.03
    arm.advance(3.0)
    assert -0.005 < arm.tip[2] < 0.02
    assert (arm.load == 0.0).all()


def test_a_falling_arm_loses_energy(arm: ArmPhysics) -> None:
    arm.set_torque_enabled(False)
    energies = []
    for _ in range(20):
        arm.advance(0.05)
        energies.append(sum(potential_and_kinetic_energy(arm)))
    assert (np.diff(energies) < 1e-5).all()
    assert energies[-1] < energies[0] - 0.05


def test_motor_stays_below_no_load_speed_and_stall_torque(arm: ArmPhysics) -> None:
    goal = arm.position
    goal[0] = 1.8
    arm.reset(np.concatenate([[-1.8], goal[1:]]))
    arm.set_target(goal)
    fastest = strongest = 0.0
    for _ in range(200):
        arm.advance(0.01)
        fastest, strongest = max(fastest, arm.velocity[0]), max(strongest, arm.load[0])
    assert 3.0 < fastest < NO_LOAD_SPEED
    assert strongest == pytest.approx(STALL_TORQUE, rel=1e-3)
    assert arm.position[0] == pytest.approx(1.8, abs=0.02)


def test_joint_stops_at_its_mechanical_range(arm: ArmPhysics) -> None:
    goal = arm.position
    goal[0] = 2.4
    arm.set_target(goal)
    arm.advance(3.0)
    assert arm.position[0] < 1.92 + 0.05


def test_torque_limit_lets_the_arm_sink(arm: ArmPhysics) -> None:
    home = arm.position
    arm.set_servo(2, stiffness=1.0, torque_limit=0.02)
    arm.advance(1.0)
    assert arm.position[2] > home[2] + 0.2
    assert abs(arm.load[2]) <= 0.02 * STALL_TORQUE + 1e-9


def test_softer_servo_sags_in_proportion(arm: ArmPhysics) -> None:
    home = arm.position
    arm.advance(2.0)
    sag = arm.position[2] - home[2]
    arm.reset(home)
    arm.set_servo(2, stiffness=0.5, torque_limit=1.0)
    arm.advance(2.0)
    assert arm.position[2] - home[2] == pytest.approx(2 * sag, rel=0.25)


def test_time_counts_fractions_of_a_step(arm: ArmPhysics) -> None:
    for _ in range(7):
        arm.advance(0.0011)
    assert arm.time_s == pytest.approx(0.0077, abs=1e-9)


def test_motion_does_not_depend_on_how_time_is_cut(profile: ArmProfile) -> None:
    whole, pieces = ArmPhysics(profile), ArmPhysics(profile)
    goal = whole.position + 0.1
    for arm in (whole, pieces):
        arm.set_target(goal)
    whole.advance(0.1)
    for _ in range(20):
        pieces.advance(0.005)
    np.testing.assert_allclose(pieces.position, whole.position, atol=1e-4)


def test_reset_refuses_a_pose_outside_the_ranges(arm: ArmPhysics) -> None:
    pose = arm.position
    pose[2] = 1.8
    with pytest.raises(ValueError, match=r"position\.elbow_flex: expected in \[-1\.69, 1\.69\], got 1\.8"):
        arm.reset(pose)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_target_that_is_not_finite_is_refused(arm: ArmPhysics, bad: float) -> None:
    target = arm.position
    target[1] = bad
    with pytest.raises(ValueError, match="target: expected finite numbers"):
        arm.set_target(target)
    with pytest.raises(ValueError, match=r"target\.shape: expected \(6,\), got \(5,\)"):
        arm.set_target(target[:5])


def test_profile_that_does_not_fit_the_mjcf_is_refused(profile: ArmProfile) -> None:
    first, *others = profile.joints
    unknown = dataclasses.replace(profile, joints=(dataclasses.replace(first, name="waist"), *others))
    with pytest.raises(ValueError, match="joints: expected a hinge joint of the MJCF.*got 'waist'"):
        ArmPhysics(unknown)
    wide = dataclasses.replace(profile, joints=(dataclasses.replace(first, upper_rad=2.0), *others))
    with pytest.raises(ValueError, match=r"shoulder_pan\.upper_rad: expected inside the MJCF's range.*got 2\.0"):
        ArmPhysics(wide)
    with pytest.raises(ValueError, match="tool_site: expected a site of the MJCF.*got 'pen'"):
        ArmPhysics(dataclasses.replace(profile, tool_site="pen"))
