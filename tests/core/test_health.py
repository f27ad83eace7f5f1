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
    health, found = Health.begin(reading(), HOME, TOLERANCES), []
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


def test_a_hot_servo_is_a_reason_to_park_and_none_to_stop_where_the_arm_is():
    """Fault 39."""
    (verdict,) = verdicts([reading(1, temperature_c=at(3, 65.0, 30.0))])
    assert (verdict.complaint, verdict.share) == ("", SLOWEST)
    assert verdict.hot == "wrist_flex: expected below 65 degC, got 65: let it cool"


def test_a_servos_own_complaint_stops_the_arm_and_is_named():
    """Fault 40."""
    status = at(2, int(ServoFault.OVERLOAD)).astype(np.uint8)
    (verdict,) = verdicts([reading(1, status=status)])
    assert verdict.complaint == "elbow_flex: expected a servo without faults, got overload"


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
    health, verdict = judge(Health.begin(reading(), HOME, bare), reading(1, **fields), HOME, bare)
    assert (verdict.objection, verdict.complaint, verdict.share) == ("", "", 1.0)
    _, verdict = judge(health, reading(2, **fields), HOME + at(0, 0.2), bare)
    assert "shoulder_pan: expected to follow its target" in verdict.complaint


@pytest.mark.parametrize("measured", [True, False])
def test_a_gripper_that_holds_an_object_is_not_taken_for_a_dead_encoder(measured):
    """It follows its target no further and pushes: below the stall's limit it may, for as long as it likes."""
    targets = [HOME - at(5, 0.015 * i) for i in range(1, 100)]

    def grips(i, force):
        strain = min(force, 0.1 * i)  # of what a stall takes
        if measured:
            return reading(i, current_a=at(5, strain * TOLERANCES.stall_current_a[5]))
        return reading(i, current_a=np.full(6, np.nan), load=at(5, -strain))

    assert not any(v.complaint for v in verdicts([grips(i, 0.6) for i in range(1, 100)], targets))
    idle = verdicts([grips(i, 0.2) for i in range(1, 100)], targets)
    assert [i for i, v in enumerate(idle, 1) if v.complaint][0] in (10, 11)
    assert "gripper: expected to follow its target" in idle[-1].complaint


def test_a_grip_that_becomes_a_stall_stops_the_arm_as_a_stall():
    targets = [HOME - at(5, 0.015 * i) for i in range(1, 60)]
    found = verdicts([reading(i, current_a=at(5, 2.5)) for i in range(1, 60)], targets)
    assert next(v.complaint for v in found if v.complaint).startswith("gripper: expected a stall of less than 0.3 s")


def test_a_joint_that_bears_weight_and_whose_encoder_is_dead_is_found_all_the_same():
    """What it bore when it moved last is no sign that it pushes now."""
    targets = [HOME + at(1, 0.015 * i) for i in range(1, 15)]
    load = {"current_a": np.full(6, np.nan), "load": at(1, 0.5)}
    health, found = Health.begin(reading(**load), HOME, TOLERANCES), []
    for i, target in enumerate(targets, 1):
        health, verdict = judge(health, reading(i, **load), target, TOLERANCES)
        found.append(verdict.complaint)
    assert "shoulder_lift: expected to follow its target" in found[-1]


def test_the_guarded_arm_says_what_warmth_leaves_and_its_limits_never_shrink_under_motion():
    arm = IdealArm(HOME)
    guarded = GuardedArm(arm, PROFILE, ControlConfig(), Counters(), Chain(PROFILE, whole=True).tip)
    guarded.engage()
    for warmth, share in ((30.0, 1.0), (60.0, 0.5)):
        arm.changed = {"temperature_c": np.full(6, warmth)}
        for _ in range(30):
            assert guarded.read() is not None
            before = guarded.sent.position[4]
            guarded.send(guarded.sent.position + at(4, 1.0))
        assert guarded.share == share
        assert (guarded.sent.position[4] - before) * PROFILE.bus_hz == pytest.approx(1.5)


def test_the_guarded_arm_does_not_take_hold_of_a_hot_arm():
    arm = IdealArm(HOME)
    guarded = GuardedArm(arm, PROFILE, ControlConfig(), Counters(), Chain(PROFILE, whole=True).tip)
    arm.changed = {"temperature_c": np.full(6, 70.0)}
    with pytest.raises(Fault, match="let it cool"):
        guarded.engage()
    assert not arm.torque
    arm.changed = {}
    guarded.engage()
    assert guarded.hot == guarded.complaint == ""


@pytest.mark.parametrize("jump", [0.2, 0.3, 0.4])
def test_a_jump_that_stays_is_never_believed_however_long_it_lasts(jump):
    """Fault 22."""
    jumped = HOME + at(2, jump)
    found = verdicts([reading(i, position=jumped) for i in range(1, 10)])
    assert all("got a jump of" in verdict.objection for verdict in found)


def test_after_a_gap_without_readings_an_arm_may_be_elsewhere():
    (verdict,) = verdicts([reading(20, position=HOME + at(2, 0.4))])
    assert not verdict.objection


def guarded(arm, **config):
    tip = Chain(PROFILE, whole=True).tip
    return GuardedArm(arm, PROFILE, ControlConfig(max_bus_errors=3, **config), Counters(), tip)


def test_an_arm_that_was_lost_is_written_to_only_after_it_was_engaged_again():
    """Faults 36 and 57: it may have been moved meanwhile, and must not be driven back to where it was told to be."""
    arm = IdealArm(HOME)
    guard = guarded(arm)
    guard.engage()
    assert guard.send(HOME)
    arm.silent = True
    for _ in range(3):
        assert guard.read() is None
    arm.silent = False
    arm.position = HOME + at(0, 0.01)
    assert guard.read() is not None
    assert guard.lost
    assert not guard.send(HOME)
    assert len(arm.sent) == 1
    guard.engage()
    assert guard.send(HOME)


def test_three_readings_in_a_row_that_cannot_be_true_lose_the_arm():
    arm = IdealArm(HOME)
    guard = guarded(arm)
    guard.engage()
    arm.changed = {"position": HOME + at(2, 0.3)}
    assert [guard.read() for _ in range(3)] == [None] * 3
    assert guard.lost
