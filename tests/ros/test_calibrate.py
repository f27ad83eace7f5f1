"""`mbrl calibrate` as a process, on arms that differ from their profile, moved by hand from outside."""

import dataclasses
import json
import time

import numpy as np
import pytest
from fakes.commanded import Commanded
from fakes.two_families import load

from mbrl_core.calibration import fitted, hinges_of, load_calibration
from mbrl_core.robots.calibration_check import SETTINGS
from mbrl_core.robots.servo_arm import ServoArm
from mbrl_core.robots.servo_bus import ServoBus
from mbrl_sim.emulated_bus import Twin

pytestmark = pytest.mark.realtime
# What stands on the table: zeros and directions by joint. The SO-101's pan and lift cross the encoder's end.
DIFFERENT = {
    "so101": {0: {"zero_count": 3900}, 1: {"zero_count": 150}, 2: {"sign": -1, "zero_count": 1900}},
    "koch": {0: {"zero_count": 1950}, 3: {"sign": -1, "zero_count": 2150}},
}


def differing(name, changes):
    profile = load(name)
    joints = [dataclasses.replace(joint, **changes.get(index, {})) for index, joint in enumerate(profile.joints)]
    return dataclasses.replace(profile, joints=tuple(joints))


class Hand:
    """Somebody who does what is asked."""

    def __init__(self, twin, profile):
        self.twin = twin
        self.names = [joint.name for joint in profile.joints]
        self.hinges = hinges_of(profile)
        self.middle = np.array([hinge.middle_rad for hinge in self.hinges])

    def to_the_middle(self):
        self.twin.push(self.middle)

    def obey(self, line):
        """Move the joint that a line names in its positive direction."""
        step = np.zeros(len(self.names))
        step[self.names.index(line.partition(":")[0])] = 0.3
        self.twin.push(self.middle + step)

    def sweep(self, *, joints=None):
        low = np.array([hinge.lower_rad for hinge in self.hinges])
        high = np.array([hinge.upper_rad for hinge in self.hinges])
        moved = np.isin(self.names, self.names if joints is None else joints)
        for share in (*np.linspace(0, 1, 15), *np.linspace(1, 0, 15)):
            self.twin.push(np.where(moved, low + share * (high - low), self.middle))
            time.sleep(0.06)


def measure(command, hand, *, sweep=True):
    command.until("support the arm")
    command.enter()
    command.until("move every joint to the middle")
    hand.to_the_middle()
    command.enter()
    for name in hand.names:
        hand.obey(command.until(f"{name}: move it"))
        command.enter()
    command.until("from one end to the other")
    if sweep:
        hand.sweep()
        command.enter()


@pytest.mark.parametrize("name", DIFFERENT)
def test_an_arm_unlike_its_profile_is_measured(name, tmp_path):
    nominal, real = load(name), differing(name, DIFFERENT[name])
    with Twin(nominal, seed=1, assembled=real) as twin:
        hand = Hand(twin, real)
        file = tmp_path / "mine.yaml"
        with Commanded("calibrate", "--profile", name, "--port", twin.port, "--file", file) as command:
            measure(command, hand)
            status, text, error = command.finish()
        assert (status, error) == (0, "")
        assert "file and motors agree" in text
        calibrated = fitted(nominal, load_calibration(file))
        assert calibrated.vector("sign").tolist() == real.vector("sign").tolist()
        pose = hand.middle + 0.2
        twin.push(pose)
        arm = ServoArm(calibrated, twin.port, deadline_s=0.2)
        arm.connect()
        assert not arm.read_torque().any()
        np.testing.assert_allclose(arm.read().position, twin.position, atol=0.03)
        arm.close()
        lower, upper = calibrated.vector("lower_rad"), calibrated.vector("upper_rad")
        np.testing.assert_allclose(lower, nominal.vector("lower_rad"), atol=0.05)
        np.testing.assert_allclose(upper, nominal.vector("upper_rad"), atol=0.05)
        with Commanded("doctor", "--profile", name, "--port", twin.port, "--calibration", file) as command:
            status, text, _ = command.finish()
        assert status == 0, text


def test_joints_that_did_not_move_are_asked_for_again(tmp_path):
    profile = load("so101")
    with Twin(profile, seed=1) as twin:
        hand = Hand(twin, profile)
        with Commanded("calibrate", "--port", twin.port, "--file", tmp_path / "mine.yaml") as command:
            command.until("support the arm")
            command.enter()
            command.until("to the middle")
            hand.to_the_middle()
            command.enter()
            command.until("shoulder_pan: move it so that the tip goes to the arm's right")
            hand.obey("elbow_flex:")
            command.enter()
            command.until("shoulder_pan did not move; elbow_flex did: are ids swapped?")
            for name in hand.names:
                hand.obey(command.until(f"{name}: move it"))
                command.enter()
            command.until("from one end to the other")
            hand.sweep(joints=hand.names[1:])
            command.enter()
            assert " of about 3.84 rad so far" in command.until("shoulder_pan: ")
            hand.sweep(joints=["shoulder_pan"])
            command.enter()
            status, text, _ = command.finish()
        assert status == 0, text


