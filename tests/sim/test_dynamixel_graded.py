"""The emulated Dynamixel bus as ROBOTIS' library sees it, in a process of its own."""

import dataclasses
import importlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mbrl_core.arm import ArmProfile, Bus, Servo, load_profile
from mbrl_sim import ASSETS
from mbrl_sim.bus_faults import LATENCY_TIMER_S
from mbrl_sim.emulated_bus import Twin

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))  # they are programs, not a package
vendor_sdk = importlib.import_module("vendor_sdk")
MISSING = vendor_sdk.lacks("dynamixel-sdk")
pytestmark = [pytest.mark.realtime, pytest.mark.skipif(bool(MISSING), reason=MISSING or "nothing")]

IDS = list(range(1, 7))
MODELS = [1060, 1060, 1200, 1200, 1200, 1200]
OK, TIMEOUT, CORRUPT = 0, -3001, -3002  # COMM_SUCCESS, COMM_RX_TIMEOUT, COMM_RX_CORRUPT
RESULT_FAIL, INSTRUCTION, DATA_RANGE, DATA_LENGTH, DATA_LIMIT, ACCESS, ALERT = 1, 2, 4, 5, 6, 7, 128
ID, BAUD, MAX_POSITION, HOMING, MOVING_THRESHOLD = (7, 1), (8, 1), (48, 4), (20, 4), (24, 4)
TORQUE, LED, RETURN_LEVEL, HARDWARE_ERROR, WATCHDOG = (64, 1), (65, 1), (68, 1), (70, 1), (98, 1)
GAIN, PROFILE, GOAL, BLOCK, POSITION, VOLTAGE = (84, 2), (112, 4), (116, 4), (126, 21), (132, 4), (144, 2)


@pytest.fixture
def profile() -> ArmProfile:
    """SO-101's body on a bus of two kinds of Dynamixel."""
    so101 = load_profile(ASSETS / "so101.yaml")
    large = Servo(name="xl430", model_number=1060, min_voltage_v=9.5, max_voltage_v=13.0, stall_current_a=1.0)
    small = Servo(name="xl330", model_number=1200, min_voltage_v=4.5, max_voltage_v=5.5, stall_current_a=1.0)
    joints = tuple(
        dataclasses.replace(joint, servo="xl430" if joint.servo_id < 3 else "xl330") for joint in so101.joints
    )
    bus = Bus(protocol="dynamixel_x", baud=1_000_000)
    return dataclasses.replace(so101, bus=bus, servos=(large, small), joints=joints)


@pytest.fixture
def twin(profile: ArmProfile) -> Iterator[Twin]:
    with Twin(profile, seed=1) as twin:
        yield twin


@pytest.fixture
def sdk(twin: Twin) -> Iterator[Any]:
    with vendor_sdk.VendorSdk("dynamixel-sdk", twin.port) as sdk:
        yield sdk


def test_pings(sdk: Any) -> None:
    assert [sdk("ping", i) for i in IDS] == [[model, OK, 0] for model in MODELS]
    assert sdk("ping", 77)[1] == TIMEOUT
    found, code = sdk("call", "broadcastPing")
    firmware = [46, 46, 52, 52, 52, 52]
    assert code == OK
    assert found == {str(i): [m, f] for i, m, f in zip(IDS, MODELS, firmware, strict=True)}


def test_single_reads_and_writes(sdk: Any) -> None:
    assert sdk("read", 1, *VOLTAGE) == [120, OK, 0]
    assert sdk("read", 5, *VOLTAGE) == [50, OK, 0]
    assert sdk("read", 2, *POSITION)[0] == pytest.approx(2048 - 652, abs=12)  # home, and a little sag
    for register, value in ((LED, 1), (GAIN, 700), (PROFILE, 32_000)):
        assert sdk("write", 3, *register, value) == [OK, 0]
        assert sdk("read", 3, *register) == [value, OK, 0]
    assert sdk("reg_write", 5, *GOAL, 2100) == [OK, 0]
    assert (sdk("read", 5, *GOAL)[0], sdk("read", 5, 69, 1)[0]) == (2048, 1)
    assert sdk("action") == OK
    assert (sdk("read", 5, *GOAL)[0], sdk("read", 5, 69, 1)[0]) == (2100, 0)
    assert sdk("read", 5, *TORQUE)[0] == 0  # a goal switches nothing on


