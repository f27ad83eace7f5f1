"""Runs a node's module so that it never outlives the supervisor that started it, not even after kill -9.

    python -m mbrl_ros.leash PARENT_PID GRACE_S MODULE [ARGUMENT...]

The kernel signals this process when its parent dies (prctl(2), PR_SET_PDEATHSIG): SIGKILL, or with a grace time
SIGTERM, so that an arm can be brought to rest, and SIGKILL after it. All of this is done after exec, in the child
itself: code between fork and exec is unsafe in a process that has threads. The request outlives an execve, which the
ROS wheels do once at start. Linux only; elsewhere nodes are stopped in order, but survive a kill -9 of their parent.

A process group of its own, not a session: Linux shares the processor among sessions first (sched(7), autogroup), and
niceness would count for nothing between nodes in different ones.
"""

import contextlib
import ctypes
import os
import runpy
import select
import signal
import sys
import threading
import time

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent, then become the node."""
    parent, grace_s = int(sys.argv[1]), float(sys.argv[2])
    os.setpgrp()  # a terminal's Ctrl-C reaches only the supervisor, which stops all in order
    tie(parent, grace_s)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job begins with it ignored
    sys.argv = sys.argv[3:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def tie(parent: int, grace_s: float) -> None:
    """Arrange that this process ends when its parent does, at the latest after `grace_s`."""
    with contextlib.suppress(OSError, AttributeError):  # no libc, or one without prctl
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM if grace_s else signal.SIGKILL)
    if grace_s:
        threading.Thread(target=_end_after, args=(parent, grace_s), daemon=True, name="leash").start()
    if os.getppid() != parent:  # it died before the request was made
        os.kill(os.getpid(), signal.SIGKILL)


def _end_after(parent: int, grace_s: float) -> None:
    """Sleep in the kernel until the parent has ended: a thread that woke up now and then could delay a control loop."""
    with contextlib.suppress(OSError, AttributeError):  # a kernel before 5.3
        select.select([os.pidfd_open(parent)], [], [])
        time.sleep(grace_s)
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
