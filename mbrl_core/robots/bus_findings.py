"""What a survey of a bus says is wrong, each with its remedy: pure functions, one kind of trouble each."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mbrl_core.arm import ArmProfile
from mbrl_core.health import FASTEST_RAD_S, JUMP_RAD
from mbrl_core.robots.bus_survey import BusSurvey, ServoSurvey
from mbrl_core.robots.families import family_of
from mbrl_core.robots.servo_fault import ServoFault

MOST_CYCLE_S = 0.008  # the deadline of a read in the control loop
HELD_BACK_S = 0.004  # beyond the wire's own time: an adapter that keeps answers back
DOUBLED_SHARE = 0.3  # of answers that come twice: a late answer is rare, a second servo is not
FEW = 2  # spoilt answers that may be chance on a busy computer
SILENT_SHARE = 0.02
RETURN_DELAY_S = 2e-6  # one count of that register
LONG_RETURN_DELAY_S = 300e-6
MOVED_RAD = 0.05  # by hand; less may be play


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One trouble.

    Attributes:
      kind: a short name for it, the same whatever the servo.
      text: what was found, and where.
      remedy: what to do.
      note: whether the arm works all the same.
    """

    kind: str
    text: str
    remedy: str
    note: bool = False


def findings(survey: BusSurvey, profile: ArmProfile) -> list[Finding]:
    """Everything that a survey shows, the wire first; a servo that never answered whole is asked nothing more."""
    if not any(servo.exchanges.silent < servo.exchanges.tries for servo in survey.servos):
        return [_nobody(survey)]
    found = [one for servo in survey.servos for one in _wire(servo)]
    found += [*_held_back(survey, profile), *_whole_bus(survey)]
    for servo in survey.servos:
        if servo.answers:
            for check in CHECKS:
                found += check(servo, profile)
    return [*found, *_firmware(survey), *_return_delays(survey), *_torque(survey)]


def _nobody(survey: BusSurvey) -> Finding:
    ids = [servo.joint.servo_id for servo in survey.servos]
    return Finding(
        kind="nobody answers",
        text=f"none of the servos {ids} answers",
        remedy="switch the arm's power on, check the cable from the adapter to the first servo, and the port "
        "(mbrl find-port)",
    )


def _wire(servo: ServoSurvey) -> Iterator[Finding]:
    """How the answers of one servo came."""
    did, name, servo_id = servo.exchanges, servo.name, servo.joint.servo_id
    if did.silent == did.tries:
        yield Finding(
            kind="silent",
            text=f"{name} does not answer",
            remedy="check its cable on both sides and those behind it; if it is new, give it its id: "
            f"mbrl setup-motor {servo.joint.name}",
        )
        return
    spoilt = did.damaged + did.noisy + did.cut
    if not did.whole and not did.foreign and spoilt and did.noisy + did.damaged > did.cut and did.noisy:
        yield Finding(
            kind="collision",
            text=f"{name}: not one of {did.tries} answers is whole, and they are too long: two servos talk at once",
            remedy=f"two servos have the id {servo_id}: unplug all but one, and give that its own id with mbrl "
            "setup-motor",
        )
        return
    if did.doubled > max(1, DOUBLED_SHARE * did.tries):
        yield Finding(
            kind="duplicate id",
            text=f"{name} answers twice to one request ({did.doubled} of {did.tries} times)",
            remedy=f"two servos have the id {servo_id}: unplug all but one, and give that its own id with mbrl "
            "setup-motor",
        )
    if len(did.foreign) > 1:
        yield Finding(
            kind="wrong id",
            text=f"{name}: {len(did.foreign)} of {did.tries} answers carry another id ({sorted(set(did.foreign))[0]})",
            remedy="one servo's settings are damaged: find it by unplugging one after another, then mbrl setup-motor",
        )
    yield from _spoilt(servo)


SPOILT = {
    "damaged": (
        "checksum",
        "have a wrong checksum",
        "check plugs and the ground wire, keep the cable away from motor leads, try a shorter one",
    ),
    "noisy": (
        "noise",
        "come with bytes that belong to nothing",
        "the line floats or picks up noise: check the ground wire and the adapter, and that nothing else writes here",
    ),
    "cut": (
        "cut short",
        "break off",
        "a loose plug or a dip of the supply: check the plugs on both sides, then the supply under load",
    ),
}


def _spoilt(servo: ServoSurvey) -> Iterator[Finding]:
    did = servo.exchanges
    for field, (kind, words, remedy) in SPOILT.items():
        count = getattr(did, field)
        if count >= FEW:
            share = f"{count} of {did.tries} answers ({100 * count / did.tries:.0f} %)"
            yield Finding(kind=kind, text=f"{servo.name}: {share} {words}", remedy=remedy)
    if did.silent > max(FEW, SILENT_SHARE * did.tries):
        yield Finding(
            kind="intermittent",
            text=f"{servo.name} left {did.silent} of {did.tries} requests unanswered",
            remedy="a loose plug or a dip of the supply: move each cable while mbrl doctor --seconds 20 runs",
        )


