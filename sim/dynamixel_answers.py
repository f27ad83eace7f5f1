"""What Dynamixel X servos on one wire answer to a request: the instructions of protocol 2.0.

In a sync or bulk read a servo behind a silent one answers all the same. In their fast forms, where all servos share one
status packet, the packet breaks off before the first silent one. A request that is damaged is not answered.
"""

from collections.abc import Sequence
from typing import cast

from mbrl_core.robots.dynamixel_protocol import (
    ACTION,
    BROADCAST_ID,
    BULK_READ,
    BULK_WRITE,
    CLEAR,
    FACTORY_RESET,
    FAST_BULK_READ,
    FAST_SYNC_READ,
    HEADER,
    LONGEST,
    PING,
    READ,
    REBOOT,
    REG_WRITE,
    STATUS,
    SYNC_READ,
    SYNC_WRITE,
    WRITE,
    Packet,
    crc16,
    encode,
)
from mbrl_sim.bus_faults import Reply
from mbrl_sim.dynamixel_x import INSTRUCTION, DynamixelX
from mbrl_sim.servo_bank import ServoBank

ID_AT = 4  # place of the id in a packet
DELAY_S = 2e-6  # one count of the return delay
READS, EVERYTHING = 1, 2  # status return levels
EVERY_ID = 0xFF
Span = tuple[int, int, int]  # id, address, size


def answer_dynamixel(bank: ServoBank, packet: Packet, baud: int | None) -> list[Reply]:
    """Do what a request asks.

    Args:
      bank: X servos.
      packet: the request.
      baud: bits per second that it came at; None = at whatever they listen.

    Returns:
      Status packets in the order in which they leave.
    """
    hearing = cast("list[DynamixelX]", bank.hearing(baud))
    if packet.code == STATUS:
        return []
    for servo in hearing:
        servo.heard()
    code, params = packet.code, packet.params
    if code in (SYNC_READ, FAST_SYNC_READ, BULK_READ, FAST_BULK_READ):
        bank.measure()
        spans = _sync_spans(params) if code in (SYNC_READ, FAST_SYNC_READ) else _bulk_spans(params)
        return (_fast_read if code in (FAST_SYNC_READ, FAST_BULK_READ) else _read)(bank, hearing, spans)
    if code in (SYNC_WRITE, BULK_WRITE):
        _write(hearing, _sync_data(params) if code == SYNC_WRITE else _bulk_data(params))
        bank.drive()
        return []
    broadcast = packet.servo_id == BROADCAST_ID
    replies = []
    for servo in hearing:
        if broadcast or servo.servo_id == packet.servo_id:
            replies += _single(bank, servo, code, params, broadcast)
    bank.drive()
    return replies if code == PING or not broadcast else []


def _single(bank: ServoBank, servo: DynamixelX, code: int, params: bytes, broadcast: bool) -> list[Reply]:
    servo_id, level = servo.servo_id, servo["Status Return Level"]
    if code == PING:
        model = servo["Model Number"].to_bytes(2, "little")
        return [_status(bank, servo, servo_id, 0, model + bytes((servo["Firmware Version"],)))]
    if code == READ and len(params) == 4:
        bank.measure()
        error, data = servo.read(_word(params, 0), _word(params, 2))
        return [_status(bank, servo, servo_id, error, data)] if level >= READS else []
    error = _change(bank, servo, code, params, broadcast)
    return [_status(bank, servo, servo_id, error)] if level >= EVERYTHING else []


def _change(bank: ServoBank, servo: DynamixelX, code: int, params: bytes, broadcast: bool) -> int:
    """Carry out an instruction that changes something; return the error of the answer."""
    if code == WRITE and len(params) > 2:
        return servo.write(_word(params, 0), params[2:])
    if code == REG_WRITE and len(params) > 2:
        return servo.hold_back(_word(params, 0), params[2:])
    if code == ACTION:
        return servo.action()
    if code == REBOOT:
        bank.restart(servo)
        return 0
    if code == CLEAR:
        return servo.clear(params, bank.count_of(servo))
    if code == FACTORY_RESET and len(params) == 1 and not (broadcast and params[0] == EVERY_ID):
        return servo.reset(params[0], bank.count_of(servo))
    return INSTRUCTION


def _read(bank: ServoBank, hearing: list[DynamixelX], spans: Sequence[Span]) -> list[Reply]:
    replies = []
    for servo_id, address, size in spans:
        for servo in _named(hearing, servo_id):
            if servo["Status Return Level"] >= READS:
                replies.append(_status(bank, servo, servo_id, *servo.read(address, size)))
    return replies


def _fast_read(bank: ServoBank, hearing: list[DynamixelX], spans: Sequence[Span]) -> list[Reply]:
    """One status packet for all: error, id, data and the checksum so far of each servo, without byte stuffing."""
    length = 1 + sum(size + 4 for _, _, size in spans)
    if length > LONGEST:
        return []
    data, delay_s = HEADER + bytes((BROADCAST_ID, length & 0xFF, length >> 8, STATUS)), 0.0
    for servo_id, address, size in spans:
        servo = next(iter(_named(hearing, servo_id)), None)
        if servo is None or servo["Status Return Level"] < READS:
            break
        error, block = servo.read(address, size)
        data += bytes((error | servo.alert, bank.faults.signs_as(servo_id))) + block.ljust(size, b"\0")
        data += crc16(data).to_bytes(2, "little")
        delay_s = max(delay_s, servo["Return Delay Time"] * DELAY_S)
    return [Reply(data, delay_s, ID_AT)] if len(data) > len(HEADER) + 4 else []


def _write(hearing: list[DynamixelX], writes: Sequence[tuple[int, int, bytes]]) -> None:
    for servo_id, address, data in writes:
        for servo in _named(hearing, servo_id):
            servo.write(address, data)


def _named(hearing: list[DynamixelX], servo_id: int) -> list[DynamixelX]:
    return [servo for servo in hearing if servo.servo_id == servo_id]


def _status(bank: ServoBank, servo: DynamixelX, servo_id: int, error: int, data: bytes = b"") -> Reply:
    """The answer of a servo, under the id that it was asked by: it may have another now."""
    packet = encode(bank.faults.signs_as(servo_id), STATUS, bytes((error | servo.alert,)) + data)
    return Reply(packet, servo["Return Delay Time"] * DELAY_S, ID_AT)


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "little")


def _sync_spans(params: bytes) -> list[Span]:
    return [(servo_id, _word(params, 0), _word(params, 2)) for servo_id in params[4:]]


def _bulk_spans(params: bytes) -> list[Span]:
    return [(params[at], _word(params, at + 1), _word(params, at + 3)) for at in range(0, len(params) - 4, 5)]


def _sync_data(params: bytes) -> list[tuple[int, int, bytes]]:
    address, size = _word(params, 0), _word(params, 2)
    starts = range(4, len(params) - size, size + 1)
    return [(params[at], address, params[at + 1 : at + 1 + size]) for at in starts]


def _bulk_data(params: bytes) -> list[tuple[int, int, bytes]]:
    found, at = [], 0
    while at + 5 <= len(params):
        size = _word(params, at + 3)
        found.append((params[at], _word(params, at + 1), params[at + 5 : at + 5 + size]))
        at += 5 + size
    return found
