"""What a bus shows to whoever only reads: who answers, how well, how fast, and what the servos say of themselves.

Nothing here moves a servo, switches torque or writes a register. Every byte that comes back is weighed by its length,
because what spoils an answer shows there: a flipped bit leaves it as long as it was, a broken one is shorter, noise and
a second speaker make it longer.
"""

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mbrl_core.arm import ArmProfile, Joint
from mbrl_core.robots.errors import StaleState
from mbrl_core.robots.family import Family
from mbrl_core.robots.register import Register
from mbrl_core.robots.serial_link import Heard
from mbrl_core.robots.servo_bus import ServoBus
from mbrl_core.robots.servo_fault import ServoFault
from mbrl_core.robots.wire import Packet

LONGEST_S = 0.06  # an answer that takes longer is none
QUIET_S = 0.004  # after an answer: a second servo of the same id speaks within its return delay, 0.5 ms at most
PINGS = 3
SCAN_S = 0.02  # for an id that nobody should have; asked once, since a line that loses answers is told of anyway
ROUND_TRIPS = 10  # the best counts, for a busy computer delays single ones
SETTINGS = (
    "model_number", "operating_mode", "drive_mode", "return_delay", "homing_offset", "min_position", "max_position",
)  # fmt: skip
COMMANDS = ("torque_enable", "torque_limit")


@dataclass
class Exchanges:
    """What became of the requests to one servo, counted.

    Attributes:
      tries: requests.
      whole: whole answers of its own.
      silent: nothing came back.
      damaged: as long as an answer, with a wrong checksum.
      cut: shorter than an answer.
      noisy: bytes beside the answer, or in its place, that belong to nothing.
      doubled: two whole answers to one request.
      foreign: ids in whole answers that nobody of the profile has.
      took_s: duration of each whole exchange, s.
    """

    tries: int = 0
    whole: int = 0
    silent: int = 0
    damaged: int = 0
    cut: int = 0
    noisy: int = 0
    doubled: int = 0
    foreign: list[int] = field(default_factory=list)
    took_s: list[float] = field(default_factory=list)


@dataclass
class ServoSurvey:
    """One servo: its exchanges, its settings at the beginning, what it measured.

    Attributes:
      joint: what it drives.
      table: the control table of the kind of servo that it should be.
      exchanges: how the wire to it was.
      settings: counts of `SETTINGS` and firmware, by our names; empty where it did not answer.
      commands: counts of `COMMANDS` at the beginning.
      commands_after: the same at the end.
      counts: times (s, monotonic) and encoder counts.
      voltage_v: supply, V.
      temperature_c: degC.
      faults: its complaints, all that it made.
    """

    joint: Joint
    table: Mapping[str, Register]
    exchanges: Exchanges = field(default_factory=Exchanges)
    settings: dict[str, int] = field(default_factory=dict)
    commands: dict[str, int] = field(default_factory=dict)
    commands_after: dict[str, int] = field(default_factory=dict)
    counts: list[tuple[float, int]] = field(default_factory=list)
    voltage_v: list[float] = field(default_factory=list)
    temperature_c: list[float] = field(default_factory=list)
    faults: ServoFault = ServoFault.NONE

    @property
    def answers(self) -> bool:
        """Whether it ever answered whole."""
        return self.exchanges.whole > 0

    @property
    def name(self) -> str:
        """For a person: servo and joint."""
        return f"servo {self.joint.servo_id} ({self.joint.name})"


@dataclass
class BusSurvey:
    """A whole bus.

    Attributes:
      servos: those of the profile, in its order.
      strangers: model numbers of others that answer, by id.
      echoed: whether the adapter sends back what it is told to send.
      cycle_s: best time of one read of all servos at once, s; NaN where none was whole.
    """

    servos: list[ServoSurvey]
    strangers: dict[int, int] = field(default_factory=dict)
    echoed: bool = False
    cycle_s: float = math.nan


def survey(bus: ServoBus, profile: ArmProfile, seconds: float, *, strangers: bool = True) -> BusSurvey:
    """Look at the profile's servos for a while.

    Args:
      bus: an open line.
      profile: who should be on it.
      seconds: how long measurements are sampled.
      strangers: look for ids 1 to 30 that the profile does not know, too.

    Raises:
      NotConnected: the device went away; what was found until then is lost.
    """
    tables = [bus.family.registers(profile.servo_of(joint).model_number) for joint in profile.joints]
    found = BusSurvey([ServoSurvey(*pair) for pair in zip(profile.joints, tables, strict=True)])
    for servo in found.servos:
        for _ in range(PINGS):
            _weigh(bus, found, servo, bus.link.wire.ping(servo.joint.servo_id), bus.link.wire.ping_size)
    heard = [servo for servo in found.servos if servo.exchanges.silent < servo.exchanges.tries]
    for servo in heard:
        if servo.answers:
            _read_settings(bus, servo)
    sample(bus, found, heard, seconds)
    for servo in heard:
        servo.commands_after = _registers(bus, servo, COMMANDS, bus.family.command) if servo.answers else {}
    found.cycle_s = _cycle_s(bus, [servo.joint.servo_id for servo in found.servos]) if heard else math.nan
    if strangers and heard:
        known = {joint.servo_id for joint in profile.joints}
        with contextlib.suppress(StaleState):
            found.strangers = bus.scan([i for i in range(1, 31) if i not in known], attempts=1, timeout_s=SCAN_S)
    return found


