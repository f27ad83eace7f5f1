"""Keeps the graphs of one run to themselves: a ROS domain of their own, on this machine only."""

import os
import socket

FIRST, LAST = 10, 99  # above 101 the ports collide with Linux's ephemeral ones
PORT_BASE, PORTS_PER_DOMAIN, FIRST_PARTICIPANT = 7400, 250, 10  # DDSI-RTPS 9.6.1


def use_private_domain() -> int:
    """Set ROS_DOMAIN_ID to a free one for this process and its children, unless the user gave one; return it."""
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    if "ROS_DOMAIN_ID" not in os.environ:
        os.environ["ROS_DOMAIN_ID"] = str(free_domain())
    return int(os.environ["ROS_DOMAIN_ID"])


def free_domain() -> int:
    """Return a domain that no participant on this machine uses; where it starts to look depends on the process."""
    count = LAST - FIRST + 1
    candidates = [FIRST + (os.getpid() + index) % count for index in range(count)]
    return next((domain for domain in candidates if _is_free(domain)), candidates[0])


def _is_free(domain: int) -> bool:
    """Whether the port of the domain's first participant can be bound."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", PORT_BASE + PORTS_PER_DOMAIN * domain + FIRST_PARTICIPANT))
        except OSError:
            return False
    return True


def node_environment() -> dict[str, str]:
    """Environment of a node: this process's own, its output neither buffered nor coloured."""
    return {**os.environ, "PYTHONUNBUFFERED": "1", "RCUTILS_COLORIZED_OUTPUT": "0"}
