"""An arm as data: a YAML profile (bus, ids, signs, offsets, limits, rates) beside an MJCF (geometry, masses).

A new arm takes a new YAML and MJCF and no code. Angles in rad, at the joint; counts are the servo's own.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from mbrl_core.config import from_mapping, refuse, setting

ANY_OFFSET = 1 << 15  # no servo's register holds it


@dataclass(frozen=True, kw_only=True)
class Joint:
    """One servo: its place on the bus, its convention and its limits."""

    name: str = setting(doc="name in the MJCF, the profile and every message")
    servo_id: int = setting(doc="address on the bus", low=1, high=252)
    servo: str = setting("", doc="kind of servo, a name under `servos`; empty where there is one kind only")
    sign: int = setting(1, doc="+1 or -1: direction of the encoder against the joint", low=-1, high=1)
    zero_count: int = setting(2048, doc="encoder count at joint angle 0", low=0, high=4095)
    homing_offset: int = setting(ANY_OFFSET, doc="that register, in which zero_count holds; 32768 = whatever it is")
    lower_rad: float = setting(doc="soft lower limit; inside the MJCF's range", unit="rad", low=-2 * math.pi)
    upper_rad: float = setting(doc="soft upper limit; inside the MJCF's range", unit="rad", high=2 * math.pi)
    home_rad: float = setting(0.0, doc="angle at the start of every episode", unit="rad")
    park_rad: float | None = setting(None, doc="angle to park at, where the arm rests; none = home_rad", unit="rad")
    velocity_rad_s: float = setting(1.5, doc="speed limit of the command", unit="rad/s", low=0.01)
    acceleration_rad_s2: float = setting(30.0, doc="acceleration limit of the command", unit="rad/s^2", low=0.1)
    jerk_rad_s3: float = setting(3000.0, doc="jerk limit of the command", unit="rad/s^3", low=1)
    controlled: bool = setting(True, doc="moved by the policy; otherwise held at home_rad")


@dataclass(frozen=True, kw_only=True)
class Servo:
    """A kind of servo: what it calls itself and what it stands."""

    name: str = setting(doc="name of the kind, for example sts3215")
    model_number: int = setting(doc="what it must answer when asked for its model", low=1)
    min_voltage_v: float = setting(doc="below it the arm stops", unit="V", low=0)
    max_voltage_v: float = setting(doc="above it the arm stops", unit="V", low=0)
    warm_c: float = setting(55.0, doc="temperature from which the arm slows", unit="degC", low=0)
    hot_c: float = setting(65.0, doc="temperature at which it parks", unit="degC", low=0)
    stall_current_a: float = setting(doc="current that no free motion needs", unit="A", low=0)
    stall_s: float = setting(0.3, doc="longest time above that current without motion", unit="s", low=0.01)


@dataclass(frozen=True, kw_only=True)
class Bus:
    """The wire that the servos share, or the controllers that stand for it."""

    protocol: str = setting(doc="servo family, or ros2_control", one_of=("feetech_sts", "dynamixel_x", "ros2_control"))
    baud: int = setting(1_000_000, doc="bits per second on the wire", unit="bit/s", low=9600)
    counts_per_turn: int = setting(4096, doc="encoder resolution", low=256)
    controller: str = setting("", doc="ros2_control: name of the controller that takes commands")
    controller_type: str = setting(
        "forward_command", doc="ros2_control: what it is", one_of=("forward_command", "joint_trajectory")
    )


@dataclass(frozen=True, kw_only=True)
class ArmProfile:
    """One arm. Joint order here is the order of every vector in the project."""

    name: str = setting(doc="name of the arm")
    mjcf: str = setting(doc="MJCF file beside the profile")
    tool_site: str = setting(doc="MJCF site whose position is the tool tip")
    bus: Bus = setting(doc="the wire")
    servos: tuple[Servo, ...] = setting((), doc="kinds of servo on the bus; none for ros2_control")
    joints: tuple[Joint, ...] = setting(doc="servos, base to tip")
    bus_hz: float = setting(100.0, doc="rate of the control loop", unit="Hz", low=10, high=1000)
    policy_hz: float = setting(20.0, doc="rate of the policy; divides bus_hz", unit="Hz", low=1, high=200)
    action_scale_rad: float = setting(
        0.04, doc="change of a joint's target in one policy step at action 1", unit="rad", low=1e-4, high=0.5
    )
    tcp_speed_m_s: float = setting(0.25, doc="speed limit of the tool tip", unit="m/s", low=0.01, high=2.0)
    clearance_m: float = setting(
        0.005, doc="links that are no neighbours stay this far apart", unit="m", low=0, high=0.1
    )
    workspace_low_m: tuple[float, ...] = setting(doc="lower corner of the box for the tip, base frame", unit="m")
    workspace_high_m: tuple[float, ...] = setting(doc="upper corner of that box", unit="m")
    goal_low_m: tuple[float, ...] = setting(doc="lower corner of the box that goals are drawn in, base frame", unit="m")
    goal_high_m: tuple[float, ...] = setting(doc="upper corner of that box", unit="m")
    directory: str = setting("", doc="folder of the profile; filled in by load_profile")

    @property
    def mjcf_path(self) -> Path:
        """The MJCF beside the profile."""
        return Path(self.directory) / self.mjcf

    @property
    def controlled(self) -> np.ndarray:
        """Indices, into `joints`, of those that the policy moves: (J,)."""
        return np.array([index for index, joint in enumerate(self.joints) if joint.controlled])

    @property
    def park_rad(self) -> np.ndarray:
        """Where the arm parks: (J_all,) rad."""
        return np.array([joint.home_rad if joint.park_rad is None else joint.park_rad for joint in self.joints])

    @property
    def ticks_per_step(self) -> int:
        """Bus cycles in one policy step."""
        return round(self.bus_hz / self.policy_hz)

    @property
    def step_s(self) -> float:
        """Duration of one policy step in s."""
        return 1.0 / self.policy_hz

    def servo_of(self, joint: Joint) -> Servo:
        """The kind of servo that drives a joint.

        Raises:
          ValueError: the profile names no such kind (ros2_control has none).
        """
        for servo in self.servos:
            if servo.name == joint.servo or (not joint.servo and len(self.servos) == 1):
                return servo
        raise refuse(f"{joint.name}.servo", f"one of {[servo.name for servo in self.servos]}", joint.servo)

    def soft_counts(self, joint: Joint) -> tuple[float, float]:
        """Encoder counts of a joint's lower and upper soft limit, in that order: with sign -1 the first is higher."""
        per_rad = joint.sign * self.bus.counts_per_turn / (2 * math.pi)
        return joint.zero_count + joint.lower_rad * per_rad, joint.zero_count + joint.upper_rad * per_rad

    def vector(self, field: str) -> np.ndarray:
        """One numeric field of all joints, in order: (J_all,)."""
        return np.array([getattr(joint, field) for joint in self.joints], dtype=float)


