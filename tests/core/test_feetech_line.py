"""The Feetech driver on a bad line: silence, noise, echoes, damage, lateness, and servos that lost power."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fakes.feetech_wire import FakeWire, Mangle, untouched

from mbrl_core.arm import ArmProfile
from mbrl_core.robots.errors import Fault, NotConnected, StaleState
from mbrl_core.robots.feetech_protocol import (
    READ,
    REGISTERS,
    SYNC_READ,
    SYNC_WRITE,
    encode,
)
from mbrl_core.robots.servo_arm import ServoArm

pytestmark = pytest.mark.realtime

GOAL = REGISTERS["goal_position"].address
TORQUE = REGISTERS["torque_enable"].address


def silence(*servo_ids: int) -> Mangle:
    return lambda _, replies: b"".join(r for r in replies if r[2] not in servo_ids)


def test_silent_servo_ends_the_read_at_its_deadline_and_is_named(arm: ServoArm, wire: FakeWire) -> None:
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


def test_dead_bus_has_no_partial_reading(arm: ServoArm, wire: FakeWire) -> None:
    wire.mangle = lambda _, replies: b""
    with pytest.raises(StaleState) as caught:
        arm.read()
    assert caught.value.partial is None
    assert caught.value.missing_ids == (1, 2, 3, 4, 5, 6)


def test_echo_of_the_request_is_tolerated(profile: ArmProfile, wire: FakeWire) -> None:
    wire.mangle = lambda request, replies: request + b"".join(replies)
    arm = ServoArm(profile, wire.port, deadline_s=0.2)
    arm.connect()
    arm.enable_torque()
    arm.write(np.zeros(6))
    assert np.isfinite(arm.read().position).all()
    assert arm.errors.echoes > 6
    assert arm.errors.timeouts == arm.errors.damaged == 0
    arm.close()


def test_noise_round_the_answers_is_skipped(arm: ServoArm, wire: FakeWire) -> None:
    noise = b"\x00\xff\x13\xff\xff\x01\xf0"
    wire.mangle = lambda _, replies: noise + noise.join(replies)
    assert np.isfinite(arm.read().position).all()
    assert arm.errors.noise > 0
    assert arm.errors.timeouts == 0


def test_truncated_answer_costs_one_servo_and_the_next_read_is_whole(arm: ServoArm, wire: FakeWire) -> None:
    wire.mangle = lambda _, replies: b"".join([*replies[:1], replies[1][:-5], *replies[2:]])
    with pytest.raises(StaleState) as caught:
        arm.read()
    assert caught.value.missing_ids == (2,)
    wire.mangle = untouched
    assert np.isfinite(arm.read().position).all()


def damage_second(_: bytes, replies: list[bytes]) -> bytes:
    flipped = replies[1][:-3] + bytes((replies[1][-3] ^ 0x10,)) + replies[1][-2:]
    return b"".join([replies[0], flipped, *replies[2:]])


def test_damaged_answer_is_asked_for_again(arm: ServoArm, wire: FakeWire) -> None:
    wire.requests.clear()
    wire.mangle = lambda request, replies: (damage_second if len(wire.requests) == 1 else untouched)(request, replies)
    assert np.isfinite(arm.read().position).all()
    assert (arm.errors.damaged, arm.errors.retries, len(wire.requests)) == (1, 1, 2)


def test_answer_damaged_every_time_is_stale_after_one_retry(arm: ServoArm, wire: FakeWire) -> None:
    wire.mangle = damage_second
    wire.requests.clear()
    with pytest.raises(StaleState) as caught:
        arm.read()
    assert caught.value.missing_ids == (2,)
    assert len(wire.requests) == 2


def test_answer_of_a_wrong_id_is_ignored(arm: ServoArm, wire: FakeWire) -> None:
    stranger = encode(9, 0, bytes(15))
    wire.mangle = lambda _, replies: stranger + b"".join(replies)
    assert np.isfinite(arm.read().position).all()
    assert arm.errors.unexpected == 1


@pytest.mark.parametrize("late_by_cycles", [1.5, 3.5, 5.5])
def test_late_answer_is_not_taken_for_the_next(profile: ArmProfile, wire: FakeWire, late_by_cycles: float) -> None:
    """Every request is answered, and truly, but so late that the answer comes while a later one waits for its own."""
    arm = ServoArm(profile, wire.port, deadline_s=0.03)
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


def test_late_part_of_an_answer_is_not_taken_for_the_next(arm: ServoArm, wire: FakeWire) -> None:
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


def test_lost_answer_costs_no_further_cycle(arm: ServoArm, wire: FakeWire) -> None:
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
    arm = ServoArm(profile, wire.port, deadline_s=0.008)
    with pytest.raises(
        NotConnected, match=r"round trip on .*: expected at most 8 ms .*, got \d+\.\d ms: .*latency timer"
    ):
        arm.connect()


@pytest.mark.parametrize("noise", [b"\xff", b"\xff\xff\x01\x05", b"\x00\x55"])
def test_babbling_line_cannot_hold_a_read(profile: ArmProfile, noise: bytes) -> None:
    """Noise comes faster than it can be read; the read ends all the same."""
    wire = FakeWire()
    arm = ServoArm(profile, wire.port)
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


def test_goals_and_torque_are_read_in_one_request_each(arm: ServoArm, wire: FakeWire) -> None:
    for servo_id in range(1, 7):
        wire.set(servo_id, "goal_position", 2148 if servo_id == 2 else 2048)
    wire.tables[3][TORQUE] = 1
    wire.requests.clear()
    assert arm.read_goal().tolist() == pytest.approx([0.0, 100 * 2 * np.pi / 4096, *[0.0] * 4])
    assert arm.read_torque().tolist() == [False, False, True, False, False, False]
    ids = bytes(range(1, 7))
    assert [packet.params for packet in wire.requests] == [bytes((GOAL, 2)) + ids, bytes((TORQUE, 1)) + ids]


@pytest.mark.parametrize("read", [ServoArm.read_goal, ServoArm.read_torque])
def test_silent_servo_is_named_whatever_is_read(
    arm: ServoArm, wire: FakeWire, read: Callable[[ServoArm], object]
) -> None:
    wire.mangle = silence(3)
    with pytest.raises(StaleState, match=r"got none of \(3,\)") as caught:
        read(arm)
    assert caught.value.missing_ids == (3,)


def test_servo_found_limp_takes_no_goal_until_torque_is_enabled(arm: ServoArm, wire: FakeWire) -> None:
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


def test_arm_that_holds_keeps_its_goals_when_enabled_again(arm: ServoArm, wire: FakeWire) -> None:
    arm.enable_torque()
    wire.set(2, "present_position", 2040)  # it sags
    wire.requests.clear()
    arm.enable_torque()
    assert not [packet for packet in wire.requests if packet.code == SYNC_WRITE]
    assert arm.read_goal()[1] == 0.0


def test_ramps_left_over_from_other_software_are_cleared_with_the_first_goal(arm: ServoArm, wire: FakeWire) -> None:
    for name, value in {"acceleration": 50, "goal_time": 300, "goal_velocity": 100, "torque_enable": 1}.items():
        wire.set(5, name, value)
    wire.set(5, "goal_position", 3000)  # a slow motion under way: without its ramp it would leap
    arm.enable_torque()
    assert wire.tables[5][40:48] == bytes((1, 0, 0, 8, 0, 0, 0, 0))


def test_acceleration_that_was_set_outlives_a_power_cut(arm: ServoArm, wire: FakeWire) -> None:
    arm.set_acceleration(15.34)
    wire.set(2, "acceleration", 0)
    arm.enable_torque()
    assert {table[41] for table in wire.tables.values()} == {100}


def test_servo_without_torque_limit_is_refused(profile: ArmProfile, arm: ServoArm, wire: FakeWire) -> None:
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
        ServoArm(profile, wire.port).connect()
    assert len([p for p in wire.requests if (p.code, p.servo_id) == (READ, 2)]) == 3
