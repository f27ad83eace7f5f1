"""The twin's bus: driven by our driver. The vendors' libraries grade it elsewhere."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import serial

from mbrl_core.arm import ArmProfile, load_profile
from mbrl_core.robots.errors import NotConnected, StaleState
from mbrl_core.robots.feetech_protocol import PING, REGISTERS, WRITE, Packet, decode, encode
from mbrl_core.robots.servo_arm import ServoArm
from mbrl_sim import ASSETS
from mbrl_sim.emulated_bus import Twin
from mbrl_sim.perturbation import Perturbation
from mbrl_sim.servo_bank import ServoBank

pytestmark = pytest.mark.realtime

COUNT = 2 * np.pi / 4096


@pytest.fixture
def profile() -> ArmProfile:
    return load_profile(ASSETS / "so101.yaml")


@pytest.fixture
def twin(profile: ArmProfile) -> Iterator[Twin]:
    with Twin(profile, speed=4.0, seed=1) as twin:
        yield twin


@pytest.fixture
def arm(profile: ArmProfile, twin: Twin) -> Iterator[ServoArm]:
    arm = ServoArm(profile, twin.port, deadline_s=0.2)
    arm.connect()
    yield arm
    arm.close()


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_reading_is_where_the_arm_is(arm: ServoArm, twin: Twin) -> None:
    arm.enable_torque()
    assert wait_until(lambda: bool(np.abs(arm.read().velocity).max() < 0.01))
    reading = arm.read()
    np.testing.assert_allclose(reading.position, twin.position, atol=3 * COUNT)
    np.testing.assert_allclose(reading.voltage_v, 12.0)
    assert (reading.status == 0).all()
    assert reading.load[2] < -0.05  # the elbow servo holds the forearm up


def test_enabling_torque_moves_nothing(arm: ServoArm, twin: Twin) -> None:
    before = arm.read().position
    arm.enable_torque()
    time.sleep(0.2)
    np.testing.assert_allclose(twin.position, before, atol=0.03)  # sag only


def test_arm_goes_where_it_is_sent_and_sags_a_little(arm: ServoArm, twin: Twin, profile: ArmProfile) -> None:
    arm.enable_torque()
    goal = profile.vector("home_rad")
    goal[:3] += [0.4, 0.2, -0.3]
    arm.write(goal)
    assert wait_until(lambda: bool(np.abs(arm.read().position - goal).max() < 0.03))
    assert twin.position[2] > goal[2]


def test_arm_stands_until_first_enabled_and_falls_when_let_go(arm: ServoArm, twin: Twin) -> None:
    time.sleep(0.3)
    assert twin.tip[2] > 0.15
    arm.enable_torque()
    arm.disable_torque()
    assert wait_until(lambda: bool(twin.tip[2] < 0.05))


def test_hand_leads_limp_joints_and_lets_go_when_torque_comes_on(
    arm: ServoArm, twin: Twin, profile: ArmProfile
) -> None:
    low, high = profile.vector("lower_rad"), profile.vector("upper_rad")
    for share in np.linspace(0.3, 0.7, 5):
        led = low + share * (high - low)
        twin.push(led)
        time.sleep(0.05)
        np.testing.assert_allclose(arm.read().position, led, atol=3 * COUNT)
    twin.push(np.full(6, 3.0))
    assert (twin.position < 3.0).all()  # the ends of the joints stop the hand
    twin.push(profile.vector("home_rad"))
    arm.enable_torque()
    twin.push(high)
    np.testing.assert_allclose(twin.position, profile.vector("home_rad"), atol=0.05)  # driven joints do not yield
    arm.disable_torque()
    assert wait_until(lambda: bool(twin.tip[2] < 0.05))  # no hand is left
    twin.push(profile.vector("home_rad"))
    time.sleep(0.2)
    np.testing.assert_allclose(twin.position, profile.vector("home_rad"), atol=1e-9)


def test_silent_servo_is_named_and_comes_back(arm: ServoArm, twin: Twin) -> None:
    twin.set_silent({4})
    with pytest.raises(StaleState) as caught:
        arm.read()
    assert caught.value.missing_ids == (4,)
    twin.set_silent(set())
    assert np.isfinite(arm.read().position).all()


def test_power_cut_leaves_servos_limp_with_registers_at_their_defaults(arm: ServoArm, twin: Twin) -> None:
    arm.set_acceleration(10.0)
    arm.enable_torque()
    twin.power_cycle({2, 3})
    assert arm.read_torque().tolist() == [True, False, False, True, True, True]
    assert not arm.torque_enabled
    assert wait_until(lambda: bool(twin.tip[2] < 0.1))
    before = arm.read().position
    arm.enable_torque()
    time.sleep(0.2)
    np.testing.assert_allclose(twin.position, before, atol=0.1)  # held where it lay, not where it was sent before
    with pytest.raises(ValueError, match=r"servo_ids: expected some of \[1, 2, 3, 4, 5, 6\], got \[7\]"):
        twin.power_cycle({7})


def test_arm_that_holds_does_not_sag_further_when_enabled_again(arm: ServoArm) -> None:
    arm.enable_torque()
    goal = arm.read_goal()
    for _ in range(5):
        assert wait_until(lambda: bool(np.abs(arm.read().velocity).max() < 0.01))
        arm.enable_torque()
    np.testing.assert_array_equal(arm.read_goal(), goal)
    assert np.abs(arm.read().position - goal).max() > COUNT  # it sags, which is the point


def test_impossible_id_on_the_wire_does_not_silence_the_twin(profile: ArmProfile, twin: Twin) -> None:
    for servo_id in (254, 255):
        with serial.Serial(twin.port, profile.bus.baud, timeout=1.0) as port:
            port.write(encode(1, WRITE, bytes((REGISTERS["id"].address, servo_id))))
            refusal = decode(port.read(6)).packets
            assert [(packet.servo_id, packet.code > 0) for packet in refusal] == [(1, True)]
            port.write(encode(1, PING))
            assert decode(port.read(6)).packets == [Packet(1, 0, b"")]
    assert not twin.failed.is_set()


def test_death_of_the_bus_is_told(profile: ArmProfile, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*_: object) -> None:
        raise RuntimeError("the physics broke")

    monkeypatch.setattr(ServoBank, "advance_to", break_down)
    with Twin(profile) as twin:
        assert twin.failed.wait(10.0)
        assert str(twin.error) == "the physics broke"
    assert not Path(twin.port).exists()  # closed all the same


def test_twin_goes_on_when_the_client_leaves_and_returns(profile: ArmProfile, twin: Twin) -> None:
    for _ in range(3):
        arm = ServoArm(profile, twin.port, deadline_s=0.2)
        arm.connect()
        arm.enable_torque()
        assert not twin.wait_until_closed_by_client(0.0)
        arm.close()
        assert twin.wait_until_closed_by_client(0.0)
    again = ServoArm(profile, twin.port, deadline_s=0.2)
    again.connect()
    assert again.torque_enabled  # an arm that holds goes on holding
    again.close()


def test_link_gives_the_port_a_name_and_goes_with_it(profile: ArmProfile, tmp_path: Path) -> None:
    link = tmp_path / "arm"
    with Twin(profile, link=link) as twin:
        assert link.resolve() == Path(twin.port)
        arm = ServoArm(profile, str(link), deadline_s=0.2)
        arm.connect()
        arm.close()
    assert not link.is_symlink()
    with pytest.raises(NotConnected):
        arm.connect()


def test_link_replaces_a_stale_link_but_no_file(profile: ArmProfile, tmp_path: Path) -> None:
    link = tmp_path / "arm"
    link.symlink_to(tmp_path / "gone")
    with Twin(profile, link=link) as twin:
        assert link.resolve() == Path(twin.port)
    link.write_text("precious")
    with pytest.raises(ValueError, match="link: expected a free path or a symbolic link"):
        Twin(profile, link=link)
    assert link.read_text() == "precious"


def test_time_runs_at_the_given_speed_and_never_back(profile: ArmProfile) -> None:
    with Twin(profile, speed=2.0) as twin:
        start, real = twin.time_s, time.monotonic()
        time.sleep(0.2)
        passed, real = twin.time_s - start, time.monotonic() - real
        assert passed == pytest.approx(2.0 * real, rel=0.2)
        twin.set_speed(10.0)
        times = [twin.time_s for _ in range(100)]
        assert (np.diff(times) >= 0).all()
        assert times[0] >= start + passed
        with pytest.raises(ValueError, match="speed: expected above 0, got 0"):
            twin.set_speed(0)


def test_bytes_take_their_time_on_the_wire(profile: ArmProfile) -> None:
    """50 cycles of 140 + 26 bytes at 10 us a byte cannot be faster than 83 ms; nothing is said of slower."""
    with Twin(profile) as twin:
        arm = ServoArm(profile, twin.port, deadline_s=0.2)
        arm.connect()
        arm.enable_torque()
        home, start = profile.vector("home_rad"), time.monotonic()
        for _ in range(50):
            arm.read()
            arm.write(home)
        arm.read()
        assert time.monotonic() - start > 0.083 * 0.95
        arm.close()


def test_closing_twice_is_harmless(profile: ArmProfile) -> None:
    twin = Twin(profile)
    twin.close()
    twin.close()


def test_another_arm_answers_on_the_bus(profile: ArmProfile) -> None:
    sags = []
    for payload_kg in (0.0, 0.2):
        perturbation = Perturbation(payload_kg=payload_kg)
        with Twin(profile, speed=4.0, seed=1, perturbation=perturbation) as twin:
            arm = ServoArm(profile, twin.port, deadline_s=0.2)
            arm.connect()
            arm.enable_torque()
            time.sleep(0.5)
            sags.append(arm.read().position - profile.vector("home_rad"))
            arm.close()
    assert sags[1][2] - sags[0][2] > 5 * COUNT  # the elbow carries it


def test_unplugged_arm_is_gone_and_holds_its_pose_until_it_is_back(profile: ArmProfile, tmp_path: Path) -> None:
    link = tmp_path / "arm"
    with Twin(profile, link=link) as twin:
        arm = ServoArm(profile, str(link), deadline_s=0.2)
        arm.connect()
        arm.enable_torque()
        pose = twin.position
        twin.unplug()
        with pytest.raises(NotConnected):
            arm.read()
        arm.close()
        with pytest.raises(NotConnected):
            arm.connect()
        with pytest.raises(ValueError, match="plugged"):
            twin.unplug()
        time.sleep(0.3)
        np.testing.assert_allclose(twin.position, pose, atol=0.05)
        twin.replug()
        arm.connect()
        assert arm.torque_enabled
        arm.close()
        twin.unplug()
    assert not link.is_symlink()


def test_families_without_an_emulated_bus_are_refused(profile: ArmProfile) -> None:
    for changes, refusal in (
        ({"protocol": "ros2_control", "controller": "arm"}, "bus.protocol: expected a servo family"),
        ({"baud": 2_000_000}, r"bus.baud: expected one of \[38400, .*1000000\], got 2000000"),
    ):
        other = dataclasses.replace(profile, bus=dataclasses.replace(profile.bus, **changes))
        with pytest.raises(ValueError, match=refusal):
            Twin(other)
