"""What the doctor makes of a survey of the bus, where no emulated servo can be brought to it."""

import dataclasses

import pytest

from mbrl_core.robots.bus_findings import findings
from mbrl_core.robots.bus_survey import BusSurvey, Exchanges, ServoSurvey
from mbrl_core.robots.families import FEETECH_STS

TABLE = FEETECH_STS.registers(777)


@pytest.fixture
def survey(profile):
    """A survey in which nothing is wrong."""
    return BusSurvey([well(joint) for joint in profile.joints], cycle_s=0.002)


def well(joint):
    middle = {"min_position": 0, "max_position": 4095, "homing_offset": 0, "return_delay": 0}
    settings = {"model_number": 777, "operating_mode": 0, "firmware_major": 3, "firmware_minor": 10, **middle}
    return ServoSurvey(joint, TABLE, Exchanges(tries=100, whole=100, took_s=[0.001]), settings)


def the_one(found):
    assert len(found) == 1, found
    return found[0]


def test_nothing_is_found_where_nothing_is_wrong(survey, profile):
    assert not findings(survey, profile)


def test_servos_of_different_firmware(survey, profile):
    survey.servos[3].settings["firmware_minor"] = 9
    found = the_one(findings(survey, profile))
    assert (found.kind, found.note) == ("firmware", True)
    assert "3.9 in [4]" in found.text
    assert "vendor's tool" in found.remedy


def test_a_servo_that_is_silent_now_and_then(survey, profile):
    survey.servos[1].exchanges = Exchanges(tries=100, whole=95, silent=5, took_s=[0.001])
    found = the_one(findings(survey, profile))
    assert (found.kind, found.note) == ("intermittent", False)
    assert "servo 2 (shoulder_lift) left 5 of 100 requests unanswered" in found.text
    assert "loose plug" in found.remedy


def test_a_servo_whose_settings_did_not_come(survey, profile):
    survey.servos[5].settings.clear()
    found = the_one(findings(survey, profile))
    assert (found.kind, found.note) == ("unreadable", False)
    assert "servo 6 (gripper)" in found.text


@pytest.mark.parametrize(
    ("bus_hz", "cycle_s", "slow"), [(200.0, 0.0045, True), (200.0, 0.0035, False), (50.0, 0.012, False)]
)
def test_a_read_may_take_its_share_of_the_cycle(survey, profile, bus_hz, cycle_s, slow):
    survey.cycle_s = cycle_s
    found = findings(survey, dataclasses.replace(profile, bus_hz=bus_hz))
    assert [one.kind for one in found] == ["slow bus"] * slow
