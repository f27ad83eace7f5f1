"""The Feetech driver against servos faked at the wire: bytes on a pseudo-terminal, damaged on purpose."""

import contextlib
import dataclasses
import os
import select
import threading
import time
import tty
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mbrl_core.arm import ArmProfile, load_profile
from mbrl_core.robots.errors import Fault, LimitExceeded, NotConnected, StaleState
from mbrl_core.robots.feetech import FeetechArm
from mbrl_core.robots.feetech_protocol import (
    PING,
    READ,
    REGISTERS,
    SYNC_READ,
    SYNC_WRITE,
    WRITE,
    Packet,
    decode,
    encode,
)
from mbrl_sim import ASSETS

GOAL = REGISTERS["goal_position"].address
TORQUE = REGISTERS["torque_enable"].address
Mangle = Callable[[bytes, list[bytes]], bytes]


def untouched(_: bytes, replies: list[bytes]) -> bytes:
    """Send the answers as they are."""
    return b"".join(replies)


class FakeWire:
    """Six plain register tables behind a pseudo-terminal; `mangle(request, replies)` decides what really leaves.

    Answers leave in order, `latency_s` after their request, as an adapter's buffer lets them.
    """

    def __init__(self, servo_ids: range = range(1, 7)) -> None:
        self.tables = {servo_id: bytearray(128) for servo_id in servo_ids}
        for servo_id in servo_ids:
            self.set(servo_id, "model_number", 777)
            self.set(servo_id, "max_position", 4095)
            self.set(servo_id, "torque_limit", 1000)
            self.set(servo_id, "present_position", 2048)
        self.mangle: Mangle = untouched
        self.latency_s = 0.0
        self.requests: list[Packet] = []
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def set(self, servo_id: int, name: str, value: int) -> None:
        register = REGISTERS[name]
        self.tables[servo_id][register.address : register.address + register.size] = register.pack(value)

    def say(self, data: bytes) -> None:
        """Put bytes on the line that nobody asked for, as many as it takes."""
        os.set_blocking(self._master, False)
        if select.select([], [self._master], [], 0.01)[1]:
            with contextlib.suppress(BlockingIOError):
                os.write(self._master, data)

    def unplug(self) -> None:
        """Take the device away, as pulling the plug does."""
        if not self._stopping.is_set():
            self._stopping.set()
            self._thread.join()
            os.close(self._slave)
            os.close(self._master)

    def seen(self, code: int, address: int) -> list[Packet]:
        return [p for p in self.requests if p.code == code and p.params[:1] == bytes((address,))]

    def _serve(self) -> None:
        rest, leaving = b"", deque[tuple[float, bytes]]()
        while not self._stopping.is_set():
            while leaving and leaving[0][0] <= time.monotonic():
                os.write(self._master, leaving.popleft()[1])
            if not select.select([self._master], [], [], 0.001 if leaving else 0.02)[0]:
                continue
            decoded = decode(rest + os.read(self._master, 4096))
            rest = decoded.rest
            for packet in decoded.packets:
                self.requests.append(packet)
                data = self.mangle(encode(*packet), self._answer(packet))
                if self.latency_s or leaving:
                    leaving.append((time.monotonic() + self.latency_s, data))
                else:
                    os.write(self._master, data)

    def _answer(self, packet: Packet) -> list[bytes]:
        code, params = packet.code, packet.params
        if code == SYNC_WRITE:
            address, size = params[0], params[1]
            for start in range(2, len(params), size + 1):
                self.tables[params[start]][address : address + size] = params[start + 1 : start + 1 + size]
            return []
        asked = params[2:] if code == SYNC_READ else bytes((packet.servo_id,))
        span = slice(params[0], params[0] + params[1]) if code in (READ, SYNC_READ) else slice(0, 0)
        return [encode(i, 0, bytes(self.tables[i][span])) for i in asked if i in self.tables]


@pytest.fixture
def profile() -> ArmProfile:
    return load_profile(ASSETS / "so101.yaml")


@pytest.fixture
def wire() -> Iterator[FakeWire]:
    wire = FakeWire()
    yield wire
    wire.unplug()


