"""What Feetech STS servos on one wire answer to a request: the instructions of protocol 0.

Not answered, because no source at hand tells what firmware does: recovery and reset (0x06, 0x08, 0x0A).
"""

from collections.abc import Sequence
from typing import cast

from mbrl_core.robots.feetech_protocol import (
    ACTION,
    BROADCAST_ID,
    PING,
    READ,
    REG_WRITE,
    REGISTERS,
    SYNC_READ,
    SYNC_WRITE,
    WRITE,
    Packet,
    encode,
)
from mbrl_sim.bus_faults import Reply
from mbrl_sim.servo_bank import ServoBank
from mbrl_sim.sts3215 import Sts3215


def answer_feetech(bank: ServoBank, packet: Packet, baud: int | None) -> list[Reply]:
    """Do what a request asks.

    Args:
      bank: STS servos.
      packet: the request.
      baud: bits per second that it came at; None = at whatever they listen.

    Returns:
      Status packets in the order in which they leave.
    """
    code, params = packet.code, packet.params
    hearing = cast("list[Sts3215]", bank.hearing(baud))
    if code == SYNC_READ and len(params) > 2:
        bank.measure()
        asked = [servo for servo_id in params[2:] for servo in hearing if servo["id"] == servo_id]
        return _read(bank, asked, params[:2])
    if code == SYNC_WRITE and len(params) > 2:
        _sync_write(hearing, params[0], params[1], params[2:])
        bank.drive()
        return []
    broadcast = packet.servo_id == BROADCAST_ID
    servos = hearing if broadcast else [servo for servo in hearing if servo["id"] == packet.servo_id]
    replies = _single(bank, servos, code, params)
    return [] if broadcast and code != PING else replies


def _single(bank: ServoBank, servos: list[Sts3215], code: int, params: bytes) -> list[Reply]:
    if code == PING:
        return [_status(bank, servo, 0) for servo in servos]
    if code == READ and len(params) == 2:
        bank.measure()
        return _read(bank, servos, params)
    if code == WRITE and len(params) > 1:
        errors: Sequence[int] = [servo.write(params[0], params[1:]) for servo in servos]
    elif code == REG_WRITE and len(params) > 1:
        errors = [servo.hold_back(params[0], params[1:]) for servo in servos]
    elif code == ACTION:
        errors = [servo.action() or 0 for servo in servos]
    else:
        return []
    bank.drive()
    pairs = zip(servos, errors, strict=True)
    return [_status(bank, servo, error) for servo, error in pairs if servo["response_level"]]


def _read(bank: ServoBank, servos: list[Sts3215], span: bytes) -> list[Reply]:
    blocks = [(servo, servo.read(span[0], span[1])) for servo in servos]
    return [_status(bank, servo, 0, block) for servo, block in blocks if block is not None]


def _sync_write(hearing: list[Sts3215], address: int, size: int, data: bytes) -> None:
    for start in range(0, len(data) - size, size + 1):
        for servo in hearing:
            if servo["id"] == data[start]:
                servo.write(address, data[start + 1 : start + 1 + size])


def _status(bank: ServoBank, servo: Sts3215, error: int, params: bytes = b"") -> Reply:
    """The error byte holds what ails the servo, too."""
    servo_id = bank.faults.signs_as(servo["id"])
    data = encode(servo_id, error | servo.status, params)
    return Reply(data, servo["return_delay"] * REGISTERS["return_delay"].scale)
