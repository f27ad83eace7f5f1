"""`mbrl setup-motor JOINT`: gives the only motor on the bus the id and baud rate that its joint has. No ROS, no torch.

The motor is found at any rate and id, must be of the joint's model, goes limp, is written to and read back.
"""

import dataclasses

from mbrl_core.arm import ArmProfile, Joint, load_profile
from mbrl_core.config import refuse, setting
from mbrl_core.robots.errors import NotConnected
from mbrl_core.robots.families import family_of
from mbrl_core.robots.servo_bus import ServoBus
from mbrl_ros.prompt import Prompt
from mbrl_sim import profile_path


@dataclasses.dataclass(frozen=True, kw_only=True)
class SetupMotorConfig:
    """Give the only motor on the bus the id and baud rate of a joint."""

    joint: str = setting(doc="joint of the profile that the motor will drive")
    profile: str = setting("so101", doc="arm: a name under the twin's assets, or the path of a YAML profile")
    port: str = setting("", doc="serial port of the servo bus, for example /dev/ttyUSB0")
    yes: bool = setting(False, doc="do not ask whether only that motor is connected")


def setup_motor(config: SetupMotorConfig) -> int:
    """Set it up and say what was done.

    Raises:
      ValueError: no such joint, no bus or no port.
      RobotError: no motor, several, or one of another model answers; or it did not take what was written.
    """
    profile = load_profile(profile_path(config.profile))
    family = family_of(profile.bus.protocol)
    joint = next((joint for joint in profile.joints if joint.name == config.joint), None)
    if joint is None:
        raise refuse("joint", f"one of {[joint.name for joint in profile.joints]}", config.joint)
    if not config.port:
        raise refuse("port", "a serial port of a servo bus, for example /dev/ttyUSB0", config.port)
    if not config.yes:
        Prompt().ask(f"connect the motor of {joint.name}, and no other, then press Enter")
    baud, servo_id = _find(config.port, profile)
    print(f"found a motor with id {servo_id} at {baud} bit/s", flush=True)
    with ServoBus(config.port, baud, profile.bus.protocol) as bus:
        _check_model(bus, servo_id, joint, profile)
        bus.write(servo_id, "torque_enable", 0)
        if servo_id != joint.servo_id:
            bus.write(servo_id, "id", joint.servo_id)
        wanted = {"return_delay": 0, "operating_mode": family.position_mode, "drive_mode": 0}
        for name, count in wanted.items():
            if name in bus.table(joint.servo_id) and bus.read(joint.servo_id, name) != count:
                bus.write(joint.servo_id, name, count)
        if baud != profile.bus.baud:
            bus.move_to_baud(joint.servo_id, profile.bus.baud)
    found = _find(config.port, profile)
    if found != (profile.bus.baud, joint.servo_id):
        raise NotConnected(f"motor: expected id {joint.servo_id} at {profile.bus.baud} bit/s afterwards, got {found}")
    print(f"{joint.name}: id {joint.servo_id} at {profile.bus.baud} bit/s")
    return 0


def _find(port: str, profile: ArmProfile) -> tuple[int, int]:
    """Baud rate and id of the only motor, the profile's rate first.

    Raises:
      NotConnected: there is none, there are several, or the port cannot be opened.
    """
    rates = family_of(profile.bus.protocol).bauds.values()
    for baud in sorted(rates, key=lambda rate: (rate != profile.bus.baud, -rate)):
        with ServoBus(port, baud, profile.bus.protocol) as bus:
            ids, collided = bus.everybody()
        if len(ids) > 1 or (ids and collided):
            raise NotConnected(f"motors at {baud} bit/s: expected one alone on the bus, got {ids}: unplug the others")
        if ids:
            return baud, ids[0]
    raise NotConnected(f"motor: expected one on {port}, got no answer at {sorted(rates)} bit/s: check power and cable")


def _check_model(bus: ServoBus, servo_id: int, joint: Joint, profile: ArmProfile) -> None:
    wanted = profile.servo_of(joint)
    model = bus.model(servo_id)
    if model != wanted.model_number:
        raise NotConnected(
            f"{joint.name}: expected a motor of model {wanted.model_number} ({wanted.name}), got {model}: is it "
            "another joint's?"
        )