@pytest.fixture
def arm(profile: ArmProfile, wire: FakeWire) -> Iterator[FeetechArm]:
    arm = FeetechArm(profile, wire.port, deadline_s=0.2)
    arm.connect()
    yield arm
    arm.close()


def test_reading_is_in_si_with_each_joints_sign_and_zero(profile: ArmProfile, wire: FakeWire) -> None:
    joints = list(profile.joints)
    joints[1] = dataclasses.replace(joints[1], sign=-1, zero_count=2000)
    arm = FeetechArm(dataclasses.replace(profile, joints=tuple(joints)), wire.port, deadline_s=0.2)
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


def test_read_is_one_request_and_write_is_one_request(arm: FeetechArm, wire: FakeWire) -> None:
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
def test_goal_that_is_not_finite_never_reaches_the_wire(arm: FeetechArm, wire: FakeWire, bad: float) -> None:
    arm.enable_torque()
    wire.requests.clear()
    with pytest.raises(ValueError, match="position: expected finite numbers"):
        arm.write(np.array([0.0, bad, 0.0, 0.0, 0.0, 0.0]))
    with pytest.raises(ValueError, match=r"position\.shape: expected \(6,\), got \(5,\)"):
        arm.write(np.zeros(5))
    arm.read()
    assert not wire.seen(SYNC_WRITE, GOAL)


def test_goal_beyond_the_encoder_is_refused(arm: FeetechArm, wire: FakeWire) -> None:
    arm.enable_torque()
    wire.requests.clear()
    with pytest.raises(LimitExceeded, match="shoulder_lift goal count: expected 0 to 4095, got 4656"):
        arm.write(np.array([0.0, 4.0, 0.0, 0.0, 0.0, 0.0]))
    arm.read()
    assert not wire.seen(SYNC_WRITE, GOAL)


def test_no_goal_is_written_while_torque_is_off(arm: FeetechArm, wire: FakeWire) -> None:
    with pytest.raises(Fault, match="expected torque enabled, got off"):
        arm.write(np.zeros(6))
    arm.enable_torque()
    arm.disable_torque()
    wire.requests.clear()
    with pytest.raises(Fault, match="expected torque enabled, got off"):
        arm.write(np.zeros(6))
    arm.read()
    assert not wire.seen(SYNC_WRITE, GOAL)


def test_torque_comes_on_where_the_arm_is(arm: FeetechArm, wire: FakeWire) -> None:
    wire.set(3, "present_position", 2500)
    wire.set(3, "goal_position", 100)
    wire.requests.clear()
    arm.enable_torque()
    writes = [p.params[:2] for p in wire.requests if p.code == SYNC_WRITE]
    assert writes == [bytes((41, 7)), bytes((TORQUE, 1))]  # acceleration, goal, time and velocity; then torque
    assert int.from_bytes(wire.tables[3][42:44], "little") == 2500
    assert arm.torque_enabled


def test_servo_that_stays_limp_is_a_fault(arm: FeetechArm, wire: FakeWire) -> None:
    def let_go(_: bytes, replies: list[bytes]) -> bytes:  # runs after each write has reached the tables
        wire.tables[4][TORQUE] = 0
        return b"".join(replies)

    wire.mangle = let_go
    with pytest.raises(Fault, match="torque_enable by servo id: expected .* 4: 1.*, got .* 4: 0"):
        arm.enable_torque()
    assert not arm.torque_enabled


def test_acceleration_is_written_in_the_servos_unit(arm: FeetechArm, wire: FakeWire) -> None:
    arm.set_acceleration(15.34)  # 100 counts/s^2 = 0.1534 rad/s^2
    assert {table[41] for table in wire.tables.values()} == {100}
    with pytest.raises(ValueError, match=r"acceleration_rad_s2: expected 0 to 39\.0, got 50\.0"):
        arm.set_acceleration(50.0)


def test_torque_state_is_read_at_connect(profile: ArmProfile, wire: FakeWire) -> None:
    for table in wire.tables.values():
        table[TORQUE] = 1
    arm = FeetechArm(profile, wire.port)
    arm.connect()
    assert arm.torque_enabled
    arm.close()
    assert not wire.seen(SYNC_WRITE, TORQUE)
    assert not wire.seen(WRITE, TORQUE)


