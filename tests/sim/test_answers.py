"""No request, however odd, breaks the emulated servos: what they cannot make sense of they refuse or leave."""

import dataclasses
import importlib.util

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbrl_core.arm import ArmProfile, Bus, load_profile
from mbrl_core.robots import dynamixel_protocol, feetech_protocol
from mbrl_sim import ASSETS
from mbrl_sim.bus_faults import BusFaults
from mbrl_sim.physics import ArmPhysics
from mbrl_sim.servo_bank import ServoBank
from mbrl_sim.servo_families import family_of

FEETECH = load_profile(ASSETS / "so101.yaml")
XL430 = tuple(dataclasses.replace(servo, model_number=1060) for servo in FEETECH.servos)
DYNAMIXEL = dataclasses.replace(FEETECH, bus=Bus(protocol="dynamixel_x"), servos=XL430)
IDS = st.sampled_from([1, 2, 6, 77, 0xFE])
FAST = (0x8A, 0x9A)  # whose packet breaks off before a servo that is not there
CODES = st.sampled_from([*range(1, 9), 0x10, 0x55, 0x82, 0x83, 0x8A, 0x92, 0x93, 0x9A])
PARAMS = st.lists(st.one_of(st.sampled_from([0, 1, 2, 40, 64, 98, 116, 0xFF]), st.integers(0, 255)), max_size=24)
REQUESTS = st.lists(st.tuples(IDS, CODES, PARAMS.map(bytes)), max_size=12)


def outlast(profile: ArmProfile, wire: object, requests: list[tuple[int, int, bytes]]) -> None:
    family = family_of(profile)
    bank = ServoBank(profile, ArmPhysics(profile), BusFaults(), family.make)
    for index, request in enumerate(requests):
        for reply in family.answer(bank, wire.Packet(*request), None):
            decoded = wire.decode(reply.data)
            assert request[1] in FAST or (len(decoded.packets), decoded.rest) == (1, b"")
            assert reply.delay_s >= 0.0
        bank.advance_to(0.02 * (index + 1))


@settings(deadline=None, max_examples=60)
@given(requests=REQUESTS)
def test_feetech(requests: list[tuple[int, int, bytes]]) -> None:
    outlast(FEETECH, feetech_protocol, requests)


@pytest.mark.skipif(importlib.util.find_spec("dynamixel_easy_sdk") is None, reason="dynamixel-sdk is not installed")
@settings(deadline=None, max_examples=60)
@given(requests=REQUESTS)
def test_dynamixel(requests: list[tuple[int, int, bytes]]) -> None:
    outlast(DYNAMIXEL, dynamixel_protocol, requests)