def test_group_reads_and_writes(sdk: Any) -> None:
    assert sdk("sync_write", *PROFILE, [[i, 10 + i] for i in IDS]) == OK
    for fast in (False, True):
        assert sdk("sync_read", *PROFILE, IDS, fast) == [OK, [10 + i for i in IDS]]
    assert sdk("bulk_write", [[1, *PROFILE, 99], [2, *RETURN_LEVEL, 1]]) == OK
    for fast in (False, True):
        assert sdk("bulk_read", [[1, *PROFILE], [2, *RETURN_LEVEL]], fast) == [OK, [99, 1]]


def test_header_inside_data_is_stuffed(sdk: Any) -> None:
    value = int.from_bytes(b"\xff\xff\xfd\x00", "little")
    assert sdk("write", 4, *MOVING_THRESHOLD, value) == [OK, 0]
    assert sdk("read", 4, *MOVING_THRESHOLD) == [value, OK, 0]


@pytest.mark.parametrize("fast", [False, True])
def test_hundreds_of_cycles_without_one_fault(sdk: Any, twin: Twin, fast: bool) -> None:
    seen, _ = sdk("cycles", 300, BLOCK, GOAL, IDS, 2048, fast)
    assert seen == {"read 0, 6 available": 300, "write 0": 300}
    assert not twin.failed.is_set()


def test_arm_follows_its_goals_once_torque_is_on(sdk: Any) -> None:
    before = sdk("read", 1, *POSITION)[0]
    sdk("write", 1, *GOAL, before + 200)
    time.sleep(0.2)
    assert sdk("read", 1, *POSITION)[0] == pytest.approx(before, abs=3)
    sdk("write", 1, *TORQUE, 1)
    time.sleep(0.8)
    assert sdk("read", 1, *POSITION)[0] == pytest.approx(before + 200, abs=8)


def test_what_may_not_be_written(sdk: Any) -> None:
    assert sdk("write", 1, *POSITION, 1) == [OK, ACCESS]
    assert sdk("write", 1, *ID, 253) == [OK, DATA_RANGE]
    assert sdk("write", 1, *PROFILE, 40000) == [OK, DATA_RANGE]
    assert sdk("write", 1, 116, 2, 2048) == [OK, DATA_LENGTH]
    assert sdk("write", 1, *GOAL, 4096) == [OK, DATA_LIMIT]
    assert sdk("write", 1, *MAX_POSITION, 3000) == [OK, 0]
    assert sdk("write", 1, *GOAL, 3001) == [OK, DATA_LIMIT]
    assert sdk("write", 1, 900, 1, 1) == [OK, ACCESS]
    assert sdk("read", 1, 900, 1)[1:] == [OK, ACCESS]
    sdk("write", 1, *TORQUE, 1)
    assert sdk("write", 1, *MAX_POSITION, 4095) == [OK, ACCESS]  # EEPROM under torque
    assert sdk("read", 1, *MAX_POSITION)[0] == 3000


def test_status_return_level(sdk: Any) -> None:
    sdk("write", 3, *RETURN_LEVEL, 1)
    assert sdk("write", 3, *PROFILE, 5)[0] == TIMEOUT
    assert sdk("read", 3, *PROFILE) == [5, OK, 0]
    sdk("write", 3, *RETURN_LEVEL, 0)
    assert sdk("read", 3, *PROFILE)[1] == TIMEOUT
    assert sdk("ping", 3) == [1200, OK, 0]


def test_return_delay_takes_its_time(sdk: Any) -> None:
    """300 answers with 500 us before each, then none: 0.15 s less."""
    slow = sdk("cycles", 50, BLOCK, GOAL, IDS, 2048)[1]
    for servo_id in IDS:
        sdk("write", servo_id, 9, 1, 0)
    assert slow >= 0.15
    assert sdk("cycles", 50, BLOCK, GOAL, IDS, 2048)[1] < slow


def test_reboot_forgets_what_is_not_in_the_eeprom(sdk: Any) -> None:
    sdk("write", 2, *MAX_POSITION, 3000)
    sdk("write", 2, *PROFILE, 9)
    sdk("write", 2, *TORQUE, 1)
    assert sdk("call", "reboot", 2) == [OK, 0]
    assert [sdk("read", 2, *r)[0] for r in (MAX_POSITION, PROFILE, TORQUE)] == [3000, 0, 0]


