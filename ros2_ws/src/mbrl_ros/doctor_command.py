"""`mbrl doctor`: looks at an arm without moving it, and names each problem with its remedy. No ROS, no torch.

Reads only: no register is written, no torque switched. Exit status 1 where anything stands in the way of running.
"""

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path

from mbrl_core.arm import ArmProfile
from mbrl_core.bundle import Bundle, check_fits
from mbrl_core.calibration import load_calibration, load_fitted
from mbrl_core.config import refuse, setting
from mbrl_core.host_findings import ClockWatch, port_findings
from mbrl_core.robots.bus_findings import findings, firmware, unmoved
from mbrl_core.robots.bus_survey import BusSurvey, ServoSurvey, sample, survey
from mbrl_core.robots.calibration_check import disagreements
from mbrl_core.robots.errors import NotConnected
from mbrl_core.robots.finding import Finding
from mbrl_core.robots.servo_bus import ServoBus, other_baud
from mbrl_core.tasks.reach import ReachTask
from mbrl_sim import profile_path

PROBLEM = 1
PORT_DOC = "serial port of the servo bus, for example /dev/ttyUSB0"
PROFILE_DOC = "arm: a name under the twin's assets, or the path of a YAML profile"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DoctorConfig:
    """Look at an arm, without moving it, and name each problem with its remedy."""

    profile: str = setting("so101", doc=PROFILE_DOC)
    port: str = setting("", doc=PORT_DOC)
    calibration: str = setting("", doc="calibration file of this arm; empty = the profile's zeros and signs")
    bundle: str = setting("", doc="policy file (.mbrl) that shall run on this arm; empty = none")
    seconds: float = setting(1.5, doc="how long the bus is watched", unit="s", low=0.1, high=600)
    by_hand: float = setting(
        0.0, doc="then watch so long while you move every joint of the limp arm by hand", unit="s", low=0, high=600
    )
    json: bool = setting(False, doc="print the findings as JSON")


def doctor(config: DoctorConfig) -> int:
    """Look, print, and return the exit status.

    Raises:
      ValueError: there is no such profile, it has no servo bus, or no port was named.
    """
    profile = load_fitted(profile_path(config.profile), config.calibration)
    if profile.bus.protocol == "ros2_control":
        raise refuse("profile", "an arm with a servo bus; ros2_control looks after its own", config.profile)
    if not config.port:
        raise refuse("port", f"a {PORT_DOC}", config.port)
    clock = ClockWatch()
    found = list(port_findings(config.port))
    seen: BusSurvey | None = None
    if all(one.kind == "latency timer" for one in found):
        seen, on_bus = _look_at_bus(config, profile)
        found += on_bus
    found += clock.findings()
    if config.bundle:
        found += _bundle_findings(config.bundle, profile)
    _print_json(found) if config.json else _print(config, profile, seen, found)
    return PROBLEM if any(not one.note for one in found) else 0


def _look_at_bus(config: DoctorConfig, profile: ArmProfile) -> tuple[BusSurvey | None, list[Finding]]:
    try:
        with ServoBus(config.port, profile.bus.baud, profile.bus.protocol) as bus:
            seen = survey(bus, profile, config.seconds)
            found = findings(seen, profile)
            if config.calibration and any(servo.answers for servo in seen.servos):
                found += disagreements(bus, load_calibration(config.calibration), profile)
            if config.by_hand:
                found += _by_hand(bus, profile, seen, config)
    except NotConnected as error:
        return None, [_gone(config.port, error)]
    if not any(servo.answers for servo in seen.servos):
        found += _at_another_rate(config.port, profile)
    return seen, found