def _held_back(survey: BusSurvey, profile: ArmProfile) -> Iterator[Finding]:
    """Answers that are later than wire and servos make them."""
    family = family_of(profile.bus.protocol)
    took = [time_s for servo in survey.servos for time_s in servo.exchanges.took_s if not math.isnan(time_s)]
    wire_s = 10 * (family.present.size + 2 * family.wires[-1].overhead + 4) / profile.bus.baud
    best_s = min(took, default=0.0)
    if best_s > wire_s + HELD_BACK_S:
        yield Finding(
            kind="latency",
            text=f"the fastest answer took {1e3 * best_s:.1f} ms, {1e3 * wire_s:.1f} ms of them on the wire: the "
            "adapter keeps answers back",
            remedy="set its latency timer to 1 ms: echo 1 | sudo tee "
            "/sys/bus/usb-serial/devices/ttyUSB0/latency_timer (your port's name), for good with a udev rule",
        )
    elif survey.cycle_s > max(MOST_CYCLE_S, 1.0 / profile.bus_hz):
        yield Finding(
            kind="slow bus",
            text=f"one read of all servos takes {1e3 * survey.cycle_s:.1f} ms at best, of {1e3 / profile.bus_hz:.1f}",
            remedy=f"raise the baud rate (now {profile.bus.baud}), set return delays to 0, plug the adapter in without "
            "a hub, or lower bus_hz in the profile",
        )


def _whole_bus(survey: BusSurvey) -> Iterator[Finding]:
    if survey.echoed:
        yield Finding(
            kind="echo",
            text="the adapter sends back what it is told to send",
            remedy="none needed: echoes are taken out; they cost time on the wire",
            note=True,
        )
    for servo_id, model in survey.strangers.items():
        yield Finding(
            kind="stranger",
            text=f"a servo with id {servo_id} (model {model}) answers that the profile does not know",
            remedy="unplug it, or give it the id of the joint that it drives with mbrl setup-motor",
            note=all(servo.answers for servo in survey.servos),
        )


# ---- one servo that answers


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
    joint, got, turn = servo.joint, servo.settings, profile.bus.counts_per_turn
    angles = (joint.lower_rad, joint.upper_rad)
    low, high = sorted(joint.zero_count + joint.sign * angle * turn / (2 * math.pi) for angle in angles)
    if low < 0 or high > turn - 1:
        yield Finding(
            kind="wrap",
            text=f"{servo.name}: its soft limits are counts {low:.0f} to {high:.0f}, past the encoder's end (0 to "
            f"{turn - 1}), where a goal would drive it round the other way",
            remedy="mbrl calibrate, which puts the middle of the range into the middle of the encoder",
        )
    elif got and not got["min_position"] <= low <= high <= got["max_position"]:
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
        if beyond > 0.2:
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

# ---- servos side by side


def _firmware(survey: BusSurvey) -> Iterator[Finding]:
    """Servos of one model that differ in firmware."""
    versions: dict[int, dict[str, list[int]]] = {}
    for servo in survey.servos:
        got = servo.settings
        if "firmware_major" in got and "model_number" in got:
            version = firmware(servo)
            versions.setdefault(got["model_number"], {}).setdefault(version, []).append(servo.joint.servo_id)
    for model, found in versions.items():
        if len(found) > 1:
            yield Finding(
                kind="firmware",
                text=f"servos of model {model} have different firmware: "
                + "; ".join(f"{version} in {ids}" for version, ids in sorted(found.items())),
                remedy="bring all to the newest with the vendor's tool (FD for Feetech, Dynamixel Wizard)",
                note=True,
            )


def _return_delays(survey: BusSurvey) -> Iterator[Finding]:
    """Servos that wait before they answer, which a whole bus adds up."""
    slow = [s for s in survey.servos if s.settings.get("return_delay", 0) * RETURN_DELAY_S > LONG_RETURN_DELAY_S]
    if slow:
        longest_s = max(servo.settings["return_delay"] for servo in slow) * RETURN_DELAY_S
        yield Finding(
            kind="return delay",
            text=f"servos {[servo.joint.servo_id for servo in slow]} wait up to {1e6 * longest_s:.0f} us before each "
            "answer, as they do out of the factory",
            remedy="mbrl setup-motor sets it to 0, for each joint",
            note=True,
        )


def firmware(servo: ServoSurvey) -> str:
    """A servo's firmware version; empty where it is not known."""
    parts = (servo.settings.get("firmware_major"), servo.settings.get("firmware_minor"))
    return ".".join(str(part) for part in parts if part is not None)


def _torque(survey: BusSurvey) -> Iterator[Finding]:
    """Some servos hold and others hang."""
    known = [servo for servo in survey.servos if servo.commands_after]
    limp = [servo for servo in known if not servo.commands_after["torque_enable"]]
    changed = {servo.joint.servo_id for servo in limp if servo.commands.get("torque_enable")}
    hanging = [servo for servo in limp if servo.joint.servo_id not in changed]
    if hanging and len(limp) < len(known):
        yield Finding(
            kind="brown-out",
            text=f"{', '.join(servo.name for servo in hanging)} is limp while other servos hold: it lost its power for "
            "a moment, or protected itself",
            remedy="support the arm and look for the cause (supply, plugs, load, heat), then switch it off and on",
        )


def unmoved(survey: BusSurvey, profile: ArmProfile) -> list[Finding]:
    """Joints that did not move while somebody led every joint by hand."""
    turn, still = profile.bus.counts_per_turn, []
    for servo in survey.servos:
        counts = [count for _, count in servo.counts]
        if counts and (max(counts) - min(counts)) * 2 * math.pi / turn < MOVED_RAD:
            still.append(servo)
    return [
        Finding(
            kind="frozen",
            text=f"{servo.name}: its encoder stood still while the joints were moved by hand",
            remedy="if that joint was moved, its horn turns without the encoder (tighten the screw) or the encoder is "
            "dead: replace the servo",
        )
        for servo in still
    ]
