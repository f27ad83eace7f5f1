"""What a survey says of one servo that answers, each trouble with its remedy: pure functions."""

import math
from collections.abc import Callable, Iterator

from mbrl_core.arm import ArmProfile
from mbrl_core.health import FASTEST_RAD_S, JUMP_RAD
from mbrl_core.robots.bus_survey import ServoSurvey
from mbrl_core.robots.families import family_of
from mbrl_core.robots.finding import Finding
from mbrl_core.robots.servo_fault import ServoFault

OUTSIDE_RAD = 0.2  # beyond its limits, where the start-up guard refuses it


def _identity(servo: ServoSurvey, profile: ArmProfile) -> Iterator[Finding]:
    family, got = family_of(profile.bus.protocol), servo.settings
    kind = profile.servo_of(servo.joint)
    if not got.keys() >= {"model_number", "operating_mode"}:
        yield Finding(
            kind="unreadable",
            text=f"{servo.name} answers, but its settings could not be read",
            remedy="mend the line first (the findings above), then run mbrl doctor again",
        )
        return
    if got["model_number"] != kind.model_number:
        yield Finding(
            kind="model",
            text=f"{servo.name}: model {got['model_number']}, the profile has {kind.model_number} ({kind.name})",
            remedy="two joints' ids are swapped (mbrl setup-motor), or it is another arm: choose its --profile",
        )
    if got["operating_mode"] != family.position_mode:
        yield Finding(
            kind="operating mode",
            text=f"{servo.name}: operating mode {got['operating_mode']}, not {family.position_mode} (position)",
            remedy=f"mbrl setup-motor {servo.joint.name} sets it",
        )
    if got.get("drive_mode", 0):
        yield Finding(
            kind="drive mode",
            text=f"{servo.name}: drive mode {got['drive_mode']}; signs belong in the profile",
            remedy=f"mbrl setup-motor {servo.joint.name} sets it to 0; then mbrl calibrate",
        )


def _ranges(servo: ServoSurvey, profile: ArmProfile) -> Iterator[Finding]:
    """Soft limits against the encoder's turn and the servo's own range."""
    got, turn = servo.settings, profile.bus.counts_per_turn
    low, high = sorted(profile.soft_counts(servo.joint))
    if low < 0 or high > turn - 1:
        yield Finding(
            kind="wrap",
            text=f"{servo.name}: its soft limits are counts {low:.0f} to {high:.0f}, past the encoder's end (0 to "
            f"{turn - 1}), where a goal would drive it round the other way",
            remedy="mbrl calibrate, which puts the middle of the range into the middle of the encoder",
        )
    elif "max_position" in got and not got["min_position"] <= low <= high <= got["max_position"]:
        yield Finding(
            kind="position range",
            text=f"{servo.name} takes goals from {got['min_position']} to {got['max_position']} only, the soft limits "
            f"are counts {low:.0f} to {high:.0f}",
            remedy="mbrl calibrate, which sets it; or narrow lower_rad and upper_rad in the profile",
        )


