"""Another arm: each perturbation does to the physics what it says, and nothing when it is not asked for."""

import math

import numpy as np
import pytest

from mbrl_core.actor import ZeroActor
from mbrl_core.arm import load_profile
from mbrl_sim import profile_path
from mbrl_sim.perturbation import Perturbation
from mbrl_sim.physics import ArmPhysics
from mbrl_sim.reach_env import ReachEnv, run_episode

PROFILE = load_profile(profile_path("so101"))
HOME = PROFILE.vector("home_rad")
LIFT, ELBOW, WRIST = 1, 2, 3
GRAVITY_M_S2 = 9.81


def settled(perturbation: Perturbation | None = None) -> ArmPhysics:
    physics = ArmPhysics(PROFILE, perturbation=perturbation)
    physics.advance(2.0)
    return physics


def test_an_arm_that_does_not_differ_is_the_profiles() -> None:
    plain, same = settled(), settled(Perturbation())
    np.testing.assert_array_equal(plain.position, same.position)


def test_a_payload_adds_its_weight_to_the_joints_that_carry_it() -> None:
    plain, laden = settled(), settled(Perturbation(payload_kg=0.1))
    out_m = laden.tip[0] - 0.0388  # from the pan axis; lift and pan axes are within a few cm
    more = np.abs(laden.load[LIFT]) - np.abs(plain.load[LIFT])
    assert more == pytest.approx(0.1 * GRAVITY_M_S2 * out_m, rel=0.5)
    assert abs(laden.load[0]) < 1e-3  # pan turns about the vertical
    assert (np.abs(laden.position - HOME) > np.abs(plain.position - HOME) - 1e-9)[[LIFT, ELBOW, WRIST]].all()


def test_a_softer_servo_sags_more_under_the_same_load() -> None:
    perturbation = Perturbation(stiffness=0.5, joint="elbow_flex", friction=0.0)
    plain, soft = settled(Perturbation(friction=0.0)), settled(perturbation)
    sag, more = (abs(arm.position[ELBOW] - HOME[ELBOW]) for arm in (plain, soft))
    assert more / sag == pytest.approx(2.0, rel=0.1)
    assert soft.position[WRIST] == pytest.approx(plain.position[WRIST], abs=1e-3)


def test_torque_on_again_keeps_a_servo_soft() -> None:
    soft = ArmPhysics(PROFILE, perturbation=Perturbation(stiffness=0.5, joint="elbow_flex"))
    before = settled(Perturbation(stiffness=0.5, joint="elbow_flex")).position
    soft.set_torque_enabled(False)
    soft.set_torque_enabled(True)
    soft.advance(2.0)
    np.testing.assert_array_equal(soft.position, before)


def test_dry_friction_slows_a_joint() -> None:
    moved = []
    for friction in (1.0, 4.0):
        physics = settled(Perturbation(friction=friction))
        target = HOME.copy()
        target[0] += 0.05
        start = physics.position[0]
        physics.set_target(target)
        physics.advance(0.05)
        moved.append(physics.position[0] - start)
    assert 0.0 < moved[1] < moved[0]


def test_a_delayed_arm_does_later_what_it_would_have_done_now() -> None:
    prompt, late = ArmPhysics(PROFILE), ArmPhysics(PROFILE, perturbation=Perturbation(delay_s=0.06))
    target = HOME.copy()
    target[0] += 0.1
    for physics in (prompt, late):
        physics.advance(1.0)
        physics.set_target(target)
    late.advance(0.05)
    assert abs(late.position[0] - HOME[0]) < 1e-4
    late.advance(0.01)
    for physics in (prompt, late):
        physics.advance(0.2)
    np.testing.assert_allclose(late.position, prompt.position, atol=1e-4)


def test_what_was_on_its_way_does_not_outlive_a_reset() -> None:
    physics = ArmPhysics(PROFILE, perturbation=Perturbation(delay_s=0.1))
    target = HOME.copy()
    target[0] += 0.1
    physics.set_target(target)
    physics.reset(HOME)
    physics.advance(1.0)
    assert abs(physics.position[0] - HOME[0]) < 1e-3


def test_a_bent_link_moves_the_tip_and_no_encoder() -> None:
    bend = Perturbation(bend_m=0.005, bend_rad=math.radians(3.0), joint="wrist_flex")
    plain, bent = ArmPhysics(PROFILE), ArmPhysics(PROFILE, perturbation=bend)
    np.testing.assert_allclose(plain.position, bent.position, atol=1e-12)
    arm_m = 0.061 + 0.098  # wrist to tool site
    assert np.linalg.norm(bent.tip - plain.tip) == pytest.approx(arm_m * math.radians(3.0), abs=0.006)


def test_a_perturbed_arms_reward_is_that_of_the_tip_where_it_is() -> None:
    bend = Perturbation(bend_m=0.005, bend_rad=math.radians(3.0), joint="wrist_flex")
    goal = np.array([0.25, 0.0, 0.16])
    plain, bent = (ReachEnv(PROFILE, perturbation=one) for one in (Perturbation(), bend))
    rewards = []
    for env in (plain, bent):
        env.reset(seed=0)
        rewards.append(run_episode(env, ZeroActor(5), goal=goal))
    np.testing.assert_allclose(rewards[0].states, rewards[1].states, atol=5e-3)
    assert abs(rewards[0].final_distance_m - rewards[1].final_distance_m) > 2e-3


@pytest.mark.parametrize(
    "values",
    [{"payload_kg": -0.1}, {"stiffness": 0.5}, {"bend_m": 0.01, "joint": "knee"}, {"delay_s": float("nan")}],
)
def test_a_perturbation_that_makes_no_sense_is_refused(values: dict[str, float | str]) -> None:
    with pytest.raises(ValueError, match="perturbation|payload_kg|delay_s"):
        ArmPhysics(PROFILE, perturbation=Perturbation(**values))  # type: ignore[arg-type]
