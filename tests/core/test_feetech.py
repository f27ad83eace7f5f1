"""The Feetech driver against servos faked at the wire: bytes on a pseudo-terminal, damaged on purpose."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from fakes.feetech_wire import FakeWire

from mbrl_core.arm import ArmProfile
from mbrl_core.robots.errors import Fault, LimitExceeded, NotConnected
from mbrl_core.robots.feetech_protocol import (
    REGISTERS,
    SYNC_READ,
    SYNC_WRITE,
    WRITE,
    Packet,
)
from mbrl_core.robots.servo_arm import ServoArm

GOAL = REGISTERS["goal_position"].address
TORQUE = REGISTERS["torque_enable"].address


def test_reading_is_in_si_with_each_joints_sign_and_zero(profile: ArmProfile, wire: FakeWire) -> None:
    joints = list(profile.joints)
    joints[1] = dataclasses.replace(joints[1], sign=-1, zero_count=2000)
    arm = ServoArm(dataclasses.replace(profile, joints=tuple(joints)), wire.port, deadline_s=0.2)
    values = {"position": 1976, "velocity": -100, "load": 250, "voltage": 121, "temperature": 31, "current": 10}
    for name, value in values.items():
        wire.set(2, f"present_{name}", value)
    wire.set(2, "status", 32)
    arm.connect()
    reading = arm.read()
    arm.close()
    turn = 2 * np.pi / 4096
    assert reading.position[0] == 0.0
    assert reading.position[1] == pytest.approx(24 * turn)
    assert reading.velocity[1] == pytest.approx(100 * turn)
    assert reading.load[1] == pytest.approx(-0.25)
    assert reading.current_a[1] == pytest.approx(-0.065)
    assert reading.voltage_v[1] == pytest.approx(12.1)
    assert reading.temperature_c[1] == 31.0
    assert reading.status.tolist() == [0, 32, 0, 0, 0, 0]


def test_read_is_one_request_and_write_is_one_request(arm: ServoArm, wire: FakeWire) -> None:
    arm.enable_torque()
    wire.requests.clear()
    arm.read()
    arm.write(np.array([0.1, 0.0, 0.0, 0.0, 0.0, 0.0]))
    arm.read()
    goals = b"".join(bytes((i, *(2113 if i == 1 else 2048).to_bytes(2, "little"))) for i in range(1, 7))
    assert wire.requests == [
        Packet(0xFE, SYNC_READ, bytes((56, 15, 1, 2, 3, 4, 5, 6))),
        Packet(0xFE, SYNC_WRITE, bytes((42, 2)) + goals),  # 2048 + 0.1 * 4096 / (2 pi) = 2113.2
        Packet(0xFE, SYNC_READ, bytes((56, 15, 1, 2, 3, 4, 5, 6))),
    ]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_goal_that_is_not_finite_never_reaches_the_wire(arm: ServoArm, wire: FakeWire, bad: float) -> None:
    arm.enable_torque()
    wire.requests.clear()
    with pytest.raises(ValueError, match="position: expected finite numbers"):
        arm.write(np.array([0.0, bad, 0.0, 0.0, 0.0, 0.0]))
    with pytest.raises(ValueError, match=r"position\.shape: expected \(6,\), got \(5,\)"):
        arm.write(np.zeros(5))
    arm.read()
    assert not wire.seen(SYNC_WRITE, GOAL)


def test_goal_beyond_the_encoder_is_refused(arm: ServoArm, wire: FakeWire) -> None:
    arm.enable_torque()
    wire.requests.clear()
    with pytest.raises(LimitExceeded, match="shoulder_lift goal count: expected 0 to 4095, got 4656"):
        arm.write(np.array([0.0, 4.0, 0.0, 0.0, 0.0, 0.0]))
    arm.read()
    assert not wire.seen(SYNC_WRITE, GOAL)


def test_no_goal_is_written_while_torque_is_off(arm: ServoArm, wire: FakeWire) -> None:
    with pytest.raises(Fault, match="expected torque enabled, got off"):
        arm.write(np.zeros(6))
    arm.enable_torque()
    arm.disable_torque()
    wire.requests.clear()
    with pytest.raises(Fault, match="expected torque enabled, got off"):
        arm.write(np.zeros(6))
    arm.read()
    assert not wire.seen(SYNC_WRITE, GOAL)


def test_torque_comes_on_where_the_arm_is(arm: ServoArm, wire: FakeWire) -> None:
    wire.set(3, "present_position", 2500)
    wire.set(3, "goal_position", 100)
    wire.requests.clear()
    arm.enable_torque()
    writes = [p.params[:2] for p in wire.requests if p.code == SYNC_WRITE]
    assert writes == [bytes((41, 7)), bytes((TORQUE, 1))]  # acceleration, goal, time and velocity; then torque
    assert int.from_bytes(wire.tables[3][42:44], "little") == 2500
    assert arm.torque_enabled


def test_servo_that_stays_limp_is_a_fault(arm: ServoArm, wire: FakeWire) -> None:
    def let_go(_: bytes, replies: list[bytes]) -> bytes:  # runs after each write has reached the tables
        wire.tables[4][TORQUE] = 0
        return b"".join(replies)

    wire.mangle = let_go
    with pytest.raises(Fault, match="torque_enable by servo id: expected .* 4: 1.*, got .* 4: 0"):
        arm.enable_torque()
    assert not arm.torque_enabled


def test_acceleration_is_written_in_the_servos_unit(arm: ServoArm, wire: FakeWire) -> None:
    arm.set_acceleration(15.34)  # 100 counts/s^2 = 0.1534 rad/s^2
    assert {table[41] for table in wire.tables.values()} == {100}
    with pytest.raises(ValueError, match=r"acceleration_rad_s2: expected 0 to 39\.0, got 50\.0"):
        arm.set_acceleration(50.0)


def test_torque_state_is_read_at_connect(profile: ArmProfile, wire: FakeWire) -> None:
    for table in wire.tables.values():
        table[TORQUE] = 1
    arm = ServoArm(profile, wire.port)
    arm.connect()
    assert arm.torque_enabled
    arm.close()
    assert not wire.seen(SYNC_WRITE, TORQUE)
    assert not wire.seen(WRITE, TORQUE)


def test_missing_servos_are_named_at_connect(profile: ArmProfile) -> None:
    wire = FakeWire(range(1, 5))
    arm = ServoArm(profile, wire.port)
    with pytest.raises(NotConnected, match=r"expected \[1, 2, 3, 4, 5, 6\], got \[1, 2, 3, 4\]; missing \[5, 6\]"):
        arm.connect()
    wire.unplug()


@pytest.mark.parametrize(
    ("register", "value", "message"),
    [
        ("model_number", 1060, r"servo 3 \(elbow_flex\) model number: expected 777, got 1060"),
        ("operating_mode", 1, r"servo 3 \(elbow_flex\) operating mode: expected 0 \(position\), got 1"),
        ("max_position", 3000, r"servo 3 \(elbow_flex\) position range: expected counts 972 to 3124 .* got 0 to 3000"),
    ],
)
def test_wrong_servo_is_refused(profile: ArmProfile, wire: FakeWire, register: str, value: int, message: str) -> None:
    wire.set(3, register, value)
    arm = ServoArm(profile, wire.port)
    with pytest.raises(NotConnected, match=message):
        arm.connect()
    wire.set(3, "model_number", 777)
    with pytest.raises(NotConnected, match="expected .* to be open, got closed"):
        arm.read()


def test_wrong_port_is_refused(profile: ArmProfile, tmp_path: Path) -> None:
    plain = tmp_path / "file"
    plain.touch()
    for port in (str(tmp_path / "nothing"), str(plain)):
        with pytest.raises(NotConnected, match="port: expected a serial device that nothing else uses, got"):
            ServoArm(profile, port).connect()


def test_port_in_use_is_refused(profile: ArmProfile, arm: ServoArm) -> None:
    with pytest.raises(NotConnected, match="that nothing else uses"):
        ServoArm(profile, arm.port).connect()


def test_calibration_that_wraps_is_refused(profile: ArmProfile) -> None:
    joints = (dataclasses.replace(profile.joints[0], zero_count=3500), *profile.joints[1:])
    with pytest.raises(ValueError, match=r"shoulder_pan\.upper_rad: expected a limit within encoder counts 0 to 4095"):
        ServoArm(dataclasses.replace(profile, joints=joints), "/dev/null")


def test_unplugged_device_is_not_connected(arm: ServoArm, wire: FakeWire) -> None:
    wire.unplug()
    with pytest.raises(NotConnected):
        for _ in range(3):
            arm.read()
