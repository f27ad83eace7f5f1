"""What we put on the wire, byte for byte what ROBOTIS' own library puts there; and what we find on a bad one."""

import importlib.util

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbrl_core.robots.dynamixel_protocol import (
    ACTION,
    ALERT,
    BROADCAST_ID,
    FAST_WIRE,
    REBOOT,
    STATUS,
    WIRE,
    crc16,
    decode,
    encode,
)
from mbrl_core.robots.dynamixel_table import registers
from mbrl_core.robots.wire import Packet

IDS = [1, 2, 7]
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("dynamixel_sdk") is None, reason="dynamixel-sdk is not installed"
)


class RecordingPort:
    """A port of the vendor's library that keeps what is written."""

    is_using = False

    def __init__(self):
        self.sent = b""

    def clearPort(self):  # noqa: N802 (the vendor's names)
        self.sent = b""

    def writePort(self, packet):  # noqa: N802
        self.sent += bytes(packet)
        return len(packet)

    def setPacketTimeout(self, *_):  # noqa: N802
        pass

    def setPacketTimeoutMillis(self, *_):  # noqa: N802
        pass


@pytest.fixture
def vendor():
    import dynamixel_sdk

    return dynamixel_sdk.PacketHandler(2.0), RecordingPort()


def test_single_requests_are_the_vendors(vendor):
    handler, port = vendor
    handler.writeTxOnly(port, 5, 116, 4, [0x00, 0x08, 0x00, 0x00])
    assert port.sent == WIRE.write(5, 116, (2048).to_bytes(4, "little"))
    handler.readTx(port, 5, 132, 4)
    assert port.sent == WIRE.read(5, 132, 4)
    port.is_using = False
    handler.action(port, BROADCAST_ID)
    assert port.sent == encode(BROADCAST_ID, ACTION)
    port.is_using = False
    handler.txPacket(port, [0, 0, 0, 0, 3, 3, 0, REBOOT, 0, 0])
    assert port.sent == encode(3, REBOOT)


def test_group_requests_are_the_vendors(vendor):
    import dynamixel_sdk

    handler, port = vendor
    reader = dynamixel_sdk.GroupSyncRead(port, handler, 124, 23)
    for servo_id in IDS:
        reader.addParam(servo_id)
    reader.txPacket()
    assert port.sent == WIRE.sync_read(124, 23, IDS)
    port.is_using = False
    reader.fastSyncReadTxPacket()
    assert port.sent == FAST_WIRE.sync_read(124, 23, IDS)
    writer = dynamixel_sdk.GroupSyncWrite(port, handler, 116, 4)
    values = {servo_id: 2000 + servo_id for servo_id in IDS}
    for servo_id, value in values.items():
        writer.addParam(servo_id, list(value.to_bytes(4, "little")))
    port.is_using = False
    writer.txPacket()
    assert port.sent == WIRE.sync_write_register(registers(1200)["goal_position"], values)


def test_bytes_that_look_like_a_header_are_stuffed_as_the_vendor_does(vendor):
    """By its function: what it sends through `txPacket` is not stuffed in version 4.1.0, which drops the result."""
    handler, _ = vendor
    data = bytes.fromhex("FFFFFD00FFFFFDFD")
    request = WIRE.write(9, 200, data)
    plain = [0xFF, 0xFF, 0xFD, 0, 9, len(data) + 5, 0, 0x03, 200, 0, *data, 0, 0]
    assert bytes(handler.addStuffing(plain))[:-2] == request[:-2]
    assert decode(request).packets == [Packet(9, 0x03, (200).to_bytes(2, "little") + data)]


def status(servo_id, error, data=b""):
    return encode(servo_id, STATUS, bytes((error,)) + data)


@given(st.binary(max_size=40), st.binary(max_size=12))
def test_answers_are_found_past_noise_and_damage(data, noise):
    noise = noise.replace(b"\xff", b"\x00")
    damaged = bytearray(status(3, 0, b"\x01\x02\x03\x04"))
    damaged[-1] ^= 0x5A
    found = decode(noise + bytes(damaged) + status(3, ALERT, data) + noise)
    assert found.packets == [Packet(3, ALERT, data)]
    assert found.damaged == 1


def test_a_fast_answer_is_one_packet_for_each_servo():
    answers = [(0, 1, b"\x10\x00"), (ALERT, 2, b"\x20\x00")]
    length = sum(len(data) + 4 for _, _, data in answers) + 1
    whole = b"\xff\xff\xfd\x00\xfe" + length.to_bytes(2, "little") + bytes((STATUS,))
    for error, servo_id, data in answers:
        whole += bytes((error, servo_id)) + data
        whole += crc16(whole).to_bytes(2, "little")
    assert FAST_WIRE.decode(whole, 2, 2).packets == [Packet(1, 0, b"\x10\x00"), Packet(2, ALERT, b"\x20\x00")]
    assert FAST_WIRE.decode(whole[:-1], 2, 2).packets == []
    assert WIRE.decode(whole, 2, 2).packets == []


def test_a_length_that_cannot_be_true_swallows_nothing():
    wild = b"\xff\xff\xfd\x00\x03\xff\x03\x55"
    assert WIRE.decode(wild + status(3, 0, b"\x01\x02"), 2, 1).packets == [Packet(3, 0, b"\x01\x02")]


def test_the_small_models_count_current_in_milliamperes_and_the_large_ones_in_2_69():
    assert registers(1200)["present_current"].scale == pytest.approx(1e-3)
    assert registers(1020)["present_current"].scale == pytest.approx(2.69e-3)
    assert "present_current" not in registers(1060)
    assert registers(1060)["goal_position"].unpack(registers(1060)["goal_position"].pack(-3)) == -3
    with pytest.raises(ValueError, match="model_number: expected a Dynamixel of .*, got 9999"):
        registers(9999)