def test_a_dynamixels_horn_across_the_encoders_end_is_refused_with_what_to_do(tmp_path):
    nominal, real = load("koch"), differing("koch", {0: {"zero_count": 4000}})
    with Twin(nominal, seed=1, assembled=real) as twin:
        file = tmp_path / "mine.yaml"
        with Commanded("calibrate", "--profile", "koch", "--port", twin.port, "--file", file) as command:
            measure(command, Hand(twin, real))
            status, _, error = command.finish()
    assert status == 2
    assert "shoulder_pan: counts: expected a range within 0 to 4095 (" in error
    assert "put its horn on turned by about 17" in error
    assert not file.exists()


def settings(twin, profile):
    with ServoBus(twin.port, profile.bus.baud, profile.bus.protocol) as bus:
        return [bus.read(joint.servo_id, name) for joint in profile.joints for name in SETTINGS]


def test_a_folder_that_is_not_there_is_refused_before_the_arm_goes_limp(tmp_path):
    profile = load("so101")
    file = tmp_path / "none/mine.yaml"
    with Twin(profile, seed=1) as twin, Commanded("calibrate", "--port", twin.port, "--file", file) as command:
        status, text, error = command.finish()
    assert (status, text) == (2, "")
    assert "file: expected a folder that is there" in error


@pytest.mark.parametrize("how", ["interrupt", "end of input"])
def test_an_arm_is_limp_after_a_calibration_that_was_given_up(how, tmp_path):
    profile = load("so101")
    with Twin(profile, seed=1) as twin:
        arm = ServoArm(profile, twin.port, deadline_s=0.2)
        arm.connect()
        arm.enable_torque()
        arm.close()
        earlier = settings(twin, profile)
        with Commanded("calibrate", "--port", twin.port, "--file", tmp_path / "mine.yaml") as command:
            measure(command, Hand(twin, profile), sweep=False)
            if how == "interrupt":
                command.interrupt()
                command.process.wait(30)  # its input must not end first
            status, _, error = command.finish()
        assert status == (130 if how == "interrupt" else 2), error
        assert not (tmp_path / "mine.yaml").exists()
        assert settings(twin, profile) == earlier, "an earlier calibration still holds"
        arm.connect()
        assert not arm.read_torque().any()
        arm.close()


def test_a_file_of_another_arm_or_of_lerobot_is_compared_with_the_motors(tmp_path):
    profile = load("so101")
    ends = {"range_min": 900, "range_max": 3200}
    motors = {
        joint.name: {"id": joint.servo_id, "drive_mode": 0, "homing_offset": 12, **ends} for joint in profile.joints
    }
    widths = [hinge.width_rad * 4096 / (2 * np.pi) for hinge in hinges_of(profile)]
    for motor, width in zip(motors.values(), widths, strict=True):
        motor |= {"range_min": round(2047 - width / 2), "range_max": round(2047 + width / 2)}
    (tmp_path / "lerobot.json").write_text(json.dumps(motors))
    file = tmp_path / "mine.yaml"
    with Twin(profile, seed=1) as twin:
        arguments = ("--port", twin.port, "--file", file)
        with Commanded("calibrate", "--from-lerobot", tmp_path / "lerobot.json", *arguments) as command:
            status, text, error = command.finish()
        assert status == 1, error
        assert "servo 1 (shoulder_pan): homing_offset is 0 in the motor and 12 in the file" in text
        calibration = load_calibration(file)
        with ServoBus(twin.port, profile.bus.baud, profile.bus.protocol) as bus:
            for joint in calibration.joints:
                bus.write(joint.servo_id, "homing_offset", 12)
                bus.write(joint.servo_id, "min_position", joint.lower_count)
                bus.write(joint.servo_id, "max_position", joint.upper_count)
        with Commanded("calibrate", "--check", *arguments) as command:
            status, text, error = command.finish()
        assert (status, text) == (0, "file and motors agree"), error


def test_a_file_that_is_there_is_kept(tmp_path):
    (tmp_path / "so101.calibration.yaml").write_text("mine")
    with Commanded("calibrate", "--port", "/dev/null", cwd=tmp_path) as command:
        status, _, error = command.finish()
    assert status == 2
    assert "file: expected a new one; --replace overwrites it, got 'so101.calibration.yaml'" in error
    assert (tmp_path / "so101.calibration.yaml").read_text() == "mine"