def test_factory_reset_by_its_options(sdk: Any, twin: Twin) -> None:
    sdk("write", 2, *MAX_POSITION, 3000)
    assert sdk("call", "factoryReset", 2, 0x02) == [OK, 0]
    assert sdk("read", 2, *MAX_POSITION) == [4095, OK, 0]
    assert sdk("call", "factoryReset", 2, 0x07) == [OK, DATA_RANGE]
    assert sdk("call", "factoryReset", 2, 0x01) == [OK, 0]
    assert sdk("ping", 2)[1] == TIMEOUT  # it listens at 57600 now
    with vendor_sdk.VendorSdk("dynamixel-sdk", twin.port, 57_600) as slow:
        assert slow("ping", 2) == [1060, OK, 0]
        assert slow("call", "factoryReset", 2, 0xFF) == [OK, 0]
        assert slow("ping", 1) == [1060, OK, 0]


def test_clear_of_whole_turns(sdk: Any) -> None:
    assert sdk("call", "clearMultiTurn", 1) == [OK, 0]
    sdk("write", 1, *TORQUE, 1)
    assert sdk("call", "clearMultiTurn", 1) == [OK, RESULT_FAIL]


def test_homing_offset_is_added(sdk: Any) -> None:
    before = sdk("read", 1, *POSITION)[0]
    assert sdk("write", 1, *HOMING, 100) == [OK, 0]
    assert sdk("read", 1, *POSITION)[0] == pytest.approx(before + 100, abs=3)


def test_hardware_error_raises_the_alert_and_shuts_down_until_a_reboot(sdk: Any, twin: Twin) -> None:
    sdk("write", 2, *TORQUE, 1)
    twin.faults.overloaded, twin.faults.temperature_c = frozenset({2}), {3: 75.0}
    time.sleep(0.1)
    twin.faults.clear()
    assert [sdk("read", i, *HARDWARE_ERROR) for i in (1, 2, 3)] == [[0, OK, 0], [32, OK, ALERT], [4, OK, ALERT]]
    assert sdk("read", 2, *TORQUE)[0] == 0
    assert sdk("write", 2, *TORQUE, 1) == [OK, ALERT | RESULT_FAIL]
    sdk("call", "reboot", 2)
    assert sdk("write", 2, *TORQUE, 1) == [OK, 0]


def test_bus_watchdog_stops_the_servo_and_closes_its_goals(sdk: Any) -> None:
    sdk("write", 1, *TORQUE, 1)
    assert sdk("write", 1, *WATCHDOG, 128) == [OK, DATA_RANGE]
    assert sdk("write", 1, *WATCHDOG, 10) == [OK, 0]
    start = sdk("read", 1, *POSITION)[0]
    for _ in range(5):
        time.sleep(0.08)
        assert sdk("write", 1, *GOAL, start) == [OK, 0]  # 80 ms is not 200
    time.sleep(0.4)
    assert sdk("read", 1, *WATCHDOG) == [255, OK, 0]
    assert sdk("write", 1, *GOAL, start) == [OK, DATA_RANGE]
    assert sdk("write", 1, *WATCHDOG, 10) == [OK, DATA_RANGE]
    assert sdk("write", 1, *WATCHDOG, 0) == [OK, 0]
    assert sdk("write", 1, *GOAL, start) == [OK, 0]


def test_action_without_a_write_held_back_is_an_instruction_error(sdk: Any) -> None:
    packet = [0, 0, 0, 0, 1, 3, 0, 0x05, 0, 0]
    assert sdk("call", "txPacket", packet) == OK
    time.sleep(0.05)
    received, code = sdk("call", "rxPacket", False)
    assert (code, received[8]) == (OK, INSTRUCTION)


def test_silent_servo(sdk: Any, twin: Twin) -> None:
    twin.set_silent({4})
    assert sdk("ping", 4)[1] == TIMEOUT
    assert sdk("sync_read", *PROFILE, IDS)[0] == TIMEOUT
    assert sdk("sync_read", *PROFILE, IDS, True)[0] == CORRUPT
    assert sorted(sdk("call", "broadcastPing")[0]) == ["1", "2", "3", "5", "6"]
    twin.set_silent(set())
    assert sdk("sync_read", *PROFILE, IDS) == [OK, [0] * 6]


