"""What an arm's own measurements say of its health: pure functions from one cycle's reading to a verdict.

Three kinds of answer. A reading that cannot be true (not finite, or a jump that no motor makes) is an objection to the
sample. A true reading of a servo that suffers is a complaint, which stops the arm where it is. Warmth slows it first;
a hot arm is still sound, and parks: where it stands it would go on carrying its weight.
"""

from dataclasses import dataclass, replace

import numpy as np

from mbrl_core.arm import ArmProfile
from mbrl_core.robots.reading import ArmReading
from mbrl_core.robots.servo_fault import fault_names
from mbrl_core.types import Vector

FASTEST_RAD_S = 12.0  # no servo of these turns faster, even falling
JUMP_RAD = 0.05  # beyond that: play and noise
STILL_RAD_S = 0.05  # a joint slower than this does not turn
FULL_LOAD = 0.95  # of the drive: what counts as a stall where no current is measured
FOLLOWED_RAD = 0.01  # motion that shows that an encoder lives
UNFOLLOWED_RAD = 0.15  # a target this far on, and neither motion nor effort: no drive, or a dead encoder
PUSHING = 0.3  # effort, over that of the last motion, of a motor that strives for its target
VOLTAGE_CYCLES = 10  # out of range in a row: shorter dips are the motors' own
SLOWEST = 0.25  # share of its speed that a warm arm keeps at least, and a hot one on its way to park


@dataclass(frozen=True)
class Tolerances:
    """What the servos of an arm stand; (J_all,) each. Infinite where a profile names no servo."""

    names: tuple[str, ...]
    min_voltage_v: Vector
    max_voltage_v: Vector
    warm_c: Vector
    hot_c: Vector
    stall_current_a: Vector
    stall_s: Vector

    @staticmethod
    def of(profile: ArmProfile) -> "Tolerances":
        """Those of a profile's kinds of servo."""
        names = tuple(joint.name for joint in profile.joints)
        if not profile.servos:
            endless = np.full(len(names), np.inf)
            return Tolerances(names, -endless, endless, endless, endless, endless, endless)
        servos = [profile.servo_of(joint) for joint in profile.joints]
        fields = ("min_voltage_v", "max_voltage_v", "warm_c", "hot_c", "stall_current_a", "stall_s")
        return Tolerances(names, *(np.array([getattr(servo, name) for servo in servos]) for name in fields))


@dataclass(frozen=True)
class Health:
    """What has to be remembered from one cycle to the next; (J_all,) each."""

    stamp_s: float
    position: Vector  # rad, of the last reading that was believed
    stalled_s: Vector  # how long each joint has drawn too much without turning
    odd_voltage: Vector  # cycles in a row
    seen: Vector  # rad, where each joint last was seen to move to
    effort: Vector  # share of what a stall takes, in [0, 1] or so, that it took then; NaN where nothing measures it
    target: Vector  # rad, where it was told to be then, or when its motor last was seen to push

    @staticmethod
    def begin(reading: ArmReading, target: Vector, tolerances: Tolerances) -> "Health":
        """Nothing is held against the arm yet; `target` is where it is told to be, (J_all,) rad."""
        none, effort = np.zeros(len(reading.position)), _effort(reading, tolerances)
        return Health(reading.stamp_s, reading.position, none, none, reading.position, effort, np.asarray(target))


@dataclass(frozen=True)
class Verdict:
    """What follows from a reading.

    Attributes:
      objection: why it cannot be true; empty where it can.
      complaint: why the arm must stop where it is; empty where it need not.
      hot: why it must park; empty where it need not.
      share: of its speed that the arm may use, in [SLOWEST, 1].
    """

    objection: str = ""
    complaint: str = ""
    hot: str = ""
    share: float = 1.0


def judge(
    health: Health, reading: ArmReading, target: Vector, tolerances: Tolerances, pace: float = 1.0
) -> tuple[Health, Verdict]:
    """Judge one cycle.

    Args:
      health: what the cycles before have left.
      reading: this cycle's.
      target: (J_all,) rad, where the arm was last told to be.
      tolerances: what its servos stand.
      pace: robot seconds in a second of the readings' stamps; other than 1 only on the twin.

    Returns:
      What to remember, nothing but its time where the reading is not believed, and the verdict.
    """
    elapsed_s = pace * max(0.0, reading.stamp_s - health.stamp_s)
    objection = _objection(health, reading, tolerances.names, elapsed_s)
    if objection:  # what jumped must come back by itself: time makes no jump possible while readings arrive
        return replace(health, stamp_s=reading.stamp_s), Verdict(objection=objection)
    after = _remember(health, reading, target, tolerances, elapsed_s)
    with np.errstate(invalid="ignore"):  # an arm that names no servo stands any warmth: infinity less infinity
        share = (tolerances.hot_c - reading.temperature_c) / (tolerances.hot_c - tolerances.warm_c)
    worst = float(np.nan_to_num(share, nan=1.0, posinf=1.0).min())
    return after, Verdict(
        complaint=_complaint(after, reading, target, tolerances),
        hot=_hot(reading, tolerances),
        share=float(np.clip(worst, SLOWEST, 1.0)),
    )


