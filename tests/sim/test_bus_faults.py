"""The switchboard does what it says to single answers, and the bank heeds it."""

import contextlib
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbrl_core.arm import ArmProfile, load_profile
from mbrl_core.robots.errors import StaleState
from mbrl_core.robots.feetech_protocol import decode, encode
from mbrl_core.robots.servo_arm import ServoArm
from mbrl_sim import ASSETS
from mbrl_sim.bus_faults import BusFaults, Reply
from mbrl_sim.emulated_bus import Twin
from mbrl_sim.physics import ArmPhysics
from mbrl_sim.servo_bank import ServoBank
from mbrl_sim.servo_families import family_of

pytestmark = pytest.mark.realtime

ANSWER = Reply(encode(3, 0, b"\x10\x20\x30"), 0.0)


@pytest.fixture
def profile() -> ArmProfile:
    return load_profile(ASSETS / "so101.yaml")


@pytest.fixture
def bank(profile: ArmProfile) -> ServoBank:
    return ServoBank(profile, ArmPhysics(profile), BusFaults(), family_of(profile).make)


def test_nothing_goes_wrong_as_built() -> None:
    faults = BusFaults()
    assert faults.spoil(ANSWER) == [ANSWER]
    assert [faults.signs_as(i) for i in (1, 252)] == [1, 252]


@given(seed=st.integers(0, 1000))
def test_flipped_bit_breaks_the_checksum(seed: int) -> None:
    (reply,) = BusFaults(bad_checksum=1.0, seed=seed).spoil(ANSWER)
    assert len(reply.data) == len(ANSWER.data)
    assert sum((one ^ other).bit_count() for one, other in zip(reply.data, ANSWER.data, strict=True)) == 1
    assert not decode(reply.data).packets


@given(seed=st.integers(0, 1000))
def test_truncated_answer_is_a_beginning(seed: int) -> None:
    (reply,) = BusFaults(truncated=1.0, seed=seed).spoil(ANSWER)
    assert 0 < len(reply.data) < len(ANSWER.data)
    assert ANSWER.data.startswith(reply.data)


@given(seed=st.integers(0, 1000))
def test_noise_comes_before_a_whole_answer(seed: int) -> None:
    (reply,) = BusFaults(noise=1.0, seed=seed).spoil(ANSWER)
    assert 0 < len(reply.data) - len(ANSWER.data) <= 12
    assert reply.data.endswith(ANSWER.data)


def test_rate_is_a_share_of_the_answers() -> None:
    faults = BusFaults(truncated=0.1, seed=3)
    struck = sum(faults.spoil(ANSWER) != [ANSWER] for _ in range(5000))
    assert struck == pytest.approx(500, abs=5 * np.sqrt(5000 * 0.1 * 0.9))


def test_two_servos_with_one_id() -> None:
    assert not decode(BusFaults(duplicated=frozenset({3})).spoil(ANSWER)[0].data).packets
    assert BusFaults(twice=frozenset({3})).spoil(ANSWER) == [ANSWER, ANSWER]
    assert BusFaults(duplicated=frozenset({4}), twice=frozenset({5})).spoil(ANSWER) == [ANSWER]


def test_wrong_id_belongs_to_nobody() -> None:
    faults = BusFaults(wrong_id=1.0)
    assert {faults.signs_as(i) for i in range(1, 13)}.isdisjoint(range(1, 13))


def test_clear_takes_every_fault_away() -> None:
    faults = BusFaults(silent=frozenset({1}), noise=1.0, echo=True, encoder_jump={1: 5}, supply=0.5, seed=4)
    faults.clear()
    assert faults == BusFaults(seed=4)


def test_steady_load_heats_as_measured(bank: ServoBank, monkeypatch: pytest.MonkeyPatch) -> None:
    """48 degrees in the end under 1.5 N m of 2.94."""
    monkeypatch.setattr(ArmPhysics, "load", property(lambda physics: 1.5 / 2.94 * physics.stall_torque))
    bank.servos[0].write(40, b"\x01")
    bank.drive()
    for minute in range(1, 100):
        bank.physics.data.time = 60.0 * minute  # its body need not move
        bank.advance_to(60.0 * minute + 0.01)
    bank.measure()
    assert bank.servos[0]["present_temperature"] == 48


def test_stand_heats_nothing(bank: ServoBank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ArmPhysics, "load", property(lambda physics: physics.stall_torque))
    bank.advance_to(60.0)
    bank.measure()
    assert [servo["present_temperature"] for servo in bank.servos] == [25] * 6


def test_driver_is_never_misled_by_damage_now_and_then(profile: ArmProfile) -> None:
    with Twin(profile, seed=2) as twin:
        arm = ServoArm(profile, twin.port, deadline_s=0.2)
        arm.connect()
        arm.enable_torque()
        twin.faults.bad_checksum = twin.faults.truncated = twin.faults.noise = 0.02
        twin.faults.echo = True
        home = profile.vector("home_rad")
        whole = 0
        for _ in range(100):
            with contextlib.suppress(StaleState):
                arm.write(home)
                np.testing.assert_allclose(arm.read().position, home, atol=0.1)  # never a wrong one
                whole += 1
        assert whole >= 80
        assert arm.errors.retries > 0
        assert arm.errors.echoes > 0
        arm.close()


def test_driver_sees_what_servos_complain_of(profile: ArmProfile) -> None:
    with Twin(profile, seed=2) as twin:
        arm = ServoArm(profile, twin.port, deadline_s=0.2)
        arm.connect()
        twin.faults.overloaded, twin.faults.temperature_c = frozenset({2}), {3: 71.0}
        time.sleep(0.1)
        reading = arm.read()
        assert reading.status.tolist() == [0, 32, 4, 0, 0, 0]
        assert reading.temperature_c[2] == 71.0
        arm.close()