def test_damage_on_the_wire(sdk: Any, twin: Twin) -> None:
    faults = twin.faults
    faults.bad_checksum = 1.0
    assert {sdk("read", i, *POSITION)[1] for i in IDS} <= {CORRUPT, TIMEOUT}
    faults.clear()
    faults.truncated = 1.0
    assert {sdk("read", i, *POSITION)[1] for i in IDS} <= {CORRUPT, TIMEOUT}
    faults.clear()
    faults.noise = 1.0
    assert [sdk("read", i, *PROFILE) for i in IDS] == [[0, OK, 0]] * 6
    faults.clear()
    faults.wrong_id = 1.0
    assert [sdk("read", i, *POSITION)[1] for i in IDS] == [TIMEOUT] * 6
    faults.clear()
    faults.duplicated = frozenset({3})
    assert sdk("ping", 3)[1] in (CORRUPT, TIMEOUT)
    assert sdk("ping", 2) == [1060, OK, 0]


def test_encoders_freeze_and_jump(sdk: Any, twin: Twin, profile: ArmProfile) -> None:
    before = sdk("read", 1, *POSITION)[0]
    twin.faults.encoder_jump = {1: 300}
    assert sdk("read", 1, *POSITION)[0] - before == pytest.approx(300, abs=3)
    twin.faults.frozen = frozenset({1})
    time.sleep(0.05)
    frozen = sdk("read", 1, *POSITION)[0]
    twin.push(profile.vector("lower_rad") * 0.5)
    assert sdk("read", 1, *POSITION)[0] == frozen
    twin.faults.clear()
    assert sdk("read", 1, *POSITION)[0] == pytest.approx(2048 - 0.94 * 4096 / 6.2832, abs=3)


def test_a_supply_out_of_range_is_a_hardware_error(sdk: Any, twin: Twin) -> None:
    twin.faults.supply = 0.4
    time.sleep(0.1)
    assert sdk("read", 1, *VOLTAGE) == [48, OK, ALERT]
    assert sdk("read", 1, *HARDWARE_ERROR) == [1, OK, ALERT]


def test_echo_is_told_from_a_status_packet(sdk: Any, twin: Twin) -> None:
    twin.faults.echo = True
    assert [sdk("read", i, *PROFILE) for i in IDS] == [[0, OK, 0]] * 6


def test_latency_timer_keeps_answers_back(sdk: Any, twin: Twin) -> None:
    twin.faults.latency_s = LATENCY_TIMER_S
    seen, took_s = sdk("cycles", 10, BLOCK, GOAL, IDS, 2048)
    assert took_s >= 10 * LATENCY_TIMER_S
    assert seen["read 0, 6 available"] == 10


def test_other_baud_rate_hears_nothing(twin: Twin) -> None:
    with vendor_sdk.VendorSdk("dynamixel-sdk", twin.port, 57_600) as sdk:
        assert sdk("ping", 1)[1] == TIMEOUT
    with vendor_sdk.VendorSdk("dynamixel-sdk", twin.port) as sdk:
        assert sdk("write", 1, *BAUD, 1) == [OK, 0]
        assert [sdk("ping", i)[1] for i in (1, 2)] == [TIMEOUT, OK]
    with vendor_sdk.VendorSdk("dynamixel-sdk", twin.port, 57_600) as sdk:
        assert sdk("ping", 1) == [1060, OK, 0]


def test_id_is_answered_under_the_old_one(sdk: Any) -> None:
    assert sdk("write", 6, *ID, 20) == [OK, 0]
    assert [sdk("ping", i)[1] for i in (6, 20)] == [TIMEOUT, OK]


def test_brown_out_and_unplug(profile: ArmProfile, tmp_path: Path) -> None:
    link = tmp_path / "arm"
    with Twin(profile, link=link) as twin:
        with vendor_sdk.VendorSdk("dynamixel-sdk", str(link)) as sdk:
            sdk("write", 1, *TORQUE, 1)
            sdk("write", 2, *TORQUE, 1)
            twin.power_cycle({2})
            assert [sdk("read", i, *TORQUE)[0] for i in (1, 2)] == [1, 0]
            twin.unplug()
            with pytest.raises(RuntimeError, match="ended"):
                sdk("ping", 1)
        twin.replug()
        with vendor_sdk.VendorSdk("dynamixel-sdk", str(link)) as sdk:
            assert sdk("read", 1, *TORQUE) == [1, OK, 0]  # the servos kept their power