def _position(servo: ServoSurvey, profile: ArmProfile) -> Iterator[Finding]:
    """Where it is, and whether it got there as a motor could."""
    turn, joint = profile.bus.counts_per_turn, servo.joint
    per_rad = turn / (2 * math.pi)
    steps = list(zip(servo.counts, servo.counts[1:], strict=False))
    for (before_s, before), (after_s, after) in steps:
        way = (after - before + turn // 2) % turn - turn // 2
        if abs(way) > (FASTEST_RAD_S * (after_s - before_s) + JUMP_RAD) * per_rad:
            yield Finding(
                kind="encoder jump",
                text=f"{servo.name}: its encoder jumped by {way} counts in {1e3 * (after_s - before_s):.0f} ms",
                remedy="its sensor or magnet is loose or failing, or its power was cut: check the plug; if it comes "
                "again, replace the servo",
            )
            return
    if any(abs(after - before) > turn // 2 for (_, before), (_, after) in steps):
        yield Finding(
            kind="wrap",
            text=f"{servo.name}: its encoder passed its end, from {turn - 1} to 0 or back",
            remedy="mbrl calibrate, which puts the middle of the range into the middle of the encoder",
        )
    if servo.counts:
        angle = joint.sign * (servo.counts[-1][1] - joint.zero_count) / per_rad
        beyond = max(joint.lower_rad - angle, angle - joint.upper_rad)
        if beyond > OUTSIDE_RAD:
            yield Finding(
                kind="outside",
                text=f"{servo.name} stands at {angle:.2f} rad, outside its limits {joint.lower_rad:g} to "
                f"{joint.upper_rad:g}",
                remedy="move it inside by hand; where it is inside already, the zero is wrong: mbrl calibrate",
            )


def _supply(servo: ServoSurvey, profile: ArmProfile) -> Iterator[Finding]:
    kind = profile.servo_of(servo.joint)
    low, high = min(servo.voltage_v, default=math.inf), max(servo.voltage_v, default=-math.inf)
    if low < kind.min_voltage_v:
        yield Finding(
            kind="voltage",
            text=f"{servo.name}: {low:.1f} V, at least {kind.min_voltage_v:g} V wanted",
            remedy="a stronger supply of the right voltage, thicker or shorter leads; a battery wants charging",
        )
    elif high > kind.max_voltage_v:
        yield Finding(
            kind="voltage",
            text=f"{servo.name}: {high:.1f} V, at most {kind.max_voltage_v:g} V wanted",
            remedy="switch off at once: this supply is not this arm's",
        )


def _warmth(servo: ServoSurvey, profile: ArmProfile) -> Iterator[Finding]:
    kind, warmest = profile.servo_of(servo.joint), max(servo.temperature_c, default=-math.inf)
    if warmest >= kind.warm_c:
        hot = "it will not be driven" if warmest >= kind.hot_c else "the arm will be slowed"
        yield Finding(
            kind="temperature",
            text=f"{servo.name}: {warmest:.0f} degC, {hot} (warm from {kind.warm_c:g}, hot from {kind.hot_c:g})",
            remedy="switch torque off and let it cool; then a pose with less load at home, or shorter episodes",
        )


REMEDIES = {
    ServoFault.VOLTAGE: "check the supply's voltage under load, then switch the arm off and on",
    ServoFault.ENCODER: "switch the arm off and on; if it comes again, replace the servo",
    ServoFault.TEMPERATURE: "switch torque off, let it cool, then switch the arm off and on",
    ServoFault.CURRENT: "find what blocks the joint, then switch the arm off and on",
    ServoFault.ANGLE: "move the joint inside its range by hand, then mbrl calibrate",
    ServoFault.OVERLOAD: "find what blocks or loads the joint, then switch the arm off and on",
    ServoFault.SHOCK: "check supply and leads for a short, then switch the arm off and on",
    ServoFault.UNKNOWN: "switch the arm off and on; if it comes again, look at the servo with its vendor's tool",
}


def _complaints(servo: ServoSurvey, profile: ArmProfile) -> Iterator[Finding]:
    del profile
    for fault, remedy in REMEDIES.items():
        if servo.faults & fault:
            yield Finding(
                kind=f"fault {str(fault.name).lower()}",
                text=f"{servo.name} reports a fault: {str(fault.name).lower()}",
                remedy=remedy,
            )


def _restarted(servo: ServoSurvey, profile: ArmProfile) -> Iterator[Finding]:
    del profile
    before, after = servo.commands, servo.commands_after
    if before and after and before != after:
        changes = ", ".join(f"{name} {before[name]} -> {after[name]}" for name in before if before[name] != after[name])
        yield Finding(
            kind="brown-out",
            text=f"{servo.name} lost what it was told while it was watched ({changes}): its power was cut for a moment",
            remedy="a stronger supply and tight plugs; then switch the arm off and on",
        )
    if before.get("torque_limit") == 0:
        yield Finding(
            kind="torque limit",
            text=f"{servo.name}: its torque limit is 0, so it cannot hold",
            remedy="switch the arm off and on",
        )


CHECKS: tuple[Callable[[ServoSurvey, ArmProfile], Iterator[Finding]], ...] = (
    _identity,
    _ranges,
    _position,
    _supply,
    _warmth,
    _complaints,
    _restarted,
)
