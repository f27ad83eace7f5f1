"""The servo families that there are, by the name that a profile gives its bus."""

from mbrl_core.config import refuse
from mbrl_core.robots import dynamixel_table, feetech_protocol
from mbrl_core.robots.dynamixel_protocol import ALERT, FAST_WIRE
from mbrl_core.robots.dynamixel_protocol import WIRE as DYNAMIXEL_WIRE
from mbrl_core.robots.family import Family
from mbrl_core.robots.register import Register
from mbrl_core.robots.servo_fault import ServoFault

FEETECH_STS = Family(
    wires=(feetech_protocol.WIRE,),
    registers=lambda _: feetech_protocol.REGISTERS,
    model_number=Register(address=3, size=2),
    identity=feetech_protocol.IDENTITY,
    command=Register(address=40, size=10),
    present=feetech_protocol.PRESENT,
    motion=("acceleration", "goal_position", "goal_time", "goal_velocity"),
    at_enable={"goal_time": 0, "goal_velocity": 0, "torque_enable": 1},
    position_mode=0,
    load="present_load",
    alert=0,
    status_bits={1 << bit: 1 << bit for bit in range(6)},
    watchdog_counts=0,
    eeprom_lock=True,
    homing_moves_wrap=True,
    bauds=dict(enumerate((1_000_000, 500_000, 250_000, 128_000, 115_200, 76_800, 57_600, 38_400))),
)

DYNAMIXEL_X = Family(
    wires=(FAST_WIRE, DYNAMIXEL_WIRE),
    registers=dynamixel_table.registers,
    model_number=Register(address=0, size=2),
    identity=Register(address=0, size=56),
    command=Register(address=64, size=56),
    present=Register(address=124, size=23),  # present_pwm to present_temperature
    motion=("acceleration", "profile_velocity", "goal_position"),
    at_enable={"profile_velocity": 0, "torque_enable": 1},
    position_mode=3,
    load="present_pwm",
    alert=ALERT,
    status_bits={
        1: ServoFault.VOLTAGE,
        4: ServoFault.TEMPERATURE,
        8: ServoFault.ENCODER,
        16: ServoFault.SHOCK,
        32: ServoFault.OVERLOAD,
    },
    watchdog_counts=10,  # 0.2 s without a packet stop the arm by itself
    eeprom_lock=False,
    homing_moves_wrap=False,
    bauds=dict(enumerate((9_600, 57_600, 115_200, 1_000_000, 2_000_000, 3_000_000, 4_000_000))),
)

FAMILIES = {"feetech_sts": FEETECH_STS, "dynamixel_x": DYNAMIXEL_X}


def family_of(protocol: str) -> Family:
    """Return a family.

    Raises:
      ValueError: no servo family has that name (ros2_control is none).
    """
    if protocol not in FAMILIES:
        raise refuse("bus.protocol", f"a servo family, one of {sorted(FAMILIES)}", protocol)
    return FAMILIES[protocol]
