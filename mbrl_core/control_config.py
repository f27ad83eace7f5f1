"""Settings, modes and counters of the control loop."""

from dataclasses import dataclass
from enum import Enum

from mbrl_core.config import setting

CALIBRATION_DOC = "calibration file of this arm (mbrl calibrate); empty = the profile's zeros and signs hold"


class Mode(Enum):
    """What the loop is at; mbrl_msgs/SafetyStatus calls resetting, parking and braking moving, too."""

    INACTIVE = "inactive"
    HOLDING = "holding"
    RESETTING = "resetting"
    MOVING = "moving"
    PARKING = "parking"
    BRAKING = "braking"
    LATCHED = "latched"


@dataclass(frozen=True, kw_only=True)
class ControlConfig:
    """The robot interface's settings."""

    profile: str = setting("so101", doc="arm: a name under the twin's assets, or the path of a YAML profile")
    port: str = setting("", doc="serial port, for example /dev/ttyUSB0")
    calibration: str = setting("", doc=CALIBRATION_DOC)
    speed: float = setting(1.0, doc="robot seconds per wall second; other than 1 only on the twin", low=0.01, high=100)
    command_timeout_s: float = setting(
        0.15, doc="silence of the policy until the arm brakes, holds and latches", unit="s, wall", low=0.01, high=2
    )
    max_steps: int = setting(0, doc="hold after this many real steps; 0 = no limit", low=0)
    episodes: int = setting(0, doc="hold after this many episodes; 0 = no limit", low=0)
    seed: int = setting(0, doc="seed of the goals", low=0)
    startup_margin_rad: float = setting(
        0.2, doc="refuse to activate when a joint is found further outside its limits", unit="rad", low=0, high=0.5
    )
    settle_s: float = setting(0.25, doc="rest at home before an episode", unit="s, robot", low=0, high=10)
    reset_tolerance_rad: float = setting(0.1, doc="distance from home that counts as home", unit="rad", low=0.001)
    reset_timeout_s: float = setting(15.0, doc="latch when home is not reached in time", unit="s, robot", low=1)
    park_timeout_s: float = setting(
        15.0, doc="give up parking when it takes longer: latch", unit="s, robot", low=1, high=15
    )
    on_shutdown: str = setting(
        "hold",
        doc="end of an arm that is well: hold where it is, park and hold, or park and go limp (it may fall there)",
        one_of=("hold", "park", "limp"),
    )
    estop_timeout_s: float = setting(
        0.0,
        doc="longest silence on emergency_stop, which then counts as pressed; 0 = nobody need publish there",
        unit="s, wall",
        low=0,
        high=10,
    )
    stamp_ahead_s: float = setting(
        0.1, doc="refuse actions whose stamp is this far in the future", unit="s, wall", low=0, high=10
    )
    check_stamps: bool = setting(
        True, doc="refuse actions by their stamps; off where the policy's machine has another clock"
    )
    max_bus_errors: int = setting(3, doc="failed cycles in a row that latch", low=1, high=100)


@dataclass
class Counters:
    """What happened since the start."""

    cycles: int = 0
    missed_cycles: int = 0
    cycle_late_max_s: float = 0.0
    bus_errors: int = 0
    late: int = 0
    clamped: int = 0
    slowed: int = 0  # steps made smaller by the disagreement gate
    held: int = 0  # those of them that it let nothing through of
    watchdog_trips: int = 0
    real_steps: int = 0
    episodes: int = 0
