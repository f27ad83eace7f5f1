"""The emulated Dynamixel keeps the rules of its control table; its wire carries any bytes."""

import importlib.util

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbrl_core.robots.dynamixel_protocol import Packet, crc16, decode, encode
from mbrl_sim.dynamixel_x import ACCESS, ALERT, DATA_LENGTH, DATA_LIMIT, DATA_RANGE, RESULT_FAIL, DynamixelX
from mbrl_sim.servo_bank import Measured, Strain

CALM = Strain(1500, 0.0, 12.0, 25.0, overloaded=False)
needs_tables = pytest.mark.skipif(
    importlib.util.find_spec("dynamixel_easy_sdk") is None, reason="dynamixel-sdk is not installed"
)


@pytest.fixture
def servo() -> DynamixelX:
    from mbrl_core.robots.dynamixel_table import vendor_table

    return DynamixelX(3, 1060, vendor_table(1060), 1500, baud_rate=3)


def write(servo: DynamixelX, name: str, value: int) -> int:
    address, size = servo.table[name]
    return servo.write(address, (value % (1 << 8 * size)).to_bytes(size, "little"))


@given(params=st.lists(st.sampled_from([0xFF, 0xFD, 0x00, 0x42])).map(bytes), servo_id=st.integers(0, 254))
def test_any_bytes_go_over_the_wire_and_come_back(params: bytes, servo_id: int) -> None:
    data = encode(servo_id, 0x03, params)
    assert decode(data)[:2] == ([Packet(servo_id, 0x03, params)], b"")
    assert data[4:].find(b"\xff\xff\xfd\x00") < 0  # nothing inside looks like a header


@given(data=st.data())
def test_packets_are_found_in_pieces_and_past_noise(data: st.DataObject) -> None:
    sent = [Packet(i, 0x02, bytes((132, 0, 4, 0))) for i in (1, 2)]
    noise = data.draw(st.lists(st.sampled_from([0xFF, 0xFD, 0x00, 0x07]), max_size=5).map(bytes))
    stream = noise.replace(b"\xff\xff\xfd\x00", b"") + b"".join(encode(*packet) for packet in sent)
    cut = data.draw(st.integers(0, len(stream)))
    first = decode(stream[:cut])
    second = decode(first.rest + stream[cut:])
    assert first.packets + second.packets == sent
    assert second.rest == b""


def test_checksum_of_the_vendors_example() -> None:
    """The ping of servo 1 in ROBOTIS' description of the protocol."""
    assert encode(1, 0x01) == bytes.fromhex("FF FF FD 00 01 03 00 01 19 4E")
    assert crc16(b"") == 0


@needs_tables
def test_powers_up_limp_with_its_goal_where_it_stands(servo: DynamixelX) -> None:
    assert (servo["ID"], servo["Model Number"], servo.baud) == (3, 1060, 1_000_000)
    assert (servo.torque_enabled, servo["Goal Position"], servo.goal) == (False, 1500, 1500)


@needs_tables
def test_a_write_is_carried_out_whole_or_not_at_all(servo: DynamixelX) -> None:
    """Profile acceleration, profile velocity and goal position in one stretch from 108."""
    values = [10, 20, 4096]
    data = b"".join(value.to_bytes(4, "little") for value in values)
    assert servo.write(108, data) == DATA_LIMIT
    assert servo["Profile Velocity"] == 0
    assert servo.write(108, data[:8] + (1600).to_bytes(4, "little")) == 0
    assert (servo["Profile Velocity"], servo.goal) == (20, 1600)


@needs_tables
@pytest.mark.parametrize(
    "address, data, error",
    [
        (132, b"\0\0\0\0", ACCESS),
        (116, b"\0\0", DATA_LENGTH),
        (117, b"\0\0\0", DATA_LENGTH),
        (64, b"\2", DATA_RANGE),
        (100, b"\xff\x7f", DATA_LIMIT),
        (9, b"\xff", DATA_RANGE),
        (5000, b"\0", ACCESS),
    ],
)
def test_objections(servo: DynamixelX, address: int, data: bytes, error: int) -> None:
    before = bytes(servo.memory)
    assert servo.write(address, data) == error
    assert servo.hold_back(address, data) == error
    assert bytes(servo.memory) == before


@needs_tables
def test_homing_offset_is_added_to_what_is_reported_and_taken_from_what_is_meant(servo: DynamixelX) -> None:
    write(servo, "Homing Offset", -300)
    servo.measure(Measured(1500, 0.0, 0.0, 0.0, 12.0, 25.0))
    assert servo["Present Position"] == 1200
    write(servo, "Goal Position", 1200)
    assert servo.goal == 1500


@needs_tables
def test_present_block(servo: DynamixelX) -> None:
    servo.measure(Measured(1490, -0.24, -0.3, -0.5, 12.0, 31.0))
    names = ("Present Position", "Present Velocity", "Present Load", "Present Input Voltage", "Present Temperature")
    assert [servo[name] for name in names] == [1490, -10, -300, 120, 31]


@needs_tables
def test_full_drive_for_a_second_shuts_down_until_a_reboot(servo: DynamixelX) -> None:
    write(servo, "Torque Enable", 1)
    strain = CALM._replace(drive=1.0)
    assert not any(servo.look_after(strain, 0.1) for _ in range(9))
    assert servo.look_after(strain, 0.11)
    assert (servo.torque_enabled, servo["Hardware Error Status"], servo.alert) == (False, 32, ALERT)
    assert write(servo, "Torque Enable", 1) == RESULT_FAIL
    servo.power_cycle(1500)
    assert (write(servo, "Torque Enable", 1), servo.alert) == (0, 0)


@needs_tables
def test_shutdown_says_which_errors_let_go(servo: DynamixelX) -> None:
    write(servo, "Shutdown", 0)
    write(servo, "Torque Enable", 1)
    servo.look_after(Strain(1500, 0.0, 15.0, 90.0, overloaded=True), 0.01)
    assert (servo["Hardware Error Status"], servo.torque_enabled) == (0b100101, True)


@needs_tables
def test_watchdog_runs_only_under_torque_and_stops_where_the_joint_is(servo: DynamixelX) -> None:
    write(servo, "Bus Watchdog", 5)
    servo.look_after(CALM, 1.0)
    assert servo["Bus Watchdog"] == 5
    write(servo, "Torque Enable", 1)
    write(servo, "Goal Position", 2000)
    servo.heard()
    underway = CALM._replace(position=1700)
    assert not servo.look_after(underway, 0.1)
    assert servo.look_after(underway, 0.01)
    assert (servo["Bus Watchdog"], servo.goal, servo.torque_enabled) == (255, 1700, True)
    assert [write(servo, n, 0) for n in ("Goal Position", "Goal PWM", "Bus Watchdog")] == [DATA_RANGE, DATA_RANGE, 0]
    assert write(servo, "Goal Position", 1800) == 0
