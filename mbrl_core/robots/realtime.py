"""What a process does that must meet a bus cycle: scheduling ahead of everything ordinary, no long collections.

An ordinary thread that wakes up may wait for whole time slices (several ms each) behind a busy learner, niced or not,
on a kernel without preemption. A real-time thread does not wait. Threads started afterwards inherit the policy.
"""

import gc
import os

PRIORITY = 50  # what ros2_control asks for


def ask_for_realtime(priority: int = PRIORITY) -> str:
    """Ask the kernel to run the calling thread, and the threads that it starts from now on, before ordinary ones.

    Call it first in `main`: a thread left ordinary could hold the interpreter's lock while it waits for a core.

    Args:
      priority: of SCHED_FIFO, 1 to 99.

    Returns:
      "" when granted, otherwise one sentence that says why not and what would allow it.
    """
    if not hasattr(os, "sched_setscheduler"):
        return "no real-time scheduling on this system"
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except OSError as error:
        return f"no real-time scheduling ({error.strerror}): give the user an rtprio limit of {priority}"
    return ""


def settle_memory() -> None:
    """Collect garbage now, and leave everything that is alive out of later collections.

    Python's collector looks at all objects that there are once enough new ones have outlived it; with this package
    loaded that takes 20 ms, three cycles of a bus, and errors on the wire make such objects. Call it when all is built.
    """
    gc.collect()
    gc.freeze()
