"""`mbrl setup-motor` as a process: a motor of another id and rate gets its joint's, and keeps it without power."""

import dataclasses

import pytest
from fakes.commanded import Commanded
from fakes.two_families import FAMILIES, load, write_profile

from mbrl_core.robots.servo_bus import ServoBus
from mbrl_sim.emulated_bus import Twin

pytestmark = pytest.mark.realtime
OTHERS = frozenset({1, 2, 3, 4, 5})  # not plugged in


@pytest.fixture(params=FAMILIES)
def profile(request):
    """The motor with id 6 shall be the gripper's, id 9, at 1 Mbit/s."""
    arm = load(request.param)
    *others, gripper = arm.joints
    return dataclasses.replace(arm, joints=(*others, dataclasses.replace(gripper, servo_id=9)))


@pytest.fixture
def path(profile, tmp_path):
    return write_profile(tmp_path / "arm.yaml", profile)


@pytest.fixture
def twin(profile):
    arm = load(profile.name)
    with Twin(dataclasses.replace(arm, bus=dataclasses.replace(arm.bus, baud=57_600)), seed=1) as twin:
        twin.set_silent(set(OTHERS))
        yield twin


def test_a_motor_gets_id_and_rate_and_keeps_them(profile, path, twin):
    with Commanded("setup-motor", "gripper", "--profile", path, "--port", twin.port) as command:
        command.until("connect the motor of gripper, and no other")
        command.enter()
        command.until("found a motor with id 6 at 57600 bit/s")
        status, text, error = command.finish()
    assert (status, error) == (0, "")
    assert text.endswith("gripper: id 9 at 1000000 bit/s")
    twin.power_cycle({9})
    with ServoBus(twin.port, 1_000_000, profile.bus.protocol) as bus:
        assert bus.everybody() == ([9], False)
        assert bus.read(9, "return_delay") == 0
        if bus.family.eeprom_lock:
            assert bus.read(9, "lock") == 1
    with Commanded("setup-motor", "gripper", "--profile", path, "--port", twin.port, "--yes") as command:
        assert command.finish()[0] == 0, "a second time changes nothing"


@pytest.mark.parametrize("silent", [frozenset({1, 2, 3}), frozenset(range(1, 7))])
def test_several_motors_or_none_are_left_as_they_are(profile, path, twin, silent):
    twin.set_silent(set(silent))
    with Commanded("setup-motor", "gripper", "--profile", path, "--port", twin.port, "--yes") as command:
        status, _, error = command.finish()
    assert status == 1
    expected = "one alone on the bus, got [4, 5, 6]: unplug" if len(silent) == 3 else "got no answer at"
    assert expected in error
    twin.set_silent(set())
    with ServoBus(twin.port, 57_600, profile.bus.protocol) as bus:
        assert bus.everybody()[0] == [1, 2, 3, 4, 5, 6]


def test_a_motor_of_another_model_is_refused(twin, tmp_path, profile):
    wrong = tuple(dataclasses.replace(servo, model_number={777: 778, 1060: 1020}.get(servo.model_number, 1190))
                  for servo in profile.servos)  # fmt: skip
    path = write_profile(tmp_path / "other.yaml", dataclasses.replace(profile, servos=wrong))
    with Commanded("setup-motor", "gripper", "--profile", path, "--port", twin.port, "--yes") as command:
        status, _, error = command.finish()
    assert status == 1
    assert "gripper: expected a motor of model" in error


def test_a_joint_that_is_none_is_refused(tmp_path):
    with Commanded("setup-motor", "elbow", "--port", "/dev/null") as command:
        status, _, error = command.finish()
    assert status == 2
    assert "joint: expected one of ['shoulder_pan', " in error