def test_missing_servos_are_named_at_connect(profile: ArmProfile) -> None:
    wire = FakeWire(range(1, 5))
    arm = FeetechArm(profile, wire.port)
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
    arm = FeetechArm(profile, wire.port)
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
            FeetechArm(profile, port).connect()


def test_port_in_use_is_refused(profile: ArmProfile, arm: FeetechArm) -> None:
    with pytest.raises(NotConnected, match="that nothing else uses"):
        FeetechArm(profile, arm.port).connect()


def test_calibration_that_wraps_is_refused(profile: ArmProfile) -> None:
    joints = (dataclasses.replace(profile.joints[0], zero_count=3500), *profile.joints[1:])
    with pytest.raises(ValueError, match=r"shoulder_pan\.upper_rad: expected a limit within encoder counts 0 to 4095"):
        FeetechArm(dataclasses.replace(profile, joints=joints), "/dev/null")


def test_unplugged_device_is_not_connected(arm: FeetechArm, wire: FakeWire) -> None:
    wire.unplug()
    with pytest.raises(NotConnected):
        for _ in range(3):
            arm.read()


def silence(*servo_ids: int) -> Mangle:
    return lambda _, replies: b"".join(r for r in replies if r[2] not in servo_ids)


def test_silent_servo_ends_the_read_at_its_deadline_and_is_named(arm: FeetechArm, wire: FakeWire) -> None:
    wire.mangle = silence(3, 5)
    wire.requests.clear()
    start = time.monotonic()
    with pytest.raises(StaleState, match=r"got none of \(3, 5\)") as caught:
        arm.read()
    assert time.monotonic() - start < 5.0  # generous: the promise is 0.2 s, measured in bench/
    assert len(wire.requests) == 1
    assert caught.value.missing_ids == (3, 5)
    assert caught.value.partial is not None
    assert np.isnan(caught.value.partial.position).tolist() == [False, False, True, False, True, False]
    assert arm.errors.timeouts == 1
    wire.mangle = untouched
    assert np.isfinite(arm.read().position).all()


def test_dead_bus_has_no_partial_reading(arm: FeetechArm, wire: FakeWire) -> None:
    wire.mangle = lambda _, replies: b""
    with pytest.raises(StaleState) as caught:
        arm.read()
    assert caught.value.partial is None
    assert caught.value.missing_ids == (1, 2, 3, 4, 5, 6)


def test_echo_of_the_request_is_tolerated(profile: ArmProfile, wire: FakeWire) -> None:
    wire.mangle = lambda request, replies: request + b"".join(replies)
    arm = FeetechArm(profile, wire.port, deadline_s=0.2)
    arm.connect()
    arm.enable_torque()
    arm.write(np.zeros(6))
    assert np.isfinite(arm.read().position).all()
    assert arm.errors.echoes > 6
    assert arm.errors.timeouts == arm.errors.damaged == 0
    arm.close()


def test_noise_round_the_answers_is_skipped(arm: FeetechArm, wire: FakeWire) -> None:
    noise = b"\x00\xff\x13\xff\xff\x01\xf0"
    wire.mangle = lambda _, replies: noise + noise.join(replies)
    assert np.isfinite(arm.read().position).all()
    assert arm.errors.noise > 0
    assert arm.errors.timeouts == 0


def test_truncated_answer_costs_one_servo_and_the_next_read_is_whole(arm: FeetechArm, wire: FakeWire) -> None:
    wire.mangle = lambda _, replies: b"".join([*replies[:1], replies[1][:-5], *replies[2:]])
    with pytest.raises(StaleState) as caught:
        arm.read()
    assert caught.value.missing_ids == (2,)
    wire.mangle = untouched
    assert np.isfinite(arm.read().position).all()


def damage_second(_: bytes, replies: list[bytes]) -> bytes:
    flipped = replies[1][:-3] + bytes((replies[1][-3] ^ 0x10,)) + replies[1][-2:]
    return b"".join([replies[0], flipped, *replies[2:]])


def test_damaged_answer_is_asked_for_again(arm: FeetechArm, wire: FakeWire) -> None:
    wire.requests.clear()
    wire.mangle = lambda request, replies: (damage_second if len(wire.requests) == 1 else untouched)(request, replies)
    assert np.isfinite(arm.read().position).all()
    assert (arm.errors.damaged, arm.errors.retries, len(wire.requests)) == (1, 1, 2)


