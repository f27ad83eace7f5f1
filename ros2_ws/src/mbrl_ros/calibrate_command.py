"""`mbrl calibrate`: one arm's zeros, directions and ranges, by hand, into a YAML file and its motors. No ROS, no torch.

The servos are limp from the first step on and stay so, also after Ctrl-C; nothing moves by itself. Until the last step
only homing offsets are written to the motors, and a calibration that is given up puts back what was there.
"""

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from mbrl_core.arm import ArmProfile, load_profile
from mbrl_core.calibration import (
    MIDDLE_COUNT,
    SAME_WIDTH_RAD,
    Calibration,
    JointCalibration,
    fitted,
    hinges_of,
    load_calibration,
    measured_joint,
    save_calibration,
)
from mbrl_core.config import refuse, setting
from mbrl_core.joint_direction import positive_direction
from mbrl_core.kinematics import Hinge
from mbrl_core.lerobot_calibration import read_lerobot
from mbrl_core.robots.calibration_check import SETTINGS, disagreements, write_settings
from mbrl_core.robots.encoder_range import EncoderRange
from mbrl_core.robots.errors import NotConnected, RobotError, StaleState
from mbrl_core.robots.servo_bus import ServoBus
from mbrl_ros.prompt import Prompt
from mbrl_sim import profile_path

PROBLEM = 1
LOOK_S = 0.005  # between two looks at the encoders: a hand turns a joint by far less than half a turn
MOVED_COUNTS = 65  # 0.1 rad: enough to tell a direction
ATTEMPTS = 5
HOMED_COUNTS = 200  # how far a hand may let the arm sink between two reads


@dataclasses.dataclass(frozen=True, kw_only=True)
class CalibrateConfig:
    """Measure one arm by hand: its zeros, directions and ranges. Its servos go limp."""

    profile: str = setting("so101", doc="arm: a name under the twin's assets, or the path of a YAML profile")
    port: str = setting("", doc="serial port of the servo bus, for example /dev/ttyUSB0")
    file: str = setting("", doc="the calibration, YAML; empty = <arm>.calibration.yaml in this folder")
    replace: bool = setting(False, doc="overwrite that file")
    check: bool = setting(False, doc="only compare that file with the motors")
    from_lerobot: str = setting("", doc="take over a calibration file of LeRobot (JSON) instead of measuring")


def calibrate(config: CalibrateConfig) -> int:
    """Measure, take over or check; return 1 where file and motors disagree.

    Raises:
      ValueError: no bus or port, a file that is there already, or an arm that is not as its model.
      RobotError: a servo is silent, is another, or does not take what is written.
    """
    profile = load_profile(profile_path(config.profile))
    path = Path(config.file or f"{profile.name}.calibration.yaml")
    if profile.bus.protocol == "ros2_control":
        raise refuse("profile", "an arm with a servo bus", config.profile)
    if config.check:
        return _agree(config.port, load_calibration(path), profile)
    if path.exists() and not config.replace:
        raise refuse("file", "a new one; --replace overwrites it", str(path))
    if not path.parent.is_dir():
        raise refuse("file", "a folder that is there", str(path.parent))
    if config.from_lerobot:
        calibration = read_lerobot(config.from_lerobot, profile)
        _save(path, calibration, profile)
    else:
        calibration = _measure(_named_port(config.port), profile, path, Prompt())
    print(f"{path}: {len(calibration.joints)} joints")
    return _agree(config.port, calibration, profile) if config.port else 0


def _agree(port: str, calibration: Calibration, profile: ArmProfile) -> int:
    fitted(profile, calibration)
    with ServoBus(_named_port(port), profile.bus.baud, profile.bus.protocol) as bus:
        found = list(disagreements(bus, calibration, profile))
    for one in found:
        print(f"{one.text}\n  remedy: {one.remedy}")
    if not found:
        print("file and motors agree")
    return PROBLEM if found else 0


def _named_port(port: str) -> str:
    if not port:
        raise refuse("port", "a serial port of a servo bus, for example /dev/ttyUSB0", port)
    return port


