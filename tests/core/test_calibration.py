"""Calibrations: files, what they do to a profile, and LeRobot's."""

import dataclasses
import json
import math

import pytest
from fakes.two_families import load
from hypothesis import given
from hypothesis import strategies as st

from mbrl_core.arm import ANY_OFFSET, ArmProfile
from mbrl_core.calibration import (
    Calibration,
    JointCalibration,
    fitted,
    hinges_of,
    load_calibration,
    load_fitted,
    measured_joint,
    save_calibration,
)
from mbrl_core.lerobot_calibration import read_lerobot
from mbrl_core.robots.encoder_range import EncoderRange
from mbrl_sim import profile_path

PER_RAD = 4096 / (2 * math.pi)


@pytest.fixture
def profile() -> ArmProfile:
    return load("so101")


def as_built(profile: ArmProfile) -> Calibration:
    joints = [
        JointCalibration(
            name=joint.name, servo_id=joint.servo_id, homing_offset=0, sign=joint.sign, zero_count=joint.zero_count,
            lower_count=100, upper_count=4000,
        )
        for joint in profile.joints
    ]  # fmt: skip
    return Calibration(arm=profile.name, joints=tuple(joints))


def changed(calibration: Calibration, **values) -> Calibration:
    first, *others = calibration.joints
    return dataclasses.replace(calibration, joints=(dataclasses.replace(first, **values), *others))


def test_a_file_holds_what_was_written(profile, tmp_path):
    calibration = changed(as_built(profile), sign=-1, zero_count=1999)
    save_calibration(tmp_path / "mine.yaml", calibration)
    assert load_calibration(tmp_path / "mine.yaml") == calibration
    joint = load_fitted(profile_path("so101"), str(tmp_path / "mine.yaml")).joints[0]
    assert (joint.sign, joint.zero_count) == (-1, 1999)


def test_soft_limits_stay_inside_what_the_joint_reaches(profile):
    joint = fitted(profile, changed(as_built(profile), lower_count=2048 - 652)).joints[0]
    assert joint.lower_rad == pytest.approx(-652 / PER_RAD + 0.02)
    assert joint.upper_rad == profile.joints[0].upper_rad


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"name": "pan"}, "calibration.joints: expected joints and servo ids"),
        ({"servo_id": 9}, "calibration.joints: expected joints and servo ids"),
        ({"lower_count": 2200}, "calibration.shoulder_pan: expected home 0.0 rad within reach"),
    ],
)
def test_what_belongs_to_another_arm_is_refused(profile, values, complaint):
    with pytest.raises(ValueError, match=complaint):
        fitted(profile, changed(as_built(profile), **values))
    with pytest.raises(ValueError, match="calibration.arm: expected 'so101', got 'koch'"):
        fitted(profile, dataclasses.replace(as_built(profile), arm="koch"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("arm: so101", "mine.yaml.joints: expected a value"),
        ("arm: [", "calibration mine.yaml: expected YAML"),
        ("{arm: so101, joints: [], colour: red}", "mine.yaml.colour: expected one of"),
    ],
)
def test_a_wrong_file_is_refused_by_field(tmp_path, text, complaint):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ValueError, match=complaint):
        load_calibration(tmp_path / "mine.yaml")


def test_the_middle_of_a_lopsided_range_is_the_models_middle(profile):
    gripper, hinge = profile.joints[5], hinges_of(profile)[5]
    span = {"lower_count": 1400, "upper_count": 1400 + round(hinge.width_rad * PER_RAD)}
    for sign in (1, -1):
        measured = measured_joint(gripper, hinge, 4096, homing_offset=0, sign=sign, **span)
        ends = [sign * (count - measured.zero_count) / PER_RAD for count in span.values()]
        assert sorted(ends) == pytest.approx([hinge.lower_rad, hinge.upper_rad], abs=2 / PER_RAD)


def test_a_range_unlike_the_models_is_refused(profile):
    with pytest.raises(ValueError, match="shoulder_pan: range: expected about 3.84 rad between its ends"):
        measured_joint(
            profile.joints[0], hinges_of(profile)[0], 4096, homing_offset=0, sign=1, lower_count=1500, upper_count=2500
        )