def test_answer_damaged_every_time_is_stale_after_one_retry(arm: FeetechArm, wire: FakeWire) -> None:
    wire.mangle = damage_second
    wire.requests.clear()
    with pytest.raises(StaleState) as caught:
        arm.read()
    assert caught.value.missing_ids == (2,)
    assert len(wire.requests) == 2


def test_answer_of_a_wrong_id_is_ignored(arm: FeetechArm, wire: FakeWire) -> None:
    stranger = encode(9, 0, bytes(15))
    wire.mangle = lambda _, replies: stranger + b"".join(replies)
    assert np.isfinite(arm.read().position).all()
    assert arm.errors.unexpected == 1


@pytest.mark.parametrize("late_by_cycles", [1.5, 3.5, 5.5])
def test_late_answer_is_not_taken_for_the_next(profile: ArmProfile, wire: FakeWire, late_by_cycles: float) -> None:
    """Every request is answered, and truly, but so late that the answer comes while a later one waits for its own."""
    arm = FeetechArm(profile, wire.port, deadline_s=0.03)
    arm.connect()
    wire.latency_s = 0.03 * late_by_cycles
    asked = count_reads(wire)
    for _ in range(12):
        with pytest.raises(StaleState):
            arm.read()
    wire.latency_s = 0.0
    came_back = 0
    for _ in range(12):
        with contextlib.suppress(StaleState):
            assert arm.read().position[0] == pytest.approx((asked[-1] - 2048) * 2 * np.pi / 4096)
            came_back += 1
    assert came_back > 0
    arm.close()


def count_reads(wire: FakeWire) -> list[int]:
    """Let servo 1 stand at another position at each sync read; return the list of them, which grows."""
    asked: list[int] = []

    def advance(request: bytes, replies: list[bytes]) -> bytes:
        if request[4] == SYNC_READ:  # the answers at hand were made before this
            asked.append(int.from_bytes(wire.tables[1][56:58], "little"))
            wire.set(1, "present_position", asked[-1] + 1)
        return b"".join(replies)

    wire.mangle = advance
    return asked


def test_late_part_of_an_answer_is_not_taken_for_the_next(arm: FeetechArm, wire: FakeWire) -> None:
    held: list[bytes] = []

    def hold_last(_: bytes, replies: list[bytes]) -> bytes:
        held.append(replies[-1])
        return b"".join(replies[:-1])

    wire.mangle = hold_last
    with pytest.raises(StaleState):
        arm.read()
    wire.mangle = lambda request, replies: (held.pop() if held else b"") + silence(6)(request, replies)
    with pytest.raises(StaleState) as caught:
        arm.read()
    assert not held
    assert caught.value.missing_ids == (6,)


def test_lost_answer_costs_no_further_cycle(arm: FeetechArm, wire: FakeWire) -> None:
    wire.mangle = lambda _, replies: b""
    with pytest.raises(StaleState):
        arm.read()
    wire.mangle = untouched
    wire.requests.clear()
    arm.read()
    arm.read()
    assert [packet.code for packet in wire.requests] == [READ, SYNC_READ, SYNC_READ]  # fenced once


def test_slow_adapter_is_refused_at_connect(profile: ArmProfile, wire: FakeWire) -> None:
    wire.latency_s = 0.02
    arm = FeetechArm(profile, wire.port, deadline_s=0.008)
    with pytest.raises(
        NotConnected, match=r"round trip on .*: expected at most 8 ms .*, got \d+\.\d ms: .*latency timer"
    ):
        arm.connect()


@pytest.mark.parametrize("noise", [b"\xff", b"\xff\xff\x01\x05", b"\x00\x55"])
def test_babbling_line_cannot_hold_a_read(profile: ArmProfile, noise: bytes) -> None:
    """Noise comes faster than it can be read; the read ends all the same."""
    wire = FakeWire()
    arm = FeetechArm(profile, wire.port)
    arm.connect()
    with babbling(wire, noise * 1024):
        reader = ThreadPoolExecutor(1)
        for _ in range(2):  # the second must be fenced first
            error = reader.submit(arm.read).exception(timeout=20.0)
            assert isinstance(error, StaleState)
            assert error.missing_ids == (1, 2, 3, 4, 5, 6)
    wire.unplug()