def _objection(health: Health, reading: ArmReading, names: tuple[str, ...], elapsed_s: float) -> str:
    if not np.isfinite(reading.position).all():
        return f"{names[int(np.flatnonzero(~np.isfinite(reading.position))[0])]}: expected a finite angle, got NaN"
    reach = FASTEST_RAD_S * elapsed_s + JUMP_RAD
    jump = np.abs(reading.position - health.position)
    worst = int(jump.argmax())
    if jump[worst] <= reach:
        return ""
    return f"{names[worst]}: expected at most {reach:.2f} rad since the last reading, got a jump of {jump[worst]:.2f}"


def _remember(health: Health, reading: ArmReading, target: Vector, tolerances: Tolerances, elapsed_s: float) -> Health:
    current, load = np.abs(reading.current_a), np.abs(reading.load)
    strained = np.where(np.isnan(current), load > FULL_LOAD, current > tolerances.stall_current_a)
    stalled = strained & (np.abs(reading.velocity) < STILL_RAD_S)
    odd = (reading.voltage_v < tolerances.min_voltage_v) | (reading.voltage_v > tolerances.max_voltage_v)
    moved, effort = np.abs(reading.position - health.seen) > FOLLOWED_RAD, _effort(reading, tolerances)
    # a motor that strives after its target, and stands, has met something: a grip, or a stall, which has its own limit
    pushing = np.abs(effort - health.effort) > PUSHING
    return replace(
        health,
        stamp_s=reading.stamp_s,
        position=reading.position,
        stalled_s=np.where(stalled, health.stalled_s + elapsed_s, 0.0),
        odd_voltage=np.where(odd, health.odd_voltage + 1, 0),
        seen=np.where(moved, reading.position, health.seen),
        effort=np.where(moved, effort, health.effort),
        target=np.where(moved | pushing, target, health.target),
    )


def _effort(reading: ArmReading, tolerances: Tolerances) -> Vector:
    """What the motors exert: current by stall current, or the drive where no current is measured: (J_all,)."""
    current = np.abs(reading.current_a) / tolerances.stall_current_a
    return np.asarray(np.where(np.isnan(reading.current_a), np.abs(reading.load), current))


def _hot(reading: ArmReading, tolerances: Tolerances) -> str:
    """The first joint that is too hot to go on."""
    for name, warmth, hot in zip(tolerances.names, reading.temperature_c, tolerances.hot_c, strict=True):
        if warmth >= hot:
            return f"{name}: expected below {hot:g} degC, got {warmth:g}: let it cool"
    return ""


def _complaint(health: Health, reading: ArmReading, target: Vector, tolerances: Tolerances) -> str:
    """The first joint's that has one."""
    for index, name in enumerate(tolerances.names):
        expected = _expected_of(index, health, reading, target, tolerances)
        if expected:
            return f"{name}: expected {expected}"
    return ""


def _expected_of(joint: int, health: Health, reading: ArmReading, target: Vector, tolerances: Tolerances) -> str:
    """What was expected of a joint and what it does instead, the servo's own words first; empty where it is well."""
    status, voltage = int(reading.status[joint]), reading.voltage_v[joint]
    low, high = tolerances.min_voltage_v[joint], tolerances.max_voltage_v[joint]
    stalled_s, most_s = health.stalled_s[joint], tolerances.stall_s[joint]
    unfollowed = abs(target[joint] - health.target[joint])
    if status:
        return f"a servo without faults, got {fault_names(status)}"
    if health.odd_voltage[joint] >= VOLTAGE_CYCLES:
        return f"{low:g} to {high:g} V, got {voltage:g}: check the supply"
    if stalled_s >= most_s:
        return f"a stall of less than {most_s:g} s, got {stalled_s:.2f} s: is it blocked?"
    if unfollowed > UNFOLLOWED_RAD:
        return f"to follow its target, got no motion for {unfollowed:.2f} rad of it: no drive, or a dead encoder"
    return ""