def _save(path: Path, calibration: Calibration, profile: ArmProfile) -> None:
    fitted(profile, calibration)  # refuse before it is written
    save_calibration(path, calibration)


def _measure(port: str, profile: ArmProfile, path: Path, prompt: Prompt) -> Calibration:
    hinges = hinges_of(profile)
    with ServoBus(port, profile.bus.baud, profile.bus.protocol) as bus:
        _check_models(bus, profile)
        prompt.ask("support the arm: its servos let go now and stay limp. Press Enter")
        for joint in profile.joints:
            bus.write(joint.servo_id, "torque_enable", 0)
        prompt.ask("move every joint to the middle of its range, then press Enter")
        with _put_back_unless_done(bus, profile):
            offsets = _home(bus, profile)
            middles = _counts(bus, profile)
            signs = [_sign(bus, profile, hinges, index, prompt) for index in range(len(hinges))]
            joints = _ranges(bus, profile, hinges, prompt, offsets=offsets, middles=middles, signs=signs)
            calibration = Calibration(arm=profile.name, joints=joints)
            _save(path, calibration, profile)  # first: what was measured must not be lost with the line
            write_settings(bus, calibration)
    for joint, measured in zip(profile.joints, joints, strict=True):
        turned = "" if measured.sign == joint.sign else f" (the profile has {joint.sign:+d})"
        span = f"{measured.lower_count} to {measured.upper_count}"
        print(f"  {joint.name:14} counts {span:14} zero {measured.zero_count}, sign {measured.sign:+d}{turned}")
    return calibration


@contextlib.contextmanager
def _put_back_unless_done(bus: ServoBus, profile: ArmProfile) -> Iterator[None]:
    """Leave the motors as an earlier calibration has them where this one is given up."""
    ids = [joint.servo_id for joint in profile.joints]
    before = {i: {name: bus.read(i, name) for name in SETTINGS} for i in ids}
    try:
        yield
    except BaseException:
        for servo_id, settings in before.items():
            with contextlib.suppress(RobotError):
                for name, count in settings.items():
                    if bus.read(servo_id, name) != count:
                        bus.write(servo_id, name, count)
        raise


def _check_models(bus: ServoBus, profile: ArmProfile) -> None:
    for joint in profile.joints:
        wanted = profile.servo_of(joint).model_number
        try:
            model = bus.model(joint.servo_id)
        except StaleState as error:
            message = f"servo {joint.servo_id} ({joint.name}): expected an answer, got none: mbrl doctor says more"
            raise NotConnected(message) from error
        if model != wanted:
            raise NotConnected(f"servo {joint.servo_id} ({joint.name}): expected model {wanted}, got {model}")


def _home(bus: ServoBus, profile: ArmProfile) -> dict[int, int]:
    """Have every encoder read half a turn here, where the family can move its wrap; returns offsets by servo id."""
    turn, offsets = profile.bus.counts_per_turn, {}
    for servo_id, count in _counts(bus, profile).items():
        offset = bus.read(servo_id, "homing_offset")
        offsets[servo_id] = _homing_offset(count, offset, turn) if bus.family.homing_moves_wrap else 0
        if offsets[servo_id] != offset:
            bus.write(servo_id, "homing_offset", offsets[servo_id])
    for servo_id, count in _counts(bus, profile).items():
        if bus.family.homing_moves_wrap and abs(count - MIDDLE_COUNT) > HOMED_COUNTS:
            raise refuse(f"servo {servo_id}: count in the middle pose", f"about {MIDDLE_COUNT}, held still", count)
    return offsets


def _homing_offset(count: int, offset: int, turn: int) -> int:
    """The offset that makes an encoder read half a turn where it reads a count with the present offset."""
    wanted = (count + offset) % turn - MIDDLE_COUNT
    return max(wanted, 1 - MIDDLE_COUNT)  # the register holds no -2048