@contextlib.contextmanager
def babbling(wire: FakeWire, noise: bytes) -> Iterator[None]:
    """Keep the line full of noise; no servo gets a word in."""
    stop = threading.Event()

    def babble() -> None:
        while not stop.is_set():
            wire.say(noise)

    wire.mangle = lambda _, replies: b""
    thread = threading.Thread(target=babble)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_goals_and_torque_are_read_in_one_request_each(arm: FeetechArm, wire: FakeWire) -> None:
    for servo_id in range(1, 7):
        wire.set(servo_id, "goal_position", 2148 if servo_id == 2 else 2048)
    wire.tables[3][TORQUE] = 1
    wire.requests.clear()
    assert arm.read_goal().tolist() == pytest.approx([0.0, 100 * 2 * np.pi / 4096, *[0.0] * 4])
    assert arm.read_torque().tolist() == [False, False, True, False, False, False]
    ids = bytes(range(1, 7))
    assert [packet.params for packet in wire.requests] == [bytes((GOAL, 2)) + ids, bytes((TORQUE, 1)) + ids]


@pytest.mark.parametrize("read", [FeetechArm.read_goal, FeetechArm.read_torque])
def test_silent_servo_is_named_whatever_is_read(
    arm: FeetechArm, wire: FakeWire, read: Callable[[FeetechArm], object]
) -> None:
    wire.mangle = silence(3)
    with pytest.raises(StaleState, match=r"got none of \(3,\)") as caught:
        read(arm)
    assert caught.value.missing_ids == (3,)


def test_servo_found_limp_takes_no_goal_until_torque_is_enabled(arm: FeetechArm, wire: FakeWire) -> None:
    arm.enable_torque()
    wire.tables[4][TORQUE] = 0
    assert not arm.read_torque()[3]
    wire.requests.clear()
    with pytest.raises(Fault, match="expected torque enabled, got off"):
        arm.write(np.zeros(6))
    arm.read()
    assert not wire.seen(SYNC_WRITE, GOAL)
    arm.enable_torque()
    arm.write(np.zeros(6))


def test_arm_that_holds_keeps_its_goals_when_enabled_again(arm: FeetechArm, wire: FakeWire) -> None:
    arm.enable_torque()
    wire.set(2, "present_position", 2040)  # it sags
    wire.requests.clear()
    arm.enable_torque()
    assert not [packet for packet in wire.requests if packet.code == SYNC_WRITE]
    assert arm.read_goal()[1] == 0.0


def test_ramps_left_over_from_other_software_are_cleared_with_the_first_goal(arm: FeetechArm, wire: FakeWire) -> None:
    for name, value in {"acceleration": 50, "goal_time": 300, "goal_velocity": 100, "torque_enable": 1}.items():
        wire.set(5, name, value)
    wire.set(5, "goal_position", 3000)  # a slow motion under way: without its ramp it would leap
    arm.enable_torque()
    assert wire.tables[5][40:48] == bytes((1, 0, 0, 8, 0, 0, 0, 0))


def test_acceleration_that_was_set_outlives_a_power_cut(arm: FeetechArm, wire: FakeWire) -> None:
    arm.set_acceleration(15.34)
    wire.set(2, "acceleration", 0)
    arm.enable_torque()
    assert {table[41] for table in wire.tables.values()} == {100}


def test_servo_without_torque_limit_is_refused(profile: ArmProfile, arm: FeetechArm, wire: FakeWire) -> None:
    wire.set(3, "torque_limit", 0)
    message = r"servo 3 \(elbow_flex\) torque limit: expected above 0 .*, got 0"
    with pytest.raises(NotConnected, match=message):
        arm.enable_torque()
    arm.close()
    with pytest.raises(NotConnected, match=message):
        arm.connect()


def test_ping_needs_no_more_than_three_attempts(profile: ArmProfile, wire: FakeWire) -> None:
    wire.mangle = silence(2)
    with pytest.raises(NotConnected, match=r"missing \[2\]"):
        FeetechArm(profile, wire.port).connect()
    assert len([p for p in wire.requests if p.code == PING and p.servo_id == 2]) == 3
