"""Feetech protocol 0 (STS series, little endian): packets and the STS3215's registers, for driver and emulator alike.

Instruction: FF FF | id | length | instruction | params | checksum. Status: the same with an error byte in place of the
instruction. length = len(params) + 2; checksum = ~(sum from id on) & FF.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mbrl_core.config import refuse

HEADER = b"\xff\xff"
BROADCAST_ID = 0xFE
LONGEST = 250  # of the length byte

PING, READ, WRITE, REG_WRITE, ACTION, SYNC_READ, SYNC_WRITE = 0x01, 0x02, 0x03, 0x04, 0x05, 0x82, 0x83


class Packet(NamedTuple):
    """A whole packet; `code` is the instruction of a request and the error bits of a status."""

    servo_id: int
    code: int
    params: bytes


class Decoded(NamedTuple):
    """What a stretch of bytes holds.

    Attributes:
      packets: whole packets in order.
      rest: bytes at the end that may become a packet.
      damaged: packets whose checksum is wrong.
      noise: bytes that belong to nothing.
    """

    packets: list[Packet]
    rest: bytes
    damaged: int
    noise: int


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


def sync_read(register: "Register", servo_ids: Sequence[int]) -> bytes:
    """Return the request that makes every servo answer in turn with one register (or block)."""
    return encode(BROADCAST_ID, SYNC_READ, bytes((register.address, register.size, *servo_ids)))


def sync_write(register: "Register", values: Mapping[int, int]) -> bytes:
    """Return the request that writes one register of many servos at once; values are by servo id, nobody answers.

    Raises:
      ValueError: a value that the register cannot hold.
    """
    data = b"".join(bytes((servo_id,)) + register.pack(value) for servo_id, value in values.items())
    return encode(BROADCAST_ID, SYNC_WRITE, bytes((register.address, register.size)) + data)


@dataclass(frozen=True, kw_only=True)
class Register:
    """One entry of the control table.

    Attributes:
      address: of the first byte.
      size: bytes.
      sign_bit: bit that holds the sign of a sign-and-magnitude number; None for unsigned.
      unit: SI unit of value * scale; angles count from the encoder's zero.
      scale: SI per count.
      eeprom: kept when the power goes, if the lock was open when it was written.
      read_only: writes have no effect.
    """

    address: int
    size: int = 1
    sign_bit: int | None = None
    unit: str = ""
    scale: float = 1.0
    eeprom: bool = False
    read_only: bool = False

    def pack(self, value: int) -> bytes:
        """Return the register's bytes for a count.

        Raises:
          ValueError: the count does not fit.
        """
        low, high = 0, (1 << 8 * self.size) - 1
        if self.sign_bit is not None:
            high = (1 << self.sign_bit) - 1
            low = -high
        if not low <= value <= high:
            raise refuse(f"register {self.address}", f"{low} to {high}", value)
        raw = value if value >= 0 else -value | 1 << (self.sign_bit or 0)
        return raw.to_bytes(self.size, "little")

    def unpack(self, data: bytes) -> int:
        """Return the count in the register's bytes."""
        raw = int.from_bytes(data, "little")
        if self.sign_bit is None:
            return raw
        magnitude = raw & (1 << self.sign_bit) - 1
        return -magnitude if raw >> self.sign_bit & 1 else magnitude


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
