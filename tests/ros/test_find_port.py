"""`mbrl find-port` as a process: who answers on a port, and which port goes away with its cable."""

import os
import pty

import pytest
from fakes.commanded import Commanded
from fakes.two_families import FAMILIES, load

from mbrl_sim.emulated_bus import Twin

pytestmark = pytest.mark.realtime


@pytest.mark.parametrize("name", FAMILIES)
def test_the_port_that_answers_is_listed_with_its_servos(name, tmp_path):
    profile = load(name)
    silent, slave = pty.openpty()
    (tmp_path / "tty0").symlink_to(os.ttyname(slave))
    with (
        Twin(profile, link=tmp_path / "tty1"),
        Commanded("find-port", "--list", "--pattern", tmp_path / "tty*") as command,
    ):
        status, text, error = command.finish()
    os.close(silent)
    assert status == 0, error
    assert f"{tmp_path}/tty0  \n  nobody answers at 1000000 bit/s" in text
    model = profile.servo_of(profile.joints[0]).model_number
    assert f"{tmp_path}/tty1  \n  {profile.bus.protocol}: id 1 (model {model}), id 2" in text


def test_the_port_that_goes_away_with_the_cable_is_the_arms(tmp_path):
    with (
        Twin(load("so101"), link=tmp_path / "tty1") as twin,
        Commanded("find-port", "--pattern", tmp_path / "tty*") as command,
    ):
        command.until("remove the arm's USB cable")
        twin.unplug()
        command.enter()
        assert command.until("the port is") == f"the port is {tmp_path}/tty1"
        command.until("put the cable back")
        twin.replug()
        command.enter()
        command.until("feetech_sts: id 1 (model 777)")
        assert command.finish()[0] == 0


def test_a_cable_that_was_not_removed_names_no_port(tmp_path):
    with (
        Twin(load("so101"), link=tmp_path / "tty1"),
        Commanded("find-port", "--pattern", tmp_path / "tty*") as command,
    ):
        command.until("remove the arm's USB cable")
        command.enter()
        status, _, error = command.finish()
    assert status == 2
    assert "ports that went away: expected one, got []" in error
