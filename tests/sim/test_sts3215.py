"""The emulated servo keeps the firmware's quirks."""

import pytest

from mbrl_core.robots.feetech_protocol import REGISTERS, TURN
from mbrl_core.robots.servo_fault import ServoFault
from mbrl_sim.servo_bank import Measured, Strain
from mbrl_sim.sts3215 import Sts3215


@pytest.fixture
def servo() -> Sts3215:
    return Sts3215(3, 777, 1500)


def write(servo: Sts3215, name: str, value: int) -> int:
    return servo.write(REGISTERS[name].address, REGISTERS[name].pack(value))


def test_powers_up_limp_with_its_goal_where_it_stands(servo: Sts3215) -> None:
    assert (servo["id"], servo["model_number"]) == (3, 777)
    assert (servo["torque_enable"], servo["goal_position"]) == (0, 1500)


def test_goal_write_switches_torque_on(servo: Sts3215) -> None:
    write(servo, "goal_position", 1600)
    assert servo["torque_enable"] == 1


def test_goal_is_clamped_to_the_position_limits(servo: Sts3215) -> None:
    write(servo, "max_position", 3000)
    write(servo, "goal_position", 3500)
    assert servo["goal_position"] == 3000
    write(servo, "goal_position", -5)
    assert servo["goal_position"] == 0


def test_read_only_registers_do_not_change(servo: Sts3215) -> None:
    write(servo, "model_number", 1)
    write(servo, "present_position", 1)
    assert servo["model_number"] == 777
    assert servo["present_position"] == 0


def test_locked_eeprom_forgets_at_power_off(servo: Sts3215) -> None:
    write(servo, "max_position", 3000)
    assert servo["max_position"] == 3000
    servo.power_cycle(1500)
    assert servo["max_position"] == 4095


def test_unlocked_eeprom_keeps(servo: Sts3215) -> None:
    write(servo, "lock", 0)
    write(servo, "max_position", 3000)
    write(servo, "acceleration", 50)
    servo.power_cycle(1500)
    assert servo["max_position"] == 3000
    assert (servo["lock"], servo["acceleration"]) == (1, 0)  # not in the EEPROM


def test_held_back_write_acts_once_on_action(servo: Sts3215) -> None:
    register = REGISTERS["goal_position"]
    servo.hold_back(register.address, register.pack(1700))
    assert servo["goal_position"] == 1500
    servo.action()
    assert servo["goal_position"] == 1700
    write(servo, "goal_position", 1500)
    servo.action()
    assert servo["goal_position"] == 1500


def test_one_write_may_span_registers(servo: Sts3215) -> None:
    """Acceleration, goal, time and velocity in one stretch from 41, as the vendor's library writes them."""
    servo.write(41, bytes((50, 0x08, 0x07, 0, 0, 0xE8, 0x03)))
    assert (servo["acceleration"], servo["goal_position"], servo["goal_velocity"]) == (50, 0x0708, 1000)


def test_beyond_the_table_is_an_error(servo: Sts3215) -> None:
    assert servo.write(127, b"\x00\x00") != 0
    assert servo.read(120, 20) is None


@pytest.mark.parametrize("servo_id", [254, 255])
def test_id_that_no_servo_may_have_is_refused(servo: Sts3215, servo_id: int) -> None:
    assert write(servo, "id", servo_id) != 0
    assert servo["id"] == 3
    assert write(servo, "id", 253) == 0
    assert servo["id"] == 253


def test_goal_fits_its_register_whatever_the_limits_say(servo: Sts3215) -> None:
    write(servo, "max_position", 65535)
    write(servo, "min_position", 65535)
    write(servo, "goal_position", 100)
    assert servo["goal_position"] == 32767


def test_present_block_is_sign_and_magnitude(servo: Sts3215) -> None:
    servo.measure(Measured(1490, -120 * TURN, -0.3, -12 * 6.5e-3, 12.0, 25.0))
    assert servo.read(56, 15) == bytes.fromhex("D2 05 78 80 2C 05 78 19 00 00 01 00 00 0C 80")


def test_homing_offset_moves_what_is_reported_and_what_is_meant(servo: Sts3215) -> None:
    write(servo, "homing_offset", -600)
    for position, reported in ((1500, 2100), (-700, 3996), (3600, 104)):  # past either end it wraps
        servo.measure(Measured(position, 0.0, 0.0, 0.0, 12.0, 25.0))
        assert servo["present_position"] == reported
        write(servo, "goal_position", reported)
        assert servo.goal == position


def test_overload_falls_back_to_the_protective_torque_until_torque_is_switched(servo: Sts3215) -> None:
    write(servo, "torque_enable", 1)
    strain = Strain(1500, 0.9, 12.0, 25.0, overloaded=False)
    assert not any(servo.look_after(strain, 0.1) for _ in range(19))  # 80 % for less than 2 s
    assert servo.status == ServoFault.NONE
    assert servo.look_after(strain, 0.11)
    assert (servo.status, servo.torque_limit) == (ServoFault.OVERLOAD, 0.2)
    servo.look_after(strain._replace(drive=0.0), 10.0)
    assert servo.torque_limit == 0.2
    write(servo, "torque_enable", 1)
    assert (servo.status, servo.torque_limit) == (ServoFault.NONE, 1.0)


def test_too_hot_lets_go_and_says_so_while_it_is(servo: Sts3215) -> None:
    write(servo, "torque_enable", 1)
    assert servo.look_after(Strain(1500, 0.0, 12.0, 71.0, overloaded=False), 0.01)
    assert (servo.torque_enabled, servo.status) == (False, ServoFault.TEMPERATURE)
    assert not servo.look_after(Strain(1500, 0.0, 12.0, 65.0, overloaded=False), 0.01)
    assert servo.status == ServoFault.NONE


def test_unload_condition_says_which_protection_acts(servo: Sts3215) -> None:
    write(servo, "unload_condition", 0)
    write(servo, "torque_enable", 1)
    assert not servo.look_after(Strain(1500, 1.0, 15.0, 90.0, overloaded=True), 0.01)
    assert servo.status == ServoFault.TEMPERATURE | ServoFault.OVERLOAD | ServoFault.VOLTAGE
    assert (servo.torque_enabled, servo.torque_limit) == (True, 1.0)


def test_baud_rate_is_a_setting(servo: Sts3215) -> None:
    assert servo.baud == 1_000_000
    write(servo, "baud_rate", 4)
    assert servo.baud == 115_200
