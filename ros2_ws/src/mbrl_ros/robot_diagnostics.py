"""What the robot interface tells on /diagnostics: one status for the loop, one for each joint."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from mbrl_core.control_config import Mode
from mbrl_core.control_loop import ControlLoop
from mbrl_core.health import Tolerances
from mbrl_core.robots.reading import ArmReading
from mbrl_core.robots.servo_fault import fault_names

OLD_S = 1.0  # a reading older than this says nothing of now


@dataclass(frozen=True)
class Finding:
    """How a joint is."""

    level: bytes
    message: str


def loop_status(name: str, loop: ControlLoop) -> DiagnosticStatus:
    """Counters and refusals: ERROR while latched, WARN while the arm is slowed or parks."""
    slow = loop.share < 1.0 or loop.mode is Mode.PARKING
    level = DiagnosticStatus.WARN if slow else DiagnosticStatus.OK
    if loop.mode is Mode.LATCHED:
        level = DiagnosticStatus.ERROR
    refused = {f"actions refused: {why}": count for why, count in dict(loop.mailbox.refused).items()}
    values = {"mode": loop.mode.value, "share of speed": f"{loop.share:.2f}", **vars(loop.counters), **refused}
    return _status(level, name, loop.reason, values)


def joint_statuses(name: str, reading: ArmReading | None, tolerances: Tolerances) -> list[DiagnosticStatus]:
    """One for each joint, in the profile's order; STALE where nothing was read lately."""
    if reading is None or time.monotonic() - reading.stamp_s > OLD_S:
        stale = DiagnosticStatus.STALE
        return [_status(stale, f"{name}: {joint}", "no reading", {}) for joint in tolerances.names]
    statuses = []
    for index, joint in enumerate(tolerances.names):
        found = judge_joint(index, reading, tolerances)
        values = {
            "temperature [degC]": f"{reading.temperature_c[index]:g}",
            "voltage [V]": f"{reading.voltage_v[index]:.1f}",
            "load [share of full drive]": f"{reading.load[index]:.2f}",
            "current [A]": f"{reading.current_a[index]:.3f}",
            "faults": fault_names(int(reading.status[index])) or "none",
        }
        statuses.append(_status(found.level, f"{name}: {joint}", found.message, values))
    return statuses


def judge_joint(joint: int, reading: ArmReading, tolerances: Tolerances) -> Finding:
    """Judge one joint by one reading: ERROR for what stops or parks the arm, WARN for what slows it."""
    warmth, voltage, status = reading.temperature_c[joint], reading.voltage_v[joint], int(reading.status[joint])
    if status:
        return Finding(DiagnosticStatus.ERROR, fault_names(status))
    if warmth >= tolerances.hot_c[joint]:
        return Finding(DiagnosticStatus.ERROR, f"hot: {warmth:g} degC")
    if voltage < tolerances.min_voltage_v[joint] or voltage > tolerances.max_voltage_v[joint]:
        return Finding(DiagnosticStatus.ERROR, f"supply: {voltage:.1f} V")
    if warmth > tolerances.warm_c[joint]:
        return Finding(DiagnosticStatus.WARN, f"warm: {warmth:g} degC, the arm is slowed")
    return Finding(DiagnosticStatus.OK, "")


def _status(level: bytes, name: str, message: str, values: Mapping[str, object]) -> DiagnosticStatus:
    status = DiagnosticStatus(level=level, name=name, message=message)
    status.values = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    return status