@given(st.lists(st.integers(-2000, 2000), min_size=1, max_size=30), st.integers(0, 4095))
def test_an_encoder_is_followed_across_its_end(steps, start):
    encoder, count = EncoderRange(4096), start
    way = [count]
    encoder.look({7: count})
    for step in steps:
        count += step
        way.append(count)
        encoder.look({7: count % 4096})
    assert (encoder.now[7], encoder.lowest[7], encoder.highest[7]) == (count, min(way), max(way))


# ---- LeRobot


def motors_of(profile, *, offset=0, drive_mode=0):
    motors = {}
    for joint, hinge in zip(profile.joints, hinges_of(profile), strict=True):
        half = round(hinge.width_rad * PER_RAD / 2)
        low, high = (0, 4095) if hinge.endless else (2047 - half, 2047 + half)
        motors[joint.name] = {
            "id": joint.servo_id, "drive_mode": drive_mode, "homing_offset": offset, "range_min": low, "range_max": high
        }  # fmt: skip
    return motors


def imported(motors, profile, tmp_path):
    (tmp_path / "lerobot.json").write_text(json.dumps(motors))
    return read_lerobot(tmp_path / "lerobot.json", profile)


def test_an_so101_of_lerobot_has_its_zeros_in_the_middle(profile, tmp_path):
    calibration = imported(motors_of(profile, offset=-321), profile, tmp_path)
    for joint, hinge in zip(calibration.joints, hinges_of(profile), strict=True):
        assert joint.homing_offset == -321
        assert joint.zero_count == pytest.approx(2047 - hinge.middle_rad * PER_RAD, abs=1)
    flipped = imported(motors_of(profile, drive_mode=1), profile, tmp_path)
    assert [joint.sign for joint in flipped.joints] == [-1] * 6


def test_a_koch_of_lerobot_loses_its_offset_and_keeps_its_turn(tmp_path):
    profile = load("koch")
    calibration = imported(motors_of(profile, offset=4096 + 47), profile, tmp_path)
    pan, *_, roll, _ = calibration.joints
    assert (pan.homing_offset, pan.zero_count) == (0, 2000)
    assert (roll.lower_count, roll.upper_count, roll.zero_count) == (0, 4095, 2000)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda motors: motors.pop("gripper"), "expected motors"),
        (lambda motors: motors["gripper"].update(id=9), "from_lerobot.gripper.id: expected the profile's 6, got 9"),
        (lambda motors: motors["gripper"].pop("range_max"), "from_lerobot.gripper: expected whole numbers"),
        (lambda motors: motors["gripper"].update(range_max=2060), "gripper: range: expected about"),
    ],
)
def test_a_file_of_lerobot_that_does_not_fit_is_refused(profile, tmp_path, change, complaint):
    motors = motors_of(profile)
    change(motors)
    with pytest.raises(ValueError, match=complaint):
        imported(motors, profile, tmp_path)


def test_a_koch_that_crosses_the_encoders_end_is_refused(tmp_path):
    profile = load("koch")
    with pytest.raises(ValueError, match="shoulder_pan: counts: expected a range within 0 to 4095"):
        imported(motors_of(profile, offset=-2047), profile, tmp_path)


def test_a_joint_that_lerobot_did_not_measure_keeps_the_middle_pose(profile, tmp_path):
    motors = motors_of(profile)
    motors["wrist_roll"] |= {"range_min": 0, "range_max": 4095}
    roll = imported(motors, profile, tmp_path).joints[4]
    middle = hinges_of(profile)[4].middle_rad
    assert (roll.lower_count, roll.upper_count) == (0, 4095)
    assert roll.zero_count == round(2047 - middle * PER_RAD)


def test_a_fitted_arm_knows_the_offset_that_its_zeros_hold_for(profile):
    measured = as_built(profile)
    assert {joint.homing_offset for joint in profile.joints} == {ANY_OFFSET}
    offsets = [joint.homing_offset for joint in fitted(profile, changed(measured, homing_offset=7)).joints]
    assert offsets == [7, 0, 0, 0, 0, 0]
