"""What a survey of a bus says is wrong with the wire and between servos, each with its remedy: pure functions."""

import math
from collections.abc import Iterator

from mbrl_core.arm import ArmProfile
from mbrl_core.robots.bus_survey import BusSurvey, ServoSurvey
from mbrl_core.robots.families import family_of
from mbrl_core.robots.finding import Finding
from mbrl_core.robots.servo_arm import cycle_deadline_s
from mbrl_core.robots.servo_findings import CHECKS

HELD_BACK_S = 0.004  # beyond the wire's own time: an adapter that keeps answers back
DOUBLED_SHARE = 0.3  # of answers that come twice: a late answer is rare, a second servo is not
FEW = 2  # spoilt answers that may be chance on a busy computer
SILENT_SHARE = 0.02
RETURN_DELAY_S = 2e-6  # one count of that register
LONG_RETURN_DELAY_S = 300e-6
MOVED_RAD = 0.05  # by hand; less may be play


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
    elif survey.cycle_s > cycle_deadline_s(profile):
        yield Finding(
            kind="slow bus",
            text=f"one read of all servos takes {1e3 * survey.cycle_s:.1f} ms at best, of "
            f"{1e3 * cycle_deadline_s(profile):g} at {profile.bus_hz:g} Hz",
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