def sample(
    bus: ServoBus,
    found: BusSurvey,
    servos: list[ServoSurvey],
    seconds: float,
    until: Callable[[], bool] = lambda: False,
) -> None:
    """Read the servos in turn, for so many seconds or until somebody says so; adds to the survey.

    Raises:
      NotConnected: the device went away.
    """
    present, wire = bus.family.present, bus.link.wire
    end_s = time.monotonic() + seconds
    while servos and time.monotonic() < end_s and not until():
        for servo in servos:
            stamp_s = time.monotonic()
            request = wire.read(servo.joint.servo_id, present.address, present.size)
            packet = _weigh(bus, found, servo, request, present.size)
            if packet is not None:
                _note(bus, servo, packet, stamp_s)


def _weigh(bus: ServoBus, found: BusSurvey, servo: ServoSurvey, request: bytes, size: int) -> Packet | None:
    """Send a request to one servo and count what came back; returns its answer where that was whole."""
    wire, exchanges = bus.link.wire, servo.exchanges
    expected_bytes = size + wire.overhead
    heard = bus.link.listen(request, expected_bytes, longest_s=LONGEST_S, quiet_s=QUIET_S)
    found.echoed |= heard.echoed
    exchanges.tries += 1
    known = {one.joint.servo_id for one in found.servos}
    decoded = wire.decode(heard.data, size, 1)
    own = [p for p in decoded.packets if p.servo_id == servo.joint.servo_id and len(p.params) == size]
    exchanges.foreign += [p.servo_id for p in decoded.packets if p.servo_id not in known]
    if not heard.data:
        exchanges.silent += 1
    elif not decoded.packets:
        _blame_length(exchanges, heard, expected_bytes)
    elif decoded.noise:
        exchanges.noisy += 1
    if own:
        exchanges.whole += 1
        exchanges.doubled += len(own) > 1
        exchanges.took_s.append(heard.took_s)
    return own[0] if own else None


def _blame_length(exchanges: Exchanges, heard: Heard, expected_bytes: int) -> None:
    """Something came, and it was no packet."""
    if len(heard.data) < expected_bytes:
        exchanges.cut += 1
    elif len(heard.data) == expected_bytes:
        exchanges.damaged += 1
    else:
        exchanges.noisy += 1


def _note(bus: ServoBus, servo: ServoSurvey, packet: Packet, stamp_s: float) -> None:
    """Keep what a servo measured."""
    family, table, start = bus.family, servo.table, bus.family.present.address
    servo.counts.append((stamp_s, table["present_position"].within(packet.params, start)))
    servo.voltage_v.append(table["present_voltage"].within(packet.params, start) * table["present_voltage"].scale)
    servo.temperature_c.append(float(table["present_temperature"].within(packet.params, start)))
    if not family.alert:
        servo.faults |= _faults(family, table["status"].within(packet.params, start))
    elif packet.code & family.alert and servo.faults in (ServoFault.NONE, ServoFault.UNKNOWN):
        with contextlib.suppress(StaleState):
            block = bus.blocks("status", table["status"], [servo.joint.servo_id])[servo.joint.servo_id]
            servo.faults = _faults(family, table["status"].unpack(block)) or ServoFault.UNKNOWN


def _faults(family: Family, status: int) -> ServoFault:
    return ServoFault(sum(int(fault) for bit, fault in family.status_bits.items() if status & bit))


def _read_settings(bus: ServoBus, servo: ServoSurvey) -> None:
    with contextlib.suppress(StaleState):
        servo.settings["model_number"] = bus.model(servo.joint.servo_id)
    servo.settings |= _registers(bus, servo, SETTINGS, bus.family.identity)
    for name in ("firmware_major", "firmware_minor"):
        if name in servo.table:
            servo.settings |= _registers(bus, servo, (name,), servo.table[name])
    servo.commands = _registers(bus, servo, COMMANDS, bus.family.command)


def _registers(bus: ServoBus, servo: ServoSurvey, names: tuple[str, ...], block: Register) -> dict[str, int]:
    """Read registers of one block; empty where the servo does not answer whole in three attempts."""
    servo_id, table = servo.joint.servo_id, servo.table
    for _ in range(3):
        with contextlib.suppress(StaleState):
            data = bus.blocks("settings", block, [servo_id])[servo_id]
            return {name: table[name].within(data, block.address) for name in names if name in table}
    return {}


def _cycle_s(bus: ServoBus, servo_ids: list[int]) -> float:
    best_s = math.nan
    for _ in range(ROUND_TRIPS):
        start_s = time.monotonic()
        try:
            bus.blocks("cycle", bus.family.present, servo_ids, LONGEST_S)
        except StaleState:
            continue
        best_s = min(time.monotonic() - start_s, math.inf if math.isnan(best_s) else best_s)
    return best_s
