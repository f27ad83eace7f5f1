"""`mbrl teleop` and `mbrl replay` as processes on emulated buses: what is recorded, what is left when they end."""

import contextlib
import os
import pty
import termios
import time

import numpy as np
import pytest
from fakes.commanded import Commanded
from fakes.two_families import FAMILIES, load

from mbrl_core.demonstrations import read_demonstrations
from mbrl_core.robots.realtime import ask_for_realtime
from mbrl_core.robots.servo_arm import ServoArm
from mbrl_core.tasks.reach import ReachTask
from mbrl_sim.emulated_bus import Twin

pytestmark = [pytest.mark.slow, pytest.mark.realtime]


@pytest.fixture(autouse=True)
def ahead_of_others():
    """As the twin's own process: its thread must meet a bus cycle beside whatever else runs here."""
    ask_for_realtime()
    yield
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def holds(profile, twin):
    """Whether every servo drives its joint, asked over a bus that the command has left."""
    assert twin.wait_until_closed_by_client(5.0)
    arm = ServoArm(profile, twin.port, deadline_s=0.2)
    arm.connect()
    try:
        return bool(arm.read_torque().all())
    finally:
        arm.close()


def press(command, keys, seconds):
    """Hold keys as a keyboard does that repeats 30 times a second."""
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        command.process.stdin.write(keys)
        command.process.stdin.flush()
        time.sleep(1 / 30)


@pytest.mark.parametrize("name", FAMILIES)
def test_keys_move_the_arm_and_what_they_did_is_a_demonstration_that_can_be_replayed(name, tmp_path):
    profile = load(name)
    with Twin(profile, seed=1) as twin:
        arguments = ("--profile", name, "--port", twin.port)
        out = tmp_path / "demonstrations"
        with Commanded("teleop", *arguments, "--out", out, "--seconds", 3, "--episodes", 2) as command:
            command.until("the arm goes home first")
            command.enter()
            command.until("q / a  shoulder_pan + / -")
            for _ in range(2):
                command.until("go")
                press(command, "qf", 1.5)
                moved = twin.position - profile.vector("home_rad")
                command.until("episode ")
            status, text, error = command.finish()
        assert (status, error) == (0, "")
        assert text.endswith("the arm holds")
        assert moved[0] > 0.1
        assert moved[3] < -0.1
        assert abs(moved[1]) < 0.1
        assert holds(profile, twin)
        first, second = read_demonstrations(out, ReachTask(profile))
        assert first.steps == second.steps == 60
        assert not first.exploring

        file = sorted(out.glob("episode-*.safetensors"))[0]
        with Commanded("replay", file, *arguments, "--yes") as command:
            status, text, error = command.finish()
        assert (status, error) == (0, ""), text
        assert "60 of 60 steps" in text
        assert float(text.partition("tip at most ")[2].split()[0]) < 20.0
        assert holds(profile, twin)


def test_episodes_that_are_dropped_are_not_kept_and_ctrl_c_leaves_the_arm_holding(tmp_path):
    profile = load("so101")
    with Twin(profile, seed=1) as twin:
        out = tmp_path / "demonstrations"
        with Commanded("teleop", "--port", twin.port, "--out", out, "--seconds", 20, "--yes") as command:
            command.until("go")
            press(command, "q", 0.5)
            press(command, "\x7f", 0.01)
            command.until("dropped")
            command.until("go")
            press(command, "q", 0.5)
            press(command, " ", 0.01)
            command.until("episode 1: ")
            command.until("go")
            command.interrupt()
            status, text, error = command.finish()
        assert status == 130, error
        assert "stopped by SIGINT; the arm holds" in text
        assert len(list(out.iterdir())) == 1
        assert holds(profile, twin)


def test_a_leader_arm_is_followed(tmp_path):
    profile = load("so101")
    home = profile.vector("home_rad")
    led = home + np.array([0.3, 0.0, -0.2, 0.0, 0.2, 0.0])
    with Twin(profile, seed=1) as twin, Twin(profile, seed=2) as leader:
        leader.push(home)
        ports = ("--port", twin.port, "--leader-port", leader.port)
        with Commanded("teleop", *ports, "--seconds", 6, "--episodes", 1, "--yes") as command:
            command.until("go")
            leader.push(led)
            command.until("episode 1: 120 steps")
            status, _, error = command.finish()
        assert (status, error) == (0, "")
        np.testing.assert_allclose(twin.position, led, atol=0.12)  # gravity sags it a little
        assert not holds(profile, leader)


def test_a_terminal_is_given_back_as_it_was():
    profile = load("so101")
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    with Twin(profile, seed=1) as twin:
        with Commanded("teleop", "--port", twin.port, "--yes", stdin=slave) as command:
            command.until("go")
            assert not termios.tcgetattr(slave)[3] & termios.ICANON
            os.write(master, b"\x1b")
            status, text, error = command.finish()
        assert (status, error) == (0, "")
        assert text.endswith("the arm holds")
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


def test_a_servo_that_fails_meanwhile_ends_it_with_the_reason(tmp_path):
    profile = load("so101")
    with Twin(profile, seed=1) as twin, Commanded("teleop", "--port", twin.port, "--yes") as command:
        command.until("go")
        twin.faults.overloaded = frozenset({2})
        status, _, error = command.finish_open()
    assert status == 1
    assert "the arm stopped and holds: shoulder_lift: expected a servo without faults" in error


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("teleop",), "port: expected a serial port"),
        (("replay", "none.safetensors", "--port", "/dev/null"), "episode: expected an episode file"),
        (("teleop", "--port", "/dev/null", "--leader-port", "/dev/null", "--leader-profile", "open_manipulator_x"),
         "leader_profile: expected an arm with joints"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_before_anything_moves(arguments, complaint, tmp_path):
    with Commanded(*arguments, cwd=tmp_path) as command:
        status, _, error = command.finish()
    assert status == 2, error
    assert complaint in error
