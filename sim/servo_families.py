"""The families of servos that an emulated bus can speak for, by the profile's `bus.protocol`."""

from collections.abc import Callable
from typing import Any, NamedTuple

from mbrl_core.arm import ArmProfile, Joint
from mbrl_core.config import refuse
from mbrl_core.robots import dynamixel_protocol, feetech_protocol
from mbrl_core.robots.dynamixel_table import vendor_table
from mbrl_sim import dynamixel_x, sts3215
from mbrl_sim.bus_faults import Reply
from mbrl_sim.dynamixel_answers import answer_dynamixel
from mbrl_sim.dynamixel_x import DynamixelX
from mbrl_sim.feetech_answers import answer_feetech
from mbrl_sim.servo_bank import BusServo, ServoBank
from mbrl_sim.sts3215 import Sts3215


class ServoFamily(NamedTuple):
    """One family.

    Attributes:
      make: a servo for a joint, at an encoder count.
      decode: find the packets in a stretch of bytes.
      answer: do what a packet asks, at a baud rate, and return the answers.
    """

    make: Callable[[Joint, int], BusServo]
    decode: Callable[[bytes], Any]
    answer: Callable[[ServoBank, Any, int | None], list[Reply]]


def family_of(profile: ArmProfile) -> ServoFamily:
    """Return the family of a profile's servos.

    Raises:
      ValueError: there is no bus, or no servo of this family listens at the profile's baud rate.
    """
    if profile.bus.protocol == "feetech_sts":
        return _feetech(profile)
    if profile.bus.protocol == "dynamixel_x":
        return _dynamixel(profile)
    raise refuse("bus.protocol", "a servo family with an emulated bus", profile.bus.protocol)


def _feetech(profile: ArmProfile) -> ServoFamily:
    baud_rate = _setting(sts3215.BAUDS, profile.bus.baud)

    def make(joint: Joint, position: int) -> BusServo:
        return Sts3215(joint.servo_id, profile.servo_of(joint).model_number, position, baud_rate=baud_rate)

    return ServoFamily(make, feetech_protocol.decode, answer_feetech)


def _dynamixel(profile: ArmProfile) -> ServoFamily:
    baud_rate = _setting(dynamixel_x.BAUDS, profile.bus.baud)

    def make(joint: Joint, position: int) -> BusServo:
        model = profile.servo_of(joint).model_number
        table = vendor_table(model)
        return DynamixelX(joint.servo_id, model, table, position, baud_rate=baud_rate)

    return ServoFamily(make, dynamixel_protocol.decode, answer_dynamixel)


def _setting(bauds: tuple[int, ...], baud: int) -> int:
    """Return the value of the baud rate register."""
    if baud not in bauds:
        raise refuse("bus.baud", f"one of {sorted(bauds)}", baud)
    return bauds.index(baud)
