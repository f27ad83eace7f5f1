"""An arm as data: a YAML profile (bus, ids, signs, offsets, limits, rates) beside an MJCF (geometry, masses).

A new arm takes a new YAML and MJCF and no code. Angles in rad, at the joint; counts are the servo's own.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from mbrl_core.config import from_mapping, refuse, setting


@dataclass(frozen=True, kw_only=True)
class Joint:
    """One servo: its place on the bus, its convention and its limits."""

    name: str = setting(doc="name in the MJCF, the profile and every message")
    servo_id: int = setting(doc="address on the bus", low=1, high=252)
    sign: int = setting(1, doc="+1 or -1: direction of the encoder against the joint", low=-1, high=1)
    zero_count: int = setting(2048, doc="encoder count at joint angle 0", low=0, high=4095)
    lower_rad: float = setting(doc="soft lower limit; inside the MJCF's range", unit="rad", low=-2 * math.pi)
    upper_rad: float = setting(doc="soft upper limit; inside the MJCF's range", unit="rad", high=2 * math.pi)
    home_rad: float = setting(0.0, doc="angle at the start of every episode", unit="rad")
    velocity_rad_s: float = setting(1.5, doc="speed limit of the command", unit="rad/s", low=0.01)
    acceleration_rad_s2: float = setting(30.0, doc="acceleration limit of the command", unit="rad/s^2", low=0.1)
    controlled: bool = setting(True, doc="moved by the policy; otherwise held at home_rad")


@dataclass(frozen=True, kw_only=True)
class Bus:
    """The wire that the servos share."""

    protocol: str = setting(doc="servo family", one_of=("feetech_sts",))
    baud: int = setting(1_000_000, doc="bits per second on the wire", unit="bit/s", low=9600)
    counts_per_turn: int = setting(4096, doc="encoder resolution", low=256)
    model_number: int = setting(777, doc="what each servo must answer when asked for its model")


@dataclass(frozen=True, kw_only=True)
class ArmProfile:
    """One arm. Joint order here is the order of every vector in the project."""

    name: str = setting(doc="name of the arm")
    mjcf: str = setting(doc="MJCF file beside the profile")
    tool_site: str = setting(doc="MJCF site whose position is the tool tip")
    bus: Bus = setting(doc="the wire")
    joints: tuple[Joint, ...] = setting(doc="servos, base to tip")
    bus_hz: float = setting(100.0, doc="rate of the control loop", unit="Hz", low=10, high=1000)
    policy_hz: float = setting(20.0, doc="rate of the policy; divides bus_hz", unit="Hz", low=1, high=200)
    action_scale_rad: float = setting(
        0.04, doc="change of a joint's target in one policy step at action 1", unit="rad", low=1e-4, high=0.5
    )
    tcp_speed_m_s: float = setting(0.25, doc="speed limit of the tool tip", unit="m/s", low=0.01, high=2.0)
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
    def ticks_per_step(self) -> int:
        """Bus cycles in one policy step."""
        return round(self.bus_hz / self.policy_hz)

    @property
    def step_s(self) -> float:
        """Duration of one policy step in s."""
        return 1.0 / self.policy_hz

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
    if not any(joint.controlled for joint in profile.joints):
        raise refuse(f"{where}.joints", "at least one controlled joint", names)
    if abs(profile.bus_hz / profile.policy_hz - profile.ticks_per_step) > 1e-9:
        raise refuse(f"{where}.policy_hz", f"a divisor of bus_hz {profile.bus_hz}", profile.policy_hz)
    for field in ("goal_low_m", "goal_high_m"):
        if len(getattr(profile, field)) != 3:
            raise refuse(f"{where}.{field}", "3 numbers", getattr(profile, field))
    if any(low >= high for low, high in zip(profile.goal_low_m, profile.goal_high_m, strict=True)):
        raise refuse(f"{where}.goal_low_m", f"below goal_high_m {profile.goal_high_m}", profile.goal_low_m)
