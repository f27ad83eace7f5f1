"""The emulated STS bus as Feetech's and LeRobot's libraries see it, each in a process of its own."""

import importlib
import os
import sys
import time
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mbrl_core.arm import ArmProfile, load_profile
from mbrl_core.robots.feetech_protocol import ACTION, BROADCAST_ID, REG_WRITE, REGISTERS, WIRE, encode
from mbrl_core.robots.servo_fault import ServoFault
from mbrl_sim import ASSETS
from mbrl_sim.bus_faults import LATENCY_TIMER_S
from mbrl_sim.emulated_bus import Twin

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))  # they are programs, not a package
vendor_sdk = importlib.import_module("vendor_sdk")

pytestmark = pytest.mark.realtime
IDS = list(range(1, 7))
OK, TIMEOUT, CORRUPT = 0, -6, -7  # COMM_SUCCESS, COMM_RX_TIMEOUT, COMM_RX_CORRUPT
POSITION, TORQUE, GOAL, ACCELERATION, BLOCK = (56, 2), (40, 1), (42, 2), (41, 1), (56, 15)


@pytest.fixture
def profile() -> ArmProfile:
    return load_profile(ASSETS / "so101.yaml")


@pytest.fixture
def twin(profile: ArmProfile) -> Iterator[Twin]:
    with Twin(profile, seed=1) as twin:
        yield twin


@pytest.fixture(params=["feetech-servo-sdk", "ftservo-python-sdk"])
def package(request: pytest.FixtureRequest) -> str:
    if missing := vendor_sdk.lacks(request.param):
        pytest.skip(missing)
    return str(request.param)


@pytest.fixture
def sdk(package: str, twin: Twin) -> Iterator[Any]:
    with vendor_sdk.VendorSdk(package, twin.port) as sdk:
        yield sdk


def test_every_instruction(sdk: Any) -> None:
    assert [sdk("ping", i) for i in IDS] == [[777, OK, 0]] * 6
    assert sdk("ping", 77)[1] == TIMEOUT
    assert sdk("read", 2, 62, 1) == [120, OK, 0]
    assert sdk("read", 2, *POSITION)[0] == pytest.approx(2048 - 652, abs=12)  # home, and a little sag
    assert sdk("read", 2, 126, 4)[1] == TIMEOUT  # past the end of the table
    assert sdk("write", 4, *ACCELERATION, 33) == [OK, 0]
    assert sdk("read", 4, *ACCELERATION) == [33, OK, 0]
    assert sdk("reg_write", 5, *GOAL, 0x0834) == [OK, 0]
    assert sdk("read", 5, *GOAL)[0] == 2048
    assert sdk("action") == OK
    assert sdk("read", 5, *GOAL) == [0x0834, OK, 0]
    assert sdk("read", 5, *TORQUE) == [1, OK, 0]  # a goal switches torque on
    assert sdk("sync_write", *ACCELERATION, [[i, 10 + i] for i in IDS]) == OK
    assert sdk("sync_read", *ACCELERATION, IDS) == [OK, [10 + i for i in IDS]]


REQUESTS = (
    (("read", 5, *POSITION), WIRE.read(5, *POSITION)),
    (("write", 5, *GOAL, 2100), WIRE.write(5, GOAL[0], (2100).to_bytes(2, "little"))),
    (("reg_write", 5, *GOAL, 2100), encode(5, REG_WRITE, bytes((GOAL[0],)) + (2100).to_bytes(2, "little"))),
    (("action",), encode(BROADCAST_ID, ACTION)),
    (("sync_read", *BLOCK, IDS), WIRE.sync_read(*BLOCK, IDS)),
    (
        ("sync_write", *GOAL, [[i, 2000 + i] for i in IDS]),
        WIRE.sync_write_register(REGISTERS["goal_position"], {i: 2000 + i for i in IDS}),
    ),
)


def test_the_drivers_requests_are_byte_for_byte_the_vendors(package: str) -> None:
    master, slave = os.openpty()
    tty.setraw(slave)
    with vendor_sdk.VendorSdk(package, os.ttyname(slave)) as sdk:
        for verb, expected in REQUESTS:
            sdk(*verb)
            assert os.read(master, 4096) == expected, verb
    os.close(slave)
    os.close(master)


def test_hundreds_of_cycles_without_one_fault(sdk: Any, twin: Twin) -> None:
    seen, _ = sdk("cycles", 300, BLOCK, GOAL, IDS, 2048)
    assert seen == {"read 0, 6 available": 300, "write 0": 300}
    assert not twin.failed.is_set()


def test_response_level_0_answers_only_what_is_asked(sdk: Any) -> None:
    assert sdk("write", 3, 8, 1, 0) == [TIMEOUT, 0]
    assert sdk("ping", 3) == [777, OK, 0]
    assert sdk("read", 3, 8, 1) == [0, OK, 0]


def test_silent_servo(sdk: Any, twin: Twin, package: str) -> None:
    twin.set_silent({4})
    assert sdk("ping", 4)[1] == TIMEOUT
    code, values = sdk("sync_read", *ACCELERATION, IDS)
    if package == "ftservo-python-sdk":
        assert (code, [value is None for value in values]) == (OK, [i == 4 for i in IDS])  # only isAvailable tells
    else:
        assert code == TIMEOUT
    twin.set_silent(set())
    assert sdk("sync_read", *ACCELERATION, IDS) == [OK, [0] * 6]