def load_profile(path: str | Path) -> ArmProfile:
    """Read and check a profile.

    Raises:
      ValueError: an unknown, missing or out-of-bounds field, or fields that contradict each other.
    """
    path = Path(path)
    if not path.is_file():
        raise refuse("profile", "a file", str(path))
    try:
        mapping = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise refuse(f"profile {path.name}", "YAML", str(error)) from error
    if isinstance(mapping, dict) and "directory" not in mapping:
        mapping["directory"] = str(path.resolve().parent)
    profile = from_mapping(ArmProfile, mapping, path.name)
    _check_profile(profile, path.name)
    return profile


def _check_profile(profile: ArmProfile, where: str) -> None:
    names = [joint.name for joint in profile.joints]
    ids = [joint.servo_id for joint in profile.joints]
    if len(set(names)) != len(names) or len(set(ids)) != len(ids):
        raise refuse(f"{where}.joints", "unique names and servo ids", list(zip(names, ids, strict=True)))
    for joint in profile.joints:
        if joint.sign == 0:
            raise refuse(f"{where}.{joint.name}.sign", "+1 or -1", joint.sign)
        if not joint.lower_rad <= joint.home_rad <= joint.upper_rad:
            span = f"lower_rad <= home_rad <= upper_rad, [{joint.lower_rad}, {joint.upper_rad}]"
            raise refuse(f"{where}.{joint.name}.home_rad", span, joint.home_rad)
        if joint.park_rad is not None and not joint.lower_rad <= joint.park_rad <= joint.upper_rad:
            raise refuse(f"{where}.{joint.name}.park_rad", f"{joint.lower_rad} to {joint.upper_rad}", joint.park_rad)
    if not any(joint.controlled for joint in profile.joints):
        raise refuse(f"{where}.joints", "at least one controlled joint", names)
    if abs(profile.bus_hz / profile.policy_hz - profile.ticks_per_step) > 1e-9:
        raise refuse(f"{where}.policy_hz", f"a divisor of bus_hz {profile.bus_hz}", profile.policy_hz)
    _check_servos(profile, where)
    for box in ("goal", "workspace"):
        _check_box(profile, box, where)


def _check_servos(profile: ArmProfile, where: str) -> None:
    kinds = [servo.name for servo in profile.servos]
    if len(set(kinds)) != len(kinds):
        raise refuse(f"{where}.servos", "unique names", kinds)
    for servo in profile.servos:
        if servo.min_voltage_v >= servo.max_voltage_v:
            raise refuse(f"{where}.{servo.name}.min_voltage_v", f"below {servo.max_voltage_v}", servo.min_voltage_v)
        if servo.warm_c >= servo.hot_c:
            raise refuse(f"{where}.{servo.name}.warm_c", f"below hot_c {servo.hot_c}", servo.warm_c)
    if profile.bus.protocol == "ros2_control":
        if not profile.bus.controller:
            raise refuse(f"{where}.bus.controller", "the name of a controller", profile.bus.controller)
        return
    for joint in profile.joints:
        profile.servo_of(joint)


def _check_box(profile: ArmProfile, box: str, where: str) -> None:
    low, high = getattr(profile, f"{box}_low_m"), getattr(profile, f"{box}_high_m")
    for name, corner in ((f"{box}_low_m", low), (f"{box}_high_m", high)):
        if len(corner) != 3:
            raise refuse(f"{where}.{name}", "3 numbers", corner)
    if any(lower >= upper for lower, upper in zip(low, high, strict=True)):
        raise refuse(f"{where}.{box}_low_m", f"below {box}_high_m {high}", low)