def _counts(bus: ServoBus, profile: ArmProfile) -> dict[int, int]:
    """Where the encoders stand, by servo id, with one request."""
    present, ids = bus.family.present, [joint.servo_id for joint in profile.joints]
    register = bus.family.registers(profile.servo_of(profile.joints[0]).model_number)["present_position"]
    for attempt in range(ATTEMPTS):
        try:
            blocks = bus.blocks("position", present, ids)
        except StaleState:
            if attempt == ATTEMPTS - 1:
                raise
        else:
            break
    return {servo_id: register.within(block, present.address) for servo_id, block in blocks.items()}


def _sign(bus: ServoBus, profile: ArmProfile, hinges: Sequence[Hinge], index: int, prompt: Prompt) -> int:
    """Have one joint moved in its positive direction; return the direction in which its encoder counted."""
    joint, turn = profile.joints[index], profile.bus.counts_per_turn
    way = positive_direction(profile, list(hinges), index)
    for _ in range(ATTEMPTS):
        before = _counts(bus, profile)
        prompt.ask(f"{joint.name}: move it {way}, by a hand's width, then press Enter")
        encoder = EncoderRange(turn)
        encoder.look(before)
        encoder.look(_counts(bus, profile))
        moved = {i: encoder.now[i] - before[i] for i in before}
        if abs(moved[joint.servo_id]) >= MOVED_COUNTS:
            return 1 if moved[joint.servo_id] > 0 else -1
        others = [other.name for other in profile.joints if abs(moved[other.servo_id]) >= MOVED_COUNTS]
        print(f"{joint.name} did not move" + (f"; {', '.join(others)} did: are ids swapped?" if others else ""))
    raise refuse(joint.name, f"a motion by hand within {ATTEMPTS} attempts", "none")


def _ranges(
    bus: ServoBus,
    profile: ArmProfile,
    hinges: Sequence[Hinge],
    prompt: Prompt,
    *,
    offsets: dict[int, int],
    middles: dict[int, int],
    signs: Sequence[int],
) -> tuple[JointCalibration, ...]:
    """Have every joint moved from end to end; again while one was not."""
    encoder = EncoderRange(profile.bus.counts_per_turn)
    for _ in range(ATTEMPTS):
        prompt.begin("move every joint slowly from one end to the other, then press Enter")
        while not prompt.entered():
            encoder.look(_counts(bus, profile))
            time.sleep(LOOK_S)
        odd = dict(_odd(profile, hinges, encoder))
        if not odd:
            break
        print("\n".join(odd.values()))
    return tuple(
        _joint(profile, hinges, index, encoder, offsets=offsets, middles=middles, sign=sign)
        for index, sign in enumerate(signs)
    )


def _odd(profile: ArmProfile, hinges: Sequence[Hinge], encoder: EncoderRange) -> Iterator[tuple[int, str]]:
    """Joints that have not been at both ends, or went too far, which are begun anew; an endless one has no ends."""
    for joint, hinge in zip(profile.joints, hinges, strict=True):
        i = joint.servo_id
        width_rad = (encoder.highest[i] - encoder.lowest[i]) * 2 * math.pi / profile.bus.counts_per_turn
        if hinge.endless:
            continue
        if width_rad < hinge.width_rad - SAME_WIDTH_RAD:
            yield i, f"{joint.name}: {width_rad:.2f} of about {hinge.width_rad:.2f} rad so far"
        elif width_rad > hinge.width_rad + SAME_WIDTH_RAD:
            encoder.forget(i)
            yield i, f"{joint.name}: {width_rad:.2f} rad, more than its {hinge.width_rad:.2f}: begin anew in its middle"


def _joint(
    profile: ArmProfile,
    hinges: Sequence[Hinge],
    index: int,
    encoder: EncoderRange,
    *,
    offsets: dict[int, int],
    middles: dict[int, int],
    sign: int,
) -> JointCalibration:
    joint, turn = profile.joints[index], profile.bus.counts_per_turn
    i = joint.servo_id
    return measured_joint(
        joint,
        hinges[index],
        turn,
        homing_offset=offsets[i],
        sign=sign,
        lower_count=encoder.lowest[i],
        upper_count=encoder.highest[i],
        middle_count=middles[i],
    )