def test_bad_checksum_in_every_answer(sdk: Any, twin: Twin) -> None:
    twin.faults.bad_checksum = 1.0
    outcomes = {sdk("ping", i)[1] for i in IDS for _ in range(3)}
    assert outcomes <= {CORRUPT, TIMEOUT}  # a flipped length never ends, or is no packet
    assert CORRUPT in outcomes
    twin.faults.clear()
    assert sdk("ping", 1) == [777, OK, 0]


def test_bad_checksum_now_and_then(sdk: Any, twin: Twin) -> None:
    twin.faults.bad_checksum = 0.02
    seen, _ = sdk("cycles", 60, BLOCK, GOAL, IDS, 2048)
    whole = seen["read 0, 6 available"]
    assert 0 < whole < 60  # 0.98^6 = 0.89 of them, less what a lost packet takes with it


def test_noise_before_answers_is_passed_over(sdk: Any, twin: Twin) -> None:
    twin.faults.noise = 1.0
    models = [sdk("ping", i)[:2] for i in IDS]
    assert models.count([777, OK]) >= 5  # the draw may look like a header


def test_truncated_answer(sdk: Any, twin: Twin) -> None:
    twin.faults.truncated = 1.0
    assert {sdk("read", i, *POSITION)[1] for i in IDS} <= {CORRUPT, TIMEOUT}


def test_wrong_id_is_nobodys_answer(sdk: Any, twin: Twin) -> None:
    twin.faults.wrong_id = 1.0
    assert [sdk("read", i, *POSITION)[1] for i in IDS] == [TIMEOUT] * 6


def test_two_servos_with_one_id_collide(sdk: Any, twin: Twin) -> None:
    twin.faults.duplicated = frozenset({3})
    assert sdk("ping", 3)[1] in (CORRUPT, TIMEOUT)
    assert sdk("ping", 2) == [777, OK, 0]


def test_servos_own_complaints_are_in_the_error_byte(sdk: Any, twin: Twin) -> None:
    twin.faults.overloaded, twin.faults.temperature_c = frozenset({2}), {3: 75.0}
    time.sleep(0.1)
    assert [sdk("ping", i)[2] for i in IDS] == [0, ServoFault.OVERLOAD, ServoFault.TEMPERATURE, 0, 0, 0]
    assert sdk("read", 2, 65, 1)[0] == ServoFault.OVERLOAD
    twin.faults.clear()
    twin.faults.supply = 0.3
    time.sleep(0.1)
    assert sdk("read", 1, 62, 1) == [36, OK, ServoFault.VOLTAGE]


def test_brown_out_forgets_what_is_not_in_the_eeprom(sdk: Any, twin: Twin) -> None:
    sdk("write", 2, *ACCELERATION, 33)
    sdk("write", 2, *TORQUE, 1)
    twin.power_cycle({2})
    assert (sdk("read", 2, *ACCELERATION)[0], sdk("read", 2, *TORQUE)[0]) == (0, 0)


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


def test_latency_timer_keeps_answers_back(sdk: Any, twin: Twin) -> None:
    twin.faults.latency_s = LATENCY_TIMER_S
    seen, took_s = sdk("cycles", 10, BLOCK, GOAL, IDS, 2048)
    assert took_s >= 10 * LATENCY_TIMER_S
    assert seen["read 0, 6 available"] == 10  # the SDKs' timeouts allow for it


def test_echo_of_what_was_sent(sdk: Any, twin: Twin) -> None:
    """The SDKs take the echo of a request for a servo's answer: none of them knows of half-duplex adapters."""
    twin.faults.echo = True
    assert sdk("read", 1, *POSITION) == [0x0238, OK, 0x02]  # address, size and instruction of the request


def test_other_baud_rate_hears_nothing(package: str, twin: Twin) -> None:
    with vendor_sdk.VendorSdk(package, twin.port, 115_200) as sdk:
        assert sdk("ping", 1)[1] == TIMEOUT
    with vendor_sdk.VendorSdk(package, twin.port) as sdk:
        assert sdk("write", 1, 6, 1, 4) == [OK, 0]
        assert [sdk("ping", i)[1] for i in (1, 2)] == [TIMEOUT, OK]
    with vendor_sdk.VendorSdk(package, twin.port, 115_200) as sdk:
        assert sdk("ping", 1) == [777, OK, 0]


def test_unplugged_and_plugged_in_again(package: str, profile: ArmProfile, tmp_path: Path) -> None:
    link = tmp_path / "arm"
    with Twin(profile, link=link) as twin:
        with vendor_sdk.VendorSdk(package, str(link)) as sdk:
            assert sdk("write", 1, *TORQUE, 1) == [OK, 0]
            twin.unplug()
            assert not link.is_symlink()
            with pytest.raises(RuntimeError, match="ended"):  # pyserial's SerialException, which the SDKs let through
                sdk("ping", 1)
        twin.replug()
        with vendor_sdk.VendorSdk(package, str(link)) as sdk:
            assert sdk("read", 1, *TORQUE) == [1, OK, 0]  # the servos kept their power
