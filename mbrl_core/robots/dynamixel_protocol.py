"""Dynamixel protocol 2.0: packets, for driver and emulator alike. ROBOTIS e-Manual, "DYNAMIXEL Protocol 2.0".

Instruction: FF FF FD 00 | id | length (2) | instruction | params | CRC (2). Status: instruction 0x55, then an error
byte before the params. length = what follows it. Where the body holds FF FF FD, another FD is stuffed in after it.
A fast sync read is answered by one status packet with the broadcast id, in which every servo leaves error, id, data
and CRC; decoded, it is one packet for each servo.
"""

from collections.abc import Mapping

from mbrl_core.config import refuse
from mbrl_core.robots.wire import Decoded, Packet, Wire

HEADER = b"\xff\xff\xfd\x00"
BROADCAST_ID = 0xFE
HIGHEST_ID = 252
LONGEST = 1024  # of the length field
STATUS = 0x55
ALERT = 0x80  # in the error byte: the register of hardware errors says why
PING, READ, WRITE, REG_WRITE, ACTION, FACTORY_RESET, REBOOT, CLEAR = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x08, 0x10
SYNC_READ, SYNC_WRITE, FAST_SYNC_READ = 0x82, 0x83, 0x8A
BULK_READ, BULK_WRITE, FAST_BULK_READ = 0x92, 0x93, 0x9A
RESULT_FAIL, INSTRUCTION, CHECKSUM, RANGE, LENGTH, LIMIT, ACCESS = range(1, 8)  # in the error byte

_STUFFED = b"\xff\xff\xfd"


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x8005) & 0xFFFF if crc & 0x8000 else crc << 1 & 0xFFFF
        table.append(crc)
    return tuple(table)


_CRC = _crc_table()


def crc16(data: bytes, crc: int = 0) -> int:
    """CRC-16 with polynomial 0x8005, as the packets end with; begins with `crc`."""
    for byte in data:
        crc = (crc << 8 & 0xFFFF) ^ _CRC[crc >> 8 ^ byte]
    return crc


def encode(servo_id: int, instruction: int, params: bytes = b"") -> bytes:
    """Return the bytes of one instruction packet.

    Raises:
      ValueError: an id above 254 (broadcast), an instruction above 255 or too many params.
    """
    if not 0 <= servo_id <= BROADCAST_ID:
        raise refuse("servo_id", "0 to 254", servo_id)
    if not 0 <= instruction <= 0xFF:
        raise refuse("instruction", "0 to 255", instruction)
    body = (bytes((instruction,)) + params).replace(_STUFFED, _STUFFED + b"\xfd")
    if len(body) + 2 > LONGEST:
        raise refuse("params", f"at most {LONGEST - 3} bytes", len(params))
    packet = HEADER + bytes((servo_id,)) + (len(body) + 2).to_bytes(2, "little") + body
    return packet + crc16(packet).to_bytes(2, "little")


def decode(buffer: bytes, *, longest: int = LONGEST, fast_size: int = 0) -> Decoded:
    """Find the packets in a stretch of bytes, past noise and damage.

    Args:
      buffer: bytes from the wire; a packet may begin anywhere.
      longest: largest length field that can be true here; a larger one is noise, so it cannot swallow what follows.
      fast_size: data of each servo in the answer to a fast sync read; 0 = such an answer is noise.
    """
    packets: list[Packet] = []
    damaged = noise = start = 0
    while True:
        head = buffer.find(HEADER, start)
        if head < 0:
            head = len(buffer) - _begun(buffer[start:])
            return Decoded(packets, buffer[head:], damaged, noise + head - start)
        noise += head - start
        if len(buffer) < head + 7:
            return Decoded(packets, buffer[head:], damaged, noise)
        length = int.from_bytes(buffer[head + 5 : head + 7], "little")
        end = head + 7 + length
        if buffer[head + 4] > BROADCAST_ID or not 3 <= length <= longest:
            start, noise = head + 1, noise + 1
        elif end > len(buffer):
            return Decoded(packets, buffer[head:], damaged, noise)
        elif crc16(buffer[head : end - 2]) != int.from_bytes(buffer[end - 2 : end], "little"):
            start, damaged, noise = head + 1, damaged + 1, noise + 1
        else:
            packets += _packets(buffer[head + 4], buffer[head + 7 : end - 2], fast_size)
            start = end


def _begun(tail: bytes) -> int:
    """How many bytes at the end may be the beginning of a header."""
    return next((count for count in (3, 2, 1) if tail.endswith(HEADER[:count])), 0)


def _packets(servo_id: int, body: bytes, fast_size: int) -> list[Packet]:
    if body[0] != STATUS:
        body = body.replace(_STUFFED + b"\xfd", _STUFFED)
        return [Packet(servo_id, body[0], body[1:])]
    if servo_id == BROADCAST_ID:
        starts = range(1, len(body), fast_size + 4) if fast_size else ()
        parts = [body[start : start + fast_size + 2] for start in starts]
        return [Packet(part[1], part[0], part[2:]) for part in parts if len(part) == fast_size + 2]
    body = body.replace(_STUFFED + b"\xfd", _STUFFED)
    return [Packet(servo_id, body[1], body[2:])] if len(body) > 1 else []


def _span(address: int, size: int) -> bytes:
    return address.to_bytes(2, "little") + size.to_bytes(2, "little")


def _sync_write(address: int, data: Mapping[int, bytes]) -> bytes:
    size = len(next(iter(data.values())))
    return encode(BROADCAST_ID, SYNC_WRITE, _span(address, size) + b"".join(bytes((i,)) + data[i] for i in data))


def _wire(sync_read: int) -> Wire:
    fast = sync_read == FAST_SYNC_READ
    return Wire(
        overhead=5 if fast else 11,  # a fast answer has 8 bytes in all, and 4 for each servo
        ping_size=3,
        fence=126,
        ping=lambda servo_id: encode(servo_id, PING),
        ping_all=encode(BROADCAST_ID, PING),
        ping_all_size=3,
        ping_all_s=0.8,  # 3 ms for each id
        read=lambda servo_id, address, size: encode(servo_id, READ, _span(address, size)),
        write=lambda servo_id, address, data: encode(servo_id, WRITE, address.to_bytes(2, "little") + data),
        sync_read=lambda address, size, ids: encode(BROADCAST_ID, sync_read, _span(address, size) + bytes(ids)),
        sync_write=_sync_write,
        decode=lambda buffer, size, count: decode(
            buffer, longest=max(count if fast else 1, 1) * (size + 4) + size // 3 + 4, fast_size=size if fast else 0
        ),
    )


WIRE = _wire(SYNC_READ)
FAST_WIRE = _wire(FAST_SYNC_READ)  # for firmware that has the instruction
