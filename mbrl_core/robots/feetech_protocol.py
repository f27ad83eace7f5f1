"""Feetech protocol 0 (STS series, little endian): packets and the STS3215's registers, for driver and emulator alike.

Instruction: FF FF | id | length | instruction | params | checksum. Status: the same with an error byte in place of the
instruction. length = len(params) + 2; checksum = ~(sum from id on) & FF.
"""

from collections.abc import Mapping, Sequence

from mbrl_core.config import refuse
from mbrl_core.robots.register import Register
from mbrl_core.robots.wire import Decoded, Packet, Wire

HEADER = b"\xff\xff"
BROADCAST_ID = 0xFE
LONGEST = 250  # of the length byte

PING, READ, WRITE, REG_WRITE, ACTION, SYNC_READ, SYNC_WRITE = 0x01, 0x02, 0x03, 0x04, 0x05, 0x82, 0x83

# Asked for to see whether a servo is there. The protocol's own ping will not do: what a servo that complains of its
# voltage answers to it (error byte 1) is byte for byte the ping, so it would pass for an echo.
PING_AT, PING_SIZE = 3, 4  # model, id, baud rate; nothing else asks for so many bytes


def encode(servo_id: int, code: int, params: bytes = b"") -> bytes:
    """Return the bytes of one packet.

    Raises:
      ValueError: an id above 254 (broadcast), a code above 255 or too many params.
    """
    if not 0 <= servo_id <= BROADCAST_ID:
        raise refuse("servo_id", "0 to 254", servo_id)
    if not 0 <= code <= 0xFF:
        raise refuse("code", "0 to 255", code)
    if len(params) + 2 > LONGEST:
        raise refuse("params", f"at most {LONGEST - 2} bytes", len(params))
    body = bytes((servo_id, len(params) + 2, code)) + params
    return HEADER + body + bytes((~sum(body) & 0xFF,))


def decode(buffer: bytes, *, longest: int = LONGEST) -> Decoded:
    """Find the packets in a stretch of bytes, past noise and damage.

    Args:
      buffer: bytes from the wire; a packet may begin anywhere.
      longest: largest length byte that can be true here; a larger one is noise, so it cannot swallow what follows.
    """
    packets: list[Packet] = []
    damaged = noise = start = 0
    while True:
        head = buffer.find(HEADER, start)
        if head < 0:
            head = len(buffer) - buffer.endswith(b"\xff", start)
            return Decoded(packets, buffer[head:], damaged, noise + head - start)
        noise += head - start
        if len(buffer) < head + 4:
            return Decoded(packets, buffer[head:], damaged, noise)
        servo_id, length = buffer[head + 2], buffer[head + 3]
        end = head + 4 + length
        if servo_id > BROADCAST_ID or not 2 <= length <= longest:
            start, noise = head + 1, noise + 1
        elif end > len(buffer):
            return Decoded(packets, buffer[head:], damaged, noise)
        elif ~sum(buffer[head + 2 : end - 1]) & 0xFF != buffer[end - 1]:
            start, damaged, noise = head + 1, damaged + 1, noise + 1
        else:
            packets.append(Packet(servo_id, buffer[head + 4], buffer[head + 5 : end - 1]))
            start = end


def _sync_read(address: int, size: int, servo_ids: Sequence[int]) -> bytes:
    return encode(BROADCAST_ID, SYNC_READ, bytes((address, size, *servo_ids)))


def _sync_write(address: int, data: Mapping[int, bytes]) -> bytes:
    size = len(next(iter(data.values())))
    return encode(BROADCAST_ID, SYNC_WRITE, bytes((address, size)) + b"".join(bytes((i,)) + data[i] for i in data))


WIRE = Wire(
    overhead=6,
    ping_size=PING_SIZE,
    fence=56,
    ping=lambda servo_id: encode(servo_id, READ, bytes((PING_AT, PING_SIZE))),
    ping_all=encode(BROADCAST_ID, PING),
    ping_all_size=0,
    ping_all_s=0.1,
    read=lambda servo_id, address, size: encode(servo_id, READ, bytes((address, size))),
    write=lambda servo_id, address, data: encode(servo_id, WRITE, bytes((address,)) + data),
    sync_read=_sync_read,
    sync_write=_sync_write,
    decode=lambda buffer, size, _: decode(buffer, longest=size + 2),
)

TURN = 6.283185307179586 / 4096  # rad per encoder count

REGISTERS: dict[str, Register] = {
    "firmware_major": Register(address=0, eeprom=True, read_only=True),
    "firmware_minor": Register(address=1, eeprom=True, read_only=True),
    "model_number": Register(address=3, size=2, eeprom=True, read_only=True),
    "id": Register(address=5, eeprom=True),
    "baud_rate": Register(address=6, eeprom=True),  # 0 is 1 Mbps
    "return_delay": Register(address=7, unit="s", scale=2e-6, eeprom=True),
    "response_level": Register(address=8, eeprom=True),  # 0: only ping and read are answered
    "min_position": Register(address=9, size=2, unit="rad", scale=TURN, eeprom=True),
    "max_position": Register(address=11, size=2, unit="rad", scale=TURN, eeprom=True),
    "max_temperature": Register(address=13, unit="degC", eeprom=True),
    "max_voltage": Register(address=14, unit="V", scale=0.1, eeprom=True),
    "min_voltage": Register(address=15, unit="V", scale=0.1, eeprom=True),
    "max_torque": Register(address=16, size=2, scale=1e-3, eeprom=True),
    "phase": Register(address=18, eeprom=True),
    "unload_condition": Register(address=19, eeprom=True),
    "p_coefficient": Register(address=21, eeprom=True),
    "d_coefficient": Register(address=22, eeprom=True),
    "i_coefficient": Register(address=23, eeprom=True),
    "protection_current": Register(address=28, size=2, unit="A", scale=6.5e-3, eeprom=True),
    "homing_offset": Register(address=31, size=2, sign_bit=11, unit="rad", scale=TURN, eeprom=True),
    "operating_mode": Register(address=33, eeprom=True),  # 0 is position
    "protective_torque": Register(address=34, eeprom=True),
    "protection_time": Register(address=35, eeprom=True),
    "overload_torque": Register(address=36, eeprom=True),
    "torque_enable": Register(address=40),
    "acceleration": Register(address=41, unit="rad/s^2", scale=100 * TURN),  # 0: no ramp
    "goal_position": Register(address=42, size=2, sign_bit=15, unit="rad", scale=TURN),
    "goal_time": Register(address=44, size=2),
    "goal_velocity": Register(address=46, size=2, sign_bit=15, unit="rad/s", scale=TURN),
    "torque_limit": Register(address=48, size=2, scale=1e-3),
    "lock": Register(address=55),
    "present_position": Register(address=56, size=2, sign_bit=15, unit="rad", scale=TURN, read_only=True),
    "present_velocity": Register(address=58, size=2, sign_bit=15, unit="rad/s", scale=TURN, read_only=True),
    "present_load": Register(address=60, size=2, sign_bit=10, scale=1e-3, read_only=True),
    "present_voltage": Register(address=62, unit="V", scale=0.1, read_only=True),
    "present_temperature": Register(address=63, unit="degC", read_only=True),
    "status": Register(address=65, read_only=True),
    "moving": Register(address=66, read_only=True),
    "present_current": Register(address=69, size=2, sign_bit=15, unit="A", scale=6.5e-3, read_only=True),
}

PRESENT = Register(address=56, size=15, read_only=True)  # everything present_*, status and moving, in one block
IDENTITY = Register(address=3, size=31, eeprom=True)  # model_number to operating_mode
