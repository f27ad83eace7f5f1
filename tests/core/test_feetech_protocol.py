"""Packets and registers: bytes computed by hand, round trips, resynchronisation."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mbrl_core.robots.feetech_protocol import (
    PING,
    READ,
    REGISTERS,
    SYNC_WRITE,
    WIRE,
    WRITE,
    Packet,
    decode,
    encode,
)

packets = st.builds(Packet, st.integers(0, 0xFD), st.integers(0, 0xFF), st.binary(max_size=30))


def test_ping_bytes() -> None:
    """~(01 + 02 + 01) & FF = FB."""
    assert encode(1, PING) == bytes.fromhex("FF FF 01 02 01 FB")


def test_read_bytes() -> None:
    """Two bytes at 56 = 38h of servo 3: ~(03 + 04 + 02 + 38 + 02) & FF = BC."""
    assert encode(3, READ, bytes((56, 2))) == bytes.fromhex("FF FF 03 04 02 38 02 BC")


def test_write_bytes() -> None:
    """Torque (40 = 28h) of servo 6 on: ~(06 + 04 + 03 + 28 + 01) & FF = C9."""
    assert encode(6, WRITE, bytes((40, 1))) == bytes.fromhex("FF FF 06 04 03 28 01 C9")


def test_sync_read_bytes() -> None:
    """Position of servos 1 and 2: ~(FE + 06 + 82 + 38 + 02 + 01 + 02) & FF = 3C."""
    assert WIRE.sync_read(56, 2, [1, 2]) == bytes.fromhex("FF FF FE 06 82 38 02 01 02 3C")


def test_sync_write_bytes() -> None:
    """Goals 2048 = 0800h and 1000 = 03E8h: ~(FE + 0A + 83 + 2A + 02 + 01 + 00 + 08 + 02 + E8 + 03) & FF = 52."""
    expected = bytes.fromhex("FF FF FE 0A 83 2A 02 01 00 08 02 E8 03 52")
    assert WIRE.sync_write_register(REGISTERS["goal_position"], {1: 2048, 2: 1000}) == expected
    assert decode(expected).packets == [Packet(0xFE, SYNC_WRITE, expected[5:-1])]


@example([Packet(112, 255, bytes.fromhex("637B81A3A5AAB2B7CC"))])  # its checksum is FF: no beginning of a header
@given(st.lists(packets, max_size=5))
def test_packets_come_back_whole(sent: list[Packet]) -> None:
    decoded = decode(b"".join(encode(*packet) for packet in sent))
    assert decoded == (sent, b"", 0, 0)


@given(st.lists(packets, min_size=1, max_size=4), st.data())
def test_decoding_does_not_depend_on_where_the_bytes_are_cut(sent: list[Packet], data: st.DataObject) -> None:
    wire = b"".join(encode(*packet) for packet in sent)
    cut = data.draw(st.integers(0, len(wire)))
    first = decode(wire[:cut])
    second = decode(first.rest + wire[cut:])
    assert first.packets + second.packets == sent
    assert first.damaged + second.damaged == first.noise + second.noise == 0


@given(packets, st.binary(max_size=20).filter(lambda noise: b"\xff" not in noise))
def test_noise_before_a_packet_is_skipped_and_counted(packet: Packet, noise: bytes) -> None:
    decoded = decode(noise + encode(*packet))
    assert decoded.packets == [packet]
    assert decoded.noise == len(noise)


@given(packets, st.integers(2, 40), st.integers(1, 255))
def test_a_flipped_byte_never_yields_the_packet_changed(packet: Packet, index: int, flip: int) -> None:
    wire = bytearray(encode(*packet))
    wire[index % (len(wire) - 2) + 2] ^= flip
    decoded = decode(bytes(wire))
    assert all(len(found.params) < len(packet.params) for found in decoded.packets)


def test_a_truncated_packet_does_not_swallow_the_next() -> None:
    first, second = encode(1, 0, bytes(15)), encode(2, 0, bytes(range(15)))
    decoded = decode(first[:-4] + second)
    assert decoded.packets == [Packet(2, 0, bytes(range(15)))]
    assert decoded.damaged == 1


def test_an_impossible_length_is_noise() -> None:
    """FF FF 01 F0 would wait for 240 bytes; no answer to this request is that long."""
    decoded = decode(bytes.fromhex("FF FF 01 F0") + encode(2, 0, b"\x07"), longest=3)
    assert decoded.packets == [Packet(2, 0, b"\x07")]


@pytest.mark.parametrize(
    ("name", "value", "raw"),
    [
        ("goal_position", 2048, "00 08"),
        ("goal_position", -1, "01 80"),  # sign bit 15
        ("present_load", -300, "2C 05"),  # 300 = 12Ch, sign bit 10 = 400h
        ("homing_offset", -2047, "FF 0F"),  # sign bit 11
        ("torque_limit", 1000, "E8 03"),
    ],
)
def test_register_bytes(name: str, value: int, raw: str) -> None:
    assert REGISTERS[name].pack(value) == bytes.fromhex(raw)
    assert REGISTERS[name].unpack(bytes.fromhex(raw)) == value


@given(st.sampled_from(sorted(REGISTERS)), st.data())
def test_registers_round_trip(name: str, data: st.DataObject) -> None:
    register = REGISTERS[name]
    highest = (1 << (8 * register.size if register.sign_bit is None else register.sign_bit)) - 1
    value = data.draw(st.integers(0 if register.sign_bit is None else -highest, highest))
    assert register.unpack(register.pack(value)) == value


def test_registers_do_not_overlap() -> None:
    spans = sorted((r.address, r.address + r.size) for r in REGISTERS.values())
    assert all(end <= start for (_, end), (start, _) in zip(spans, spans[1:], strict=False))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="register 42: expected -32767 to 32767, got 40000"):
        REGISTERS["goal_position"].pack(40000)
    with pytest.raises(ValueError, match="servo_id: expected 0 to 254, got 255"):
        encode(255, PING)
    with pytest.raises(ValueError, match="params: expected at most 248 bytes, got 249"):
        encode(1, WRITE, bytes(249))
