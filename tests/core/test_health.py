"""What readings say of an arm's health: each verdict by hand, and through the guarded arm and the loop."""

import dataclasses

import numpy as np
import pytest
from fakes.ideal_arm import IdealArm

from mbrl_core.arm import load_profile
from mbrl_core.control_config import ControlConfig, Counters
from mbrl_core.guarded_arm import GuardedArm
from mbrl_core.health import SLOWEST, VOLTAGE_CYCLES, Health, Tolerances, judge
from mbrl_core.kinematics import Chain
from mbrl_core.robots.errors import Fault
from mbrl_core.robots.servo_fault import ServoFault
from mbrl_sim import profile_path

PROFILE = load_profile(profile_path("so101"))
TOLERANCES, HOME = Tolerances.of(PROFILE), PROFILE.vector("home_rad")
DT_S = 0.01


def reading(cycle=0, **changed):
    return dataclasses.replace(IdealArm(HOME).read(), stamp_s=cycle * DT_S, **changed)


def at(index, value, usual=0.0):
    values = np.full(len(HOME), usual)
    values[index] = value
    return values


def verdicts(readings, targets=None):
    """Judge one cycle after another."""
    health, found = Health.begin(reading(), HOME), []
    for index, one in enumerate(readings):
        health, verdict = judge(health, one, HOME if targets is None else targets[index], TOLERANCES)
        found.append(verdict)
    return found


def test_a_healthy_arm_has_all_of_its_speed():
    assert all(
        (v.objection, v.complaint, v.share) == ("", "", 1.0) for v in verdicts([reading(i) for i in range(1, 200)])
    )


@pytest.mark.parametrize(("warmth", "share"), [(54.9, 1.0), (57.5, 0.75), (60.0, 0.5), (64.0, SLOWEST)])
def test_warmth_slows_the_arm_before_it_stops_it(warmth, share):
    """Fault 39."""
    (verdict,) = verdicts([reading(1, temperature_c=at(3, warmth, 30.0))])
    assert (verdict.complaint, verdict.share) == ("", pytest.approx(share))


def test_a_hot_servo_stops_the_arm():
    (verdict,) = verdicts([reading(1, temperature_c=at(3, 65.0, 30.0))])
    assert verdict.complaint == "wrist_flex: expected below 65 degC, got 65: let it cool"


def test_a_servos_own_complaint_stops_the_arm_and_is_named():
    """Fault 40."""
    status = at(2, int(ServoFault.OVERLOAD)).astype(np.uint8)
    (verdict,) = verdicts([reading(1, status=status)])
    assert verdict.complaint.startswith("elbow_flex: expected a servo without faults, got ")
    assert "OVERLOAD" in verdict.complaint or "32" in verdict.complaint


def test_only_a_lasting_dip_of_the_supply_stops_the_arm():
    """Fault 41."""
    dip = [reading(i, voltage_v=np.full(6, 8.0)) for i in range(1, VOLTAGE_CYCLES + 1)]
    found = verdicts(dip)
    assert [bool(v.complaint) for v in found] == [False] * (VOLTAGE_CYCLES - 1) + [True]
    assert "9.5 to 13.5 V, got 8" in found[-1].complaint
    assert not any(v.complaint for v in verdicts([*dip[:-1], reading(VOLTAGE_CYCLES), *dip[:1]]))


@pytest.mark.parametrize("measured", [True, False])
def test_a_stall_stops_the_arm_after_its_time_and_motion_ends_a_stall(measured):
    """Fault 42: 0.3 s, which is 30 cycles; by the drive where a servo measures no current."""
    strain = {"current_a": at(1, -2.5)} if measured else {"current_a": np.full(6, np.nan), "load": at(1, -1.0)}
    found = verdicts([reading(i, **strain) for i in range(1, 32)])
    assert [i for i, v in enumerate(found, 1) if v.complaint][0] in (30, 31)
    assert "shoulder_lift: expected a stall of less than 0.3 s" in found[-1].complaint
    turning = [reading(i, velocity=at(1, 0.1 * (i % 20 == 0)), **strain) for i in range(1, 200)]
    assert not any(v.complaint for v in verdicts(turning))


def test_a_jump_or_nan_is_not_believed_and_the_last_true_angle_stays_the_measure():
    """Faults 21 and 22."""
    jumped = [reading(1, position=HOME + at(4, 0.5)), reading(2, position=HOME + at(4, np.nan)), reading(3)]
    found = verdicts(jumped)
    assert "wrist_roll: expected at most 0.17 rad since the last reading, got a jump of 0.50" in found[0].objection
    assert "wrist_roll: expected a finite angle, got NaN" in found[1].objection
    assert found[2].objection == ""


def test_an_encoder_that_stays_while_its_target_moves_on_stops_the_arm():
    """Fault 20: after 0.15 rad, at 1.5 rad/s that is 10 cycles."""
    targets = [HOME + at(0, 0.015 * i) for i in range(1, 15)]
    found = verdicts([reading(i) for i in range(1, 15)], targets)
    assert [i for i, v in enumerate(found, 1) if v.complaint][0] in (10, 11)
    assert "shoulder_pan: expected to follow its target" in found[-1].complaint
    following = [reading(i, position=target - at(0, 0.03)) for i, target in enumerate(targets, 1)]
    assert not any(v.complaint for v in verdicts(following, targets))


def test_an_arm_that_measures_nothing_but_angles_is_judged_by_these_alone():
    bare = Tolerances.of(dataclasses.replace(PROFILE, servos=()))
    unknown = np.full(6, np.nan)
    fields = dict.fromkeys(("load", "current_a", "voltage_v", "temperature_c"), unknown)
    health, verdict = judge(Health.begin(reading(), HOME), reading(1, **fields), HOME, bare)
    assert (verdict.objection, verdict.complaint, verdict.share) == ("", "", 1.0)
    _, verdict = judge(health, reading(2, **fields), HOME + at(0, 0.2), bare)
    assert "shoulder_pan: expected to follow its target" in verdict.complaint


def test_the_guarded_arm_slows_stops_and_does_not_take_hold_again_before_the_arm_is_well():
    arm = IdealArm(HOME)
    guarded = GuardedArm(arm, PROFILE, ControlConfig(), Counters(), Chain(PROFILE, whole=True).tip)
    guarded.engage()
    steps = []
    for warmth in (30.0, 60.0):
        arm.changed = {"temperature_c": np.full(6, warmth)}
        for _ in range(30):
            assert guarded.read() is not None
            before_all = guarded.sent.position
            guarded.send(before_all + at(4, 1.0))
        steps.append(guarded.sent.position[4] - before_all[4])
    assert steps[1] == pytest.approx(0.5 * steps[0], rel=0.02)
    arm.changed = {"temperature_c": np.full(6, 70.0)}
    guarded.read()
    assert "let it cool" in guarded.complaint
    with pytest.raises(Fault, match="let it cool"):
        guarded.engage()
    arm.changed = {}
    guarded.engage()
    assert guarded.complaint == ""
