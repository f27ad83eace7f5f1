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

Addressed = tuple[int, Sts3215]  # a servo with the id that it was asked by


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
        asked = [(servo_id, s) for servo_id in params[2:] for s in hearing if s["id"] == servo_id]
        return _read(bank, asked, params[:2])
    if code == SYNC_WRITE and len(params) > 2:
        _sync_write(hearing, params[0], params[1], params[2:])
        bank.drive()
        return []
    broadcast = packet.servo_id == BROADCAST_ID
    servos = [(servo["id"], servo) for servo in hearing if broadcast or servo["id"] == packet.servo_id]
    replies = _single(bank, servos, code, params)
    return [] if broadcast and code != PING else replies


def _single(bank: ServoBank, servos: list[Addressed], code: int, params: bytes) -> list[Reply]:
    if code == PING:
        return [_status(bank, *asked, 0) for asked in servos]
    if code == READ and len(params) == 2:
        bank.measure()
        return _read(bank, servos, params)
    if code == WRITE and len(params) > 1:
        errors: Sequence[int] = [servo.write(params[0], params[1:]) for _, servo in servos]
    elif code == REG_WRITE and len(params) > 1:
        errors = [servo.hold_back(params[0], params[1:]) for _, servo in servos]
    elif code == ACTION:
        errors = [servo.action() or 0 for _, servo in servos]
    else:
        return []
    bank.drive()
    pairs = zip(servos, errors, strict=True)
    return [_status(bank, *asked, error) for asked, error in pairs if asked[1]["response_level"]]


def _read(bank: ServoBank, servos: list[Addressed], span: bytes) -> list[Reply]:
    blocks = [(asked, asked[1].read(span[0], span[1])) for asked in servos]
    return [_status(bank, *asked, 0, block) for asked, block in blocks if block is not None]


def _sync_write(hearing: list[Sts3215], address: int, size: int, data: bytes) -> None:
    for start in range(0, len(data) - size, size + 1):
        for servo in hearing:
            if servo["id"] == data[start]:
                servo.write(address, data[start + 1 : start + 1 + size])


def _status(bank: ServoBank, servo_id: int, servo: Sts3215, error: int, params: bytes = b"") -> Reply:
    """The answer of a servo, under the id that it was asked by: it may have another now.

    The error byte holds what ails the servo, too.
    """
    data = encode(bank.faults.signs_as(servo_id), error | servo.status, params)
    return Reply(data, servo["return_delay"] * REGISTERS["return_delay"].scale)
