"""What connecting to an arm of servos looks at before anything is told to them, each with what to do about it."""

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mbrl_core.arm import ANY_OFFSET, ArmProfile, Joint
from mbrl_core.config import refuse
from mbrl_core.robots.errors import NotConnected, StaleState
from mbrl_core.robots.servo_bus import ServoBus, other_baud

Array = NDArray[np.float64]
ROUND_TRIPS = 10  # at most; the best counts, for a busy computer delays single ones
OWN_IDS = "give each its own id, one at a time (mbrl setup-motor)"


def check_wrap(profile: ArmProfile) -> None:
    """See that no joint's soft limits lie across its encoder's end. Raises ValueError."""
    last = profile.bus.counts_per_turn - 1
    for joint in profile.joints:
        for name, count in zip(("lower_rad", "upper_rad"), profile.soft_counts(joint), strict=True):
            if not 0 <= count <= last:
                expected = f"a limit within encoder counts 0 to {last} (no wrap between the soft limits)"
                raise refuse(f"{joint.name}.{name}", expected, round(count))


def check_ids(bus: ServoBus, profile: ArmProfile) -> None:
    """See that every servo answers, alone. Closes the bus where nobody does, to look at other baud rates.

    Raises:
      NotConnected: an id is missing, or more than one servo has it.
    """
    ids, before = [joint.servo_id for joint in profile.joints], dataclasses.replace(bus.errors)
    found = [servo_id for servo_id in ids if bus.ping(servo_id)]
    missing = [servo_id for servo_id in ids if servo_id not in found]
    where = f"{bus.port} at {bus.baud} bit/s"
    collided = bus.errors.damaged > before.damaged or bus.errors.noise > before.noise
    if missing:
        if not found:
            advice = f"check the port and power{_other_baud(bus, profile)}"
        elif collided:
            advice = f"something answered unreadably: check the cable; where two servos share an id, {OWN_IDS}"
        else:
            advice = "check power, cable and ids"
        raise NotConnected(f"servo ids on {where}: expected {ids}, got {found}; missing {missing}: {advice}")
    late = bus.errors.timeouts > before.timeouts  # then an answer too many may be one of those
    if bus.errors.unexpected > before.unexpected and not late:
        raise NotConnected(f"servo ids on {where}: expected one answer to each ping, got more: {OWN_IDS}")


def check_identity(bus: ServoBus, profile: ArmProfile) -> tuple[Array, Array]:
    """See that the servos are the profile's, and set as it needs them.

    Returns:
      The lowest and highest count that each servo accepts as a goal: (J_all,) each.

    Raises:
      NotConnected: another model, another mode, another homing offset than the calibration's, so that every angle would
        be wrong, or a range that would silently clamp goals.
      StaleState: a servo fell silent.
    """
    ranges = [_check_joint(bus, profile, joint) for joint in profile.joints]
    low, high = np.array(ranges, dtype=float).T
    return low, high


def answer_at_once(bus: ServoBus, torque: Mapping[int, int]) -> None:
    """Take the pause before every answer from limp servos, as they come with one; it is kept in them for good.

    Servos that hold keep theirs: to write there, torque would have to go off.

    Raises:
      Fault: a servo did not take it.
      StaleState: a servo fell silent.
    """
    for servo_id, on in torque.items():
        if not on and bus.read(servo_id, "return_delay"):
            bus.write(servo_id, "return_delay", 0)


def choose_wire(bus: ServoBus, servo_ids: Sequence[int]) -> None:
    """Take the first protocol that the whole bus answers: older firmware lacks the fast sync read."""
    *faster, usual = bus.family.wires
    for wire in faster:
        bus.link.wire = wire
        try:
            bus.blocks("round trip", bus.family.present, servo_ids)
        except StaleState:
            continue
        return
    bus.link.wire = usual


def check_round_trip(bus: ServoBus, servo_ids: Sequence[int], deadline_s: float) -> None:
    """See that answers come within the deadline, as the control loop will need them.

    Raises:
      NotConnected: they do not.
      StaleState: a servo fell silent.
    """
    best_s = math.inf
    for _ in range(ROUND_TRIPS):
        start = time.monotonic()
        bus.blocks("round trip", bus.family.present, servo_ids)
        best_s = min(best_s, time.monotonic() - start)
        if best_s <= deadline_s:
            return
    raise NotConnected(
        f"round trip on {bus.port}: expected at most {1e3 * deadline_s:g} ms (the deadline of a read), got "
        f"{1e3 * best_s:.1f} ms: set the USB adapter's latency timer to 1 ms (on Linux the file latency_timer of "
        "the device under /sys/bus/usb-serial/devices)"
    )


def check_torque_limit(profile: ArmProfile, limits: Mapping[int, int]) -> None:
    """See that every servo may push, by servo id. Raises NotConnected."""
    for joint in profile.joints:
        if limits[joint.servo_id] == 0:
            raise _mismatch(joint, "torque limit", "above 0 (switch the arm off and on)", 0)


def _check_joint(bus: ServoBus, profile: ArmProfile, joint: Joint) -> tuple[int, int]:
    """One servo's part of `check_identity`."""
    family, model = bus.family, bus.model(joint.servo_id)
    expected = profile.servo_of(joint).model_number
    if model != expected:
        raise _mismatch(joint, "model number", expected, model)
    table, start = family.registers(model), family.identity.address
    block = bus.blocks("identity", family.identity, [joint.servo_id])[joint.servo_id]
    names = ("operating_mode", "drive_mode", "homing_offset", "min_position", "max_position")
    found = {name: table[name].within(block, start) for name in names if name in table}
    if found["operating_mode"] != family.position_mode:
        raise _mismatch(joint, "operating mode", f"{family.position_mode} (position)", found["operating_mode"])
    if found.get("drive_mode", 0):
        raise _mismatch(joint, "drive mode", "0 (normal direction; the profile has signs)", found["drive_mode"])
    if joint.homing_offset not in (ANY_OFFSET, found["homing_offset"]):
        wanted = f"the calibration's {joint.homing_offset} (its own file, or mbrl calibrate)"
        raise _mismatch(joint, "homing offset", wanted, found["homing_offset"])
    low, high = found["min_position"], found["max_position"]
    counts = profile.soft_counts(joint)
    if not low <= min(counts) or not max(counts) <= high:
        needed = f"counts {min(counts):.0f} to {max(counts):.0f} (the soft limits) inside min and max position"
        raise _mismatch(joint, "position range", needed, f"{low} to {high}")
    return low, high


def _other_baud(bus: ServoBus, profile: ArmProfile) -> str:
    """What to say of the baud rate when nobody answers: the one at which somebody does."""
    bus.close()
    baud = other_baud(bus.port, profile)
    return f"; servos answer at {baud} bit/s: set bus.baud, or their baud rate" if baud else " and baud rate"


def _mismatch(joint: Joint, what: str, expected: object, got: object) -> NotConnected:
    return NotConnected(f"servo {joint.servo_id} ({joint.name}) {what}: expected {expected}, got {got}")
