"""Reads the calibration files of LeRobot: JSON, for each motor id, drive_mode, homing_offset, range_min, range_max.

There, too, the homing offset puts the middle pose at half a turn (2047), and the ranges are counts with that offset.
A joint that it takes to turn all the way round, as an SO-101's wrist_roll, has the whole turn for a range in LeRobot:
there the middle pose is what is known.
Two things differ. Angle 0 is the middle of the range in LeRobot, and what the model says here. Dynamixels run in
LeRobot in extended position mode, where an offset may have any size; here in position mode, where it moves no wrap, so
it is taken out again and must then lie within one turn.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mbrl_core.arm import ArmProfile, Joint
from mbrl_core.calibration import Calibration, JointCalibration, hinges_of, measured_joint
from mbrl_core.config import refuse
from mbrl_core.kinematics import Hinge

FIELDS = ("id", "drive_mode", "homing_offset", "range_min", "range_max")
MIDDLE_COUNT = 2047


def read_lerobot(path: str | Path, profile: ArmProfile) -> Calibration:
    """Read a file as a calibration of a profile's arm.

    Raises:
      ValueError: no such file, no JSON, other joints or ids than the profile's, or a range that does not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise refuse("from_lerobot", "a calibration file of LeRobot", str(path))
    try:
        motors = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise refuse(f"from_lerobot {path.name}", "JSON", str(error)) from error
    names = [joint.name for joint in profile.joints]
    if not isinstance(motors, dict) or sorted(motors) != sorted(names):
        raise refuse(f"from_lerobot {path.name}", f"motors {names}", motors if motors is None else list(motors))
    pairs = zip(profile.joints, hinges_of(profile), strict=True)
    return Calibration(arm=profile.name, joints=tuple(_joint(*pair, motors[pair[0].name], profile) for pair in pairs))


def _joint(joint: Joint, hinge: Hinge, motor: Any, profile: ArmProfile) -> JointCalibration:
    values = _checked(joint, motor)
    offset, low, high = values["homing_offset"], values["range_min"], values["range_max"]
    middle, sign, turn = MIDDLE_COUNT, joint.sign, profile.bus.counts_per_turn
    if profile.bus.protocol == "dynamixel_x":
        if values["drive_mode"]:
            raise refuse(f"{joint.name}.drive_mode", "0: mbrl setup-motor sets it, then mbrl calibrate", 1)
        low, high, middle, offset = low - offset, high - offset, (middle - offset) % turn, 0
        turns = low // turn * turn
        low, high = low - turns, high - turns
    elif values["drive_mode"]:
        sign = -sign
    if high - low == turn - 1:
        hinge = hinge.turning_round
    return measured_joint(
        joint, hinge, turn, homing_offset=offset, sign=sign, lower_count=low, upper_count=high, middle_count=middle
    )


def _checked(joint: Joint, motor: Any) -> Mapping[str, int]:
    if not isinstance(motor, dict) or not all(isinstance(motor.get(name), int) for name in FIELDS):
        raise refuse(f"from_lerobot.{joint.name}", f"whole numbers {list(FIELDS)}", motor)
    if motor["id"] != joint.servo_id:
        raise refuse(f"from_lerobot.{joint.name}.id", f"the profile's {joint.servo_id}", motor["id"])
    return {name: motor[name] for name in FIELDS}
