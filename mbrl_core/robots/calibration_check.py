"""Whether the motors are set as a calibration file says; writes them so, too. The servos are limp meanwhile."""

from collections.abc import Iterator

from mbrl_core.arm import ArmProfile
from mbrl_core.calibration import Calibration, JointCalibration
from mbrl_core.robots.errors import StaleState
from mbrl_core.robots.finding import Finding
from mbrl_core.robots.servo_bus import ServoBus

BEYOND_COUNTS = 40  # of its measured range: play and the give of its ends
REMEDY = "name this arm's own file, or measure again: mbrl calibrate"


SETTINGS = ("homing_offset", "min_position", "max_position")  # registers that hold a part of a calibration


def settings_of(joint: JointCalibration) -> dict[str, int]:
    """What the calibration has in SETTINGS, by our names."""
    return dict(zip(SETTINGS, (joint.homing_offset, joint.lower_count, joint.upper_count), strict=True))


def write_settings(bus: ServoBus, calibration: Calibration) -> None:
    """Give the motors what the file says and read it back.

    Raises:
      Fault: a servo holds (nothing was sent to it), or did not take it.
      StaleState: one is silent.
    """
    for joint in calibration.joints:
        for name, count in settings_of(joint).items():
            if bus.read(joint.servo_id, name) != count:
                bus.write(joint.servo_id, name, count)


def disagreements(bus: ServoBus, calibration: Calibration, profile: ArmProfile) -> Iterator[Finding]:
    """Where file and motors differ, and joints that stand where the file says that they cannot."""
    for joint in calibration.joints:
        name = f"servo {joint.servo_id} ({joint.name})"
        try:
            table = bus.table(joint.servo_id)
            got = {register: bus.read(joint.servo_id, register) for register in settings_of(joint)}
            block = bus.blocks("position", bus.family.present, [joint.servo_id])[joint.servo_id]
        except StaleState:
            yield Finding(kind="calibration", text=f"{name} does not answer", remedy="mbrl doctor")
            continue
        for register, wanted in settings_of(joint).items():
            if got[register] != wanted:
                text = f"{name}: {register} is {got[register]} in the motor and {wanted} in the file"
                yield Finding(kind="calibration", text=text, remedy=REMEDY)
        count = table["present_position"].within(block, bus.family.present.address)
        if not joint.lower_count - BEYOND_COUNTS <= count <= joint.upper_count + BEYOND_COUNTS:
            span = f"{joint.lower_count} to {joint.upper_count}"
            text = f"{name} stands at count {count}, and reaches {span} by the file of {profile.name}"
            yield Finding(kind="calibration", text=text, remedy=REMEDY)