def _by_hand(bus: ServoBus, profile: ArmProfile, seen: BusSurvey, config: DoctorConfig) -> list[Finding]:
    """Watch while somebody moves the joints; an arm that holds is not let go."""
    here = [servo for servo in seen.servos if servo.answers]
    holding = [servo.name for servo in here if servo.commands_after.get("torque_enable")]
    if holding:
        text = f"{', '.join(holding)} holds, so the joints cannot be moved by hand"
        return [Finding(kind="torque on", text=text, remedy="support the arm, switch it off and on, and try again")]
    if not config.json:
        print(f"now move every joint by hand, back and forth, for {config.by_hand:g} s", flush=True)
    watched = BusSurvey([ServoSurvey(servo.joint, servo.table) for servo in here])
    sample(bus, watched, watched.servos, config.by_hand)
    return unmoved(watched, profile)


def _gone(port: str, error: NotConnected) -> Finding:
    if "to stay" in str(error):
        text = f"{port} went away while it was read: {error}"
        remedy = "the USB cable or the adapter was unplugged, or lost power: check both, use a port without a hub"
        return Finding(kind="unplugged", text=text, remedy=remedy)
    remedy = "end the program that uses it (fuser -v on the port says which), or name another: mbrl find-port"
    return Finding(kind="port in use", text=f"{port} cannot be opened: {error}", remedy=remedy)


def _at_another_rate(port: str, profile: ArmProfile) -> Iterator[Finding]:
    try:
        baud = other_baud(port, profile)
    except NotConnected as error:
        yield _gone(port, error)
        return
    if baud:
        yield Finding(
            kind="baud rate",
            text=f"servos answer at {baud} bit/s, the profile has {profile.bus.baud}",
            remedy=f"bus: {{baud: {baud}}} in the profile, or mbrl setup-motor for each servo",
        )


def _bundle_findings(bundle: str, profile: ArmProfile) -> Iterator[Finding]:
    try:
        check_fits(Bundle.load(Path(bundle)), profile, ReachTask(profile))
    except ValueError as error:
        remedy = "take the bundle that was trained for this arm, or its profile (mbrl inspect says what it fits)"
        yield Finding(kind="bundle", text=f"{bundle} does not fit: {error}", remedy=remedy)


def _print_json(found: list[Finding]) -> None:
    print(json.dumps([dataclasses.asdict(one) for one in found], indent=2))


def _print(config: DoctorConfig, profile: ArmProfile, seen: BusSurvey | None, found: list[Finding]) -> None:
    if seen is not None:
        tries = sum(servo.exchanges.tries for servo in seen.servos)
        whole = sum(servo.exchanges.whole for servo in seen.servos)
        cycle = "" if math.isnan(seen.cycle_s) else f", all servos in {1e3 * seen.cycle_s:.1f} ms"
        print(f"{profile.name} on {config.port}: {whole} of {tries} answers whole{cycle}")
        for servo in seen.servos:
            print(f"  {_row(servo, profile)}")
    for title, notes in (("problem", False), ("note", True)):
        group = [one for one in found if one.note is notes]
        if group:
            print(f"{len(group)} {title}{'s' if len(group) > 1 else ''}:")
        for one in group:
            print(f"  {one.kind}: {one.text}\n    remedy: {one.remedy}")
    if all(one.note for one in found):
        print("no problem found")


def _row(servo: ServoSurvey, profile: ArmProfile) -> str:
    """A servo in one line."""
    start = f"{servo.joint.name:14} id {servo.joint.servo_id:3}"
    if not servo.counts:
        return f"{start}  no answer"
    count = servo.counts[-1][1]
    angle = servo.joint.sign * (count - servo.joint.zero_count) * 2 * math.pi / profile.bus.counts_per_turn
    torque = {0: "limp", 1: "holds"}.get(servo.commands_after.get("torque_enable", -1), "?")
    return (
        f"{start}  model {servo.settings.get('model_number', 0):5}  firmware {firmware(servo) or '?':5}"
        f"  {min(servo.voltage_v):4.1f} V  {max(servo.temperature_c):3.0f} degC  {angle:6.3f} rad (count {count})"
        f"  {torque}  {1e3 * min(servo.exchanges.took_s):.1f} ms"
    )
