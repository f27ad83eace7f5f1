"""`mbrl find-port`: which serial port is the arm's. No ROS, no torch."""

import dataclasses
import glob
import os
import time
from collections.abc import Callable

import serial.tools.list_ports

from mbrl_core.config import refuse, setting
from mbrl_core.robots.errors import RobotError
from mbrl_core.robots.families import FAMILIES
from mbrl_core.robots.servo_bus import ServoBus
from mbrl_ros.prompt import Prompt

SCAN_S = 0.01
SETTLE_S = 5.0  # the system takes a moment to notice a cable
USUAL_BAUD = 1_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class FindPortConfig:
    """Find the arm's serial port: by pulling its cable, or by asking every port who answers."""

    list: bool = setting(False, doc="only list the ports and the servos that answer there, without a question to you")
    pattern: str = setting("", doc="look at files that match this, too, for example '/dev/serial/by-id/*'")
    baud: int = setting(USUAL_BAUD, doc="rate at which servos are asked", unit="bit/s", low=9600)


def find_port(config: FindPortConfig) -> int:
    """Print the ports; return 1 when there is none.

    Raises:
      ValueError: not exactly one port went away with the cable, or the input ended.
    """
    before = ports(config.pattern)
    if not config.list:
        return _by_unplugging(config, before)
    if not before:
        print("no serial port: plug the adapter in; inside a container, pass the device through")
        return 1
    for port, what in before.items():
        print(f"{port}  {what}")
        for line in who_answers(port, config.baud):
            print(f"  {line}")
    return 0


def ports(pattern: str = "") -> dict[str, str]:
    """Serial ports that are there, and what they say they are."""
    found = {port.device: str(port.description) for port in serial.tools.list_ports.comports()}
    matching = sorted(glob.glob(pattern)) if pattern else []
    return found | {path: "" for path in matching if os.path.realpath(path) not in found}


def who_answers(port: str, baud: int) -> list[str]:
    """Ask a port in every protocol; a line for each family that answers, or for why it could not be asked."""
    lines = []
    for protocol in FAMILIES:
        try:
            with ServoBus(port, baud, protocol) as bus:
                found = bus.scan(timeout_s=SCAN_S)
        except RobotError as error:
            return [str(error)]
        if found:
            lines.append(f"{protocol}: " + ", ".join(f"id {i} (model {model})" for i, model in found.items()))
    return lines or [f"nobody answers at {baud} bit/s"]


def _by_unplugging(config: FindPortConfig, before: dict[str, str]) -> int:
    prompt = Prompt()
    print(f"ports: {', '.join(before) or 'none'}")
    prompt.ask("remove the arm's USB cable, then press Enter")
    _wait(lambda: len(before.keys() - ports(config.pattern).keys()) > 0)
    gone = sorted(before.keys() - ports(config.pattern).keys())
    if len(gone) != 1:
        raise refuse("ports that went away", "one", gone)
    print(f"the port is {gone[0]}", flush=True)
    prompt.ask("put the cable back, then press Enter")
    if not _wait(lambda: gone[0] in ports(config.pattern)):
        expected = f"{gone[0]} to come back (a udev rule gives it a fixed name)"
        raise refuse("port", expected, sorted(ports(config.pattern)))
    for line in who_answers(gone[0], config.baud):
        print(f"  {line}")
    return 0


def _wait(came_true: Callable[[], bool]) -> bool:
    """Wait until something is so; return whether it is."""
    end_s = time.monotonic() + SETTLE_S
    while not came_true():
        if time.monotonic() > end_s:
            return False
        time.sleep(0.1)
    return True
