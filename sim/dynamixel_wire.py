"""Dynamixel protocol 2.0 as the emulated servos speak it.

FF FF FD 00 | id | length (2) | instruction | params | CRC-16 (2), little endian; length counts from the instruction on.
A status packet has instruction 55 and the error as its first param. Inside instruction and params, FF FF FD is followed
by one more FD. The CRC has polynomial 0x8005, starts at 0 and covers all that is before it.
"""

from typing import NamedTuple

HEADER = b"\xff\xff\xfd\x00"
BARE, STUFFED = b"\xff\xff\xfd", b"\xff\xff\xfd\xfd"
LONGEST = 1024  # of the length field
BROADCAST_ID = 0xFE
PING, READ, WRITE, REG_WRITE, ACTION, FACTORY_RESET, REBOOT, CLEAR = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x08, 0x10
STATUS, SYNC_READ, SYNC_WRITE, FAST_SYNC_READ = 0x55, 0x82, 0x83, 0x8A
BULK_READ, BULK_WRITE, FAST_BULK_READ = 0x92, 0x93, 0x9A


class Packet(NamedTuple):
    """A whole packet."""

    servo_id: int
    code: int
    params: bytes


class Decoded(NamedTuple):
    """Whole packets in order, and the bytes at the end that may become one."""

    packets: list[Packet]
    rest: bytes


def _crc_of(byte: int) -> int:
    crc = byte << 8
    for _ in range(8):
        crc = (crc << 1 ^ 0x8005 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


_CRC = [_crc_of(byte) for byte in range(256)]


def crc16(data: bytes, crc: int = 0) -> int:
    """Return the checksum of bytes, or carry one on."""
    for byte in data:
        crc = (crc << 8 & 0xFFFF) ^ _CRC[crc >> 8 ^ byte]
    return crc


def encode(servo_id: int, code: int, params: bytes = b"") -> bytes:
    """Return the bytes of one packet."""
    body = (bytes((code,)) + params).replace(BARE, STUFFED)
    data = HEADER + bytes((servo_id,)) + (len(body) + 2).to_bytes(2, "little") + body
    return data + crc16(data).to_bytes(2, "little")


def decode(buffer: bytes) -> Decoded:
    """Find the packets in a stretch of bytes, past noise and damage."""
    packets: list[Packet] = []
    start = 0
    while True:
        head = buffer.find(HEADER, start)
        if head < 0:
            kept = next(count for count in (3, 2, 1, 0) if buffer.endswith(HEADER[:count], start))
            return Decoded(packets, buffer[len(buffer) - kept :])
        end = head + 7 + int.from_bytes(buffer[head + 5 : head + 7], "little")
        if not head + 10 <= end <= head + 7 + LONGEST and len(buffer) >= head + 7:
            start = head + 1
        elif end > len(buffer) or len(buffer) < head + 7:
            return Decoded(packets, buffer[head:])
        elif crc16(buffer[head : end - 2]) != int.from_bytes(buffer[end - 2 : end], "little"):
            start = head + 1
        else:
            body = buffer[head + 7 : end - 2].replace(STUFFED, BARE)
            packets.append(Packet(buffer[head + 4], body[0], body[1:]))
            start = end
