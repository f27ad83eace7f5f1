"""How one arm differs from its profile: where each encoder's zero lies, which way it counts, where its joint ends.

A profile says what all arms of a kind have in common; a calibration is measured on one of them (`mbrl calibrate`) and
lies in a YAML file beside the run that needs it. `fitted` joins the two.
"""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

import yaml

from mbrl_core.arm import ArmProfile, Joint, load_profile
from mbrl_core.config import from_mapping, refuse, setting
from mbrl_core.kinematics import Hinge, hinges

MARGIN_RAD = 0.02  # soft limits stay so far inside the ends that were measured
MIDDLE_COUNT = 2048  # where a homed encoder reads in the middle of the joint's range
SAME_WIDTH_RAD = 0.35  # measured and modelled range may differ by so much
HEADER = "# Measured on one arm by `mbrl calibrate`; counts are the servos' own, homing_offset included.\n"


@dataclass(frozen=True, kw_only=True)
class JointCalibration:
    """One joint of one arm, in encoder counts."""

    name: str = setting(doc="joint of the profile")
    servo_id: int = setting(doc="address on the bus", low=1, high=252)
    homing_offset: int = setting(doc="that register of the servo", low=-2047, high=2047)
    sign: int = setting(doc="+1 or -1: direction of the encoder against the joint", low=-1, high=1)
    zero_count: int = setting(doc="count at joint angle 0", low=0, high=4095)
    lower_count: int = setting(doc="lowest count that the joint reaches", low=0, high=4095)
    upper_count: int = setting(doc="highest count that it reaches", low=0, high=4095)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """One arm."""

    arm: str = setting(doc="name of the profile that it belongs to")
    joints: tuple[JointCalibration, ...] = setting(doc="in the profile's order")


def load_calibration(path: str | Path) -> Calibration:
    """Read and check a calibration.

    Raises:
      ValueError: no such file, no YAML, an unknown, missing or out-of-bounds field, or fields that contradict.
    """
    path = Path(path)
    if not path.is_file():
        raise refuse("calibration", "a file", str(path))
    try:
        mapping = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise refuse(f"calibration {path.name}", "YAML", str(error)) from error
    calibration = from_mapping(Calibration, mapping, path.name)
    for joint in calibration.joints:
        if joint.sign == 0:
            raise refuse(f"{path.name}.{joint.name}.sign", "+1 or -1", joint.sign)
        if joint.lower_count >= joint.upper_count:
            raise refuse(f"{path.name}.{joint.name}.lower_count", f"below {joint.upper_count}", joint.lower_count)
    return calibration


def save_calibration(path: Path, calibration: Calibration) -> None:
    """Write a calibration as YAML, one joint a line."""
    rows = [
        f"  - {{{', '.join(f'{name}: {value}' for name, value in dataclasses.asdict(joint).items())}}}"
        for joint in calibration.joints
    ]
    path.write_text(HEADER + "\n".join([f"arm: {calibration.arm}", "joints:", *rows]) + "\n")


def load_fitted(profile: str | Path, calibration: str = "") -> ArmProfile:
    """Read a profile, and fit it to one arm where a calibration file is named.

    Raises:
      ValueError: either file is wrong, or they do not belong together.
    """
    loaded = load_profile(profile)
    return fitted(loaded, load_calibration(calibration)) if calibration else loaded


def fitted(profile: ArmProfile, calibration: Calibration) -> ArmProfile:
    """Return the profile with one arm's zeros and signs, its soft limits inside what that arm reaches.

    Raises:
      ValueError: the calibration is of another arm or of other joints, or a joint's home is beyond what it reaches.
    """
    if calibration.arm != profile.name:
        raise refuse("calibration.arm", repr(profile.name), calibration.arm)
    wanted = [(joint.name, joint.servo_id) for joint in profile.joints]
    got = [(joint.name, joint.servo_id) for joint in calibration.joints]
    if wanted != got:
        raise refuse("calibration.joints", f"joints and servo ids {wanted}", got)
    pairs = zip(profile.joints, calibration.joints, strict=True)
    return dataclasses.replace(profile, joints=tuple(_fitted_joint(*pair, profile) for pair in pairs))


def _fitted_joint(joint: Joint, measured: JointCalibration, profile: ArmProfile) -> Joint:
    turn_rad = 2 * math.pi / profile.bus.counts_per_turn
    ends = (measured.lower_count, measured.upper_count)
    low, high = sorted(measured.sign * (count - measured.zero_count) * turn_rad for count in ends)
    lower, upper = max(joint.lower_rad, low + MARGIN_RAD), min(joint.upper_rad, high - MARGIN_RAD)
    if not lower <= joint.home_rad <= upper:
        raise refuse(f"calibration.{joint.name}", f"home {joint.home_rad} rad within reach", (lower, upper))
    return dataclasses.replace(
        joint,
        sign=measured.sign,
        zero_count=measured.zero_count,
        homing_offset=measured.homing_offset,
        lower_rad=lower,
        upper_rad=upper,
    )


def measured_joint(
    joint: Joint,
    hinge: Hinge,
    counts_per_turn: int,
    *,
    homing_offset: int,
    sign: int,
    lower_count: int,
    upper_count: int,
    middle_count: int = MIDDLE_COUNT,
) -> JointCalibration:
    """Put the middle of what was measured where the model has the middle of the joint's range.

    Args:
      joint: of the profile.
      hinge: its ends in the model.
      counts_per_turn: encoder resolution.
      homing_offset: that register.
      sign: direction of the encoder against the joint.
      lower_count: lowest count that was reached.
      upper_count: highest.
      middle_count: count in the middle pose, for a joint that turns all the way round.

    Raises:
      ValueError: the range is another than the model's, or goes past the encoder's end.
    """
    per_rad = counts_per_turn / (2 * math.pi)
    if hinge.endless:
        lower_count, upper_count, middle = 0, counts_per_turn - 1, float(middle_count)
    else:
        middle = 0.5 * (lower_count + upper_count)
    if lower_count < 0 or upper_count > counts_per_turn - 1:
        turn_deg = 360 * (middle - MIDDLE_COUNT) / counts_per_turn
        expected = f"a range within 0 to {counts_per_turn - 1}"
        advice = f"begin nearer to the middle of its range, or put its horn on turned by about {turn_deg:.0f} degrees"
        raise refuse(f"{joint.name}: counts", f"{expected} ({advice})", (lower_count, upper_count))
    width_rad = (upper_count - lower_count) / per_rad
    if not hinge.endless and abs(width_rad - hinge.width_rad) > SAME_WIDTH_RAD:
        expected = f"about {hinge.width_rad:.2f} rad between its ends (the model's)"
        raise refuse(f"{joint.name}: range", expected, round(width_rad, 2))
    return JointCalibration(
        name=joint.name,
        servo_id=joint.servo_id,
        homing_offset=homing_offset,
        sign=sign,
        zero_count=round(middle - sign * hinge.middle_rad * per_rad),
        lower_count=lower_count,
        upper_count=upper_count,
    )


def hinges_of(profile: ArmProfile) -> list[Hinge]:
    """The profile's joints in the model, in its order. Raises ValueError where one is not there."""
    found = hinges(profile)
    return [found[joint.name] for joint in profile.joints]
