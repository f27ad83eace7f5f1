"""How each joint is told of: by one reading, by hand."""

import dataclasses
import time

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402
from fakes.ideal_arm import IdealArm  # noqa: E402

from mbrl_core.arm import load_profile  # noqa: E402
from mbrl_core.health import Tolerances  # noqa: E402
from mbrl_ros.robot_diagnostics import OLD_S, joint_statuses  # noqa: E402
from mbrl_sim import profile_path  # noqa: E402

PROFILE = load_profile(profile_path("so101"))
TOLERANCES, ELBOW = Tolerances.of(PROFILE), 2
OK, WARN, ERROR, STALE = (getattr(DiagnosticStatus, name) for name in ("OK", "WARN", "ERROR", "STALE"))


def reading(**changed):
    """A well arm's, but for the elbow's values."""
    well = IdealArm(PROFILE.vector("home_rad")).read()
    fields = {name: getattr(well, name).copy() for name in changed}
    for name, value in changed.items():
        fields[name][ELBOW] = value
    return dataclasses.replace(well, **fields)


@pytest.mark.parametrize(
    ("changed", "level", "message"),
    [
        ({}, OK, ""),
        ({"temperature_c": 60.0}, WARN, "warm: 60 degC, the arm is slowed"),
        ({"temperature_c": 65.0}, ERROR, "hot: 65 degC"),
        ({"voltage_v": 8.0}, ERROR, "supply: 8.0 V"),
        ({"status": 40}, ERROR, "current, overload"),
        ({"temperature_c": np.nan, "voltage_v": np.nan, "load": np.nan}, OK, ""),
    ],
)
def test_a_joint_is_told_of_by_what_it_does_to_the_arm(changed, level, message):
    statuses = joint_statuses("/arm", reading(**changed), TOLERANCES)
    assert [status.name for status in statuses] == [f"/arm: {joint.name}" for joint in PROFILE.joints]
    assert statuses[ELBOW].level == level
    assert message in statuses[ELBOW].message
    assert all(status.level == OK for index, status in enumerate(statuses) if index != ELBOW)


def test_an_arm_that_was_not_read_lately_is_stale():
    old = dataclasses.replace(reading(), stamp_s=time.monotonic() - 2 * OLD_S)
    for nothing in (None, old):
        statuses = joint_statuses("/arm", nothing, TOLERANCES)
        assert {(status.level, status.message) for status in statuses} == {(STALE, "no reading")}
        assert len(statuses) == len(PROFILE.joints)
