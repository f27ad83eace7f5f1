"""What a computer has to offer to a serial bus: a port, the right to open it, a prompt adapter, a steady clock."""

import grp
import os
import pwd
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from mbrl_core.robots.finding import Finding

DEVICES = Path("/sys/bus/usb-serial/devices")
PROMPT_MS = 2  # a latency timer up to this is short enough
STEP_S = 0.05  # difference of the wall's clock to the steady one that a slewing clock does not make in seconds
EARLIEST_S = 1_704_067_200.0  # 2024-01-01: no clock that was ever set says less


def port_findings(port: str, devices: Path = DEVICES) -> Iterator[Finding]:
    """Look at the port's file, before it is opened, and at its adapter's settings."""
    path = Path(port)
    if not path.exists():
        yield Finding(
            kind="no port",
            text=f"there is no {port}",
            remedy="plug the adapter in and look which port it is with mbrl find-port",
        )
        return
    mode = path.stat()
    if not stat.S_ISCHR(mode.st_mode):
        yield Finding(kind="no port", text=f"{port} is no serial device", remedy="name another: mbrl find-port")
    elif not os.access(path, os.R_OK | os.W_OK):
        group, user = _names(mode.st_gid, os.getuid())
        yield Finding(
            kind="permission",
            text=f"{user} may not open {port}, which belongs to the group {group}",
            remedy=f"sudo usermod -aG {group} {user}, then log out and in",
        )
    timer = devices / path.resolve().name / "latency_timer"
    if timer.is_file() and int(timer.read_text()) > PROMPT_MS:
        yield Finding(
            kind="latency timer",
            text=f"the adapter's latency timer is {timer.read_text().strip()} ms",
            remedy=f"echo 1 | sudo tee {timer}, for good with a udev rule",
        )


def _names(group_id: int, user_id: int) -> tuple[str, str]:
    """Of a group and a user; their numbers where they have none, as in containers."""
    try:
        group = grp.getgrgid(group_id).gr_name
    except KeyError:
        group = str(group_id)
    try:
        user = pwd.getpwuid(user_id).pw_name
    except KeyError:
        user = str(user_id)
    return group, user


class ClockWatch:
    """Compares the wall's clock with the steady one, from when it is made."""

    def __init__(self) -> None:
        """Begin."""
        self._apart_s = time.time() - time.monotonic()

    def findings(self) -> Iterator[Finding]:
        """What is wrong with the wall's clock."""
        step_s = time.time() - time.monotonic() - self._apart_s
        if time.time() < EARLIEST_S:
            yield Finding(
                kind="clock",
                text=f"the clock says {time.strftime('%Y-%m-%d', time.gmtime(time.time()))}",
                remedy="set it (sudo timedatectl set-ntp true): recordings and logs carry its time",
            )
        elif abs(step_s) > STEP_S:
            yield Finding(
                kind="clock",
                text=f"the clock was set by {step_s:+.2f} s during the check",
                remedy="let it be slewed, not set, while the arm runs (chrony); the control loop itself uses another",
            )
