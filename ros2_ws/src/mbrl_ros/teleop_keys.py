"""The keyboard of `mbrl teleop`: keys that turn joints while they are held, and keys that end an episode.

A terminal tells when a key is pressed, again and again while it is held, and never when it is let go. So a key counts
as held for a moment after each time that it came.
"""

import contextlib
import os
import re
import select
import sys
import termios
import time
import tty
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np

from mbrl_core.types import Vector

HELD_S = 0.12  # keyboards repeat 20 to 40 times a second
PLUS, MINUS = "qwertyuiop", "asdfghjkl;"
END, DROP, STOP = "end", "drop", "stop"
WORDS = {b"\x1b[C": END, b"\x1b[D": DROP, b" ": END, b"\x7f": DROP}
ESCAPE = b"\x1b"
SEQUENCE = re.compile(rb"\x1b(\[[0-9;]*[@-~]|O.)")  # what a terminal sends for one key that is no letter


class TeleopKeys:
    """Standard input without waiting for Enter; a pipe will do. Gives the terminal back as it was."""

    def __init__(self, joints: Sequence[str]) -> None:
        """Give each joint a pair of keys, at most ten."""
        self.joints = tuple(joints)
        self.ended = False  # no key will come any more
        self._pressed_s: dict[str, float] = {}
        self._file = sys.stdin.fileno()
        self._before: list[Any] = []

    def __enter__(self) -> "TeleopKeys":
        """Take the terminal over; Ctrl-C stays what it is."""
        if os.isatty(self._file):
            self._before = termios.tcgetattr(self._file)
            tty.setcbreak(self._file)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Give it back."""
        if self._before:
            termios.tcsetattr(self._file, termios.TCSADRAIN, self._before)

    @property
    def help(self) -> str:
        """What the keys do, one joint a line."""
        rows = [f"  {PLUS[i]} / {MINUS[i]}  {name} + / -" for i, name in enumerate(self.joints)]
        return "\n".join([*rows, "  space or right: end the episode; backspace or left: drop it; Esc: leave"])

    def poll(self, timeout_s: float) -> str:
        """Wait a little for keys; return END, DROP or STOP when that was asked for, otherwise nothing."""
        if self.ended:
            time.sleep(timeout_s)
            return ""
        if not select.select([self._file], [], [], timeout_s)[0]:
            return ""
        typed = b""
        with contextlib.suppress(OSError):  # a terminal that was closed
            typed = os.read(self._file, 256)
        self.ended = not typed
        if ESCAPE in SEQUENCE.sub(b"", typed):  # before all else: whoever presses it wants the arm to stop
            return STOP
        for code, word in WORDS.items():
            if code in typed:
                return word
        now_s = time.monotonic()
        self._pressed_s |= {chr(key): now_s for key in typed}
        return ""

    def action(self) -> Vector:
        """What the keys ask of each joint: (A,), -1, 0 or 1."""
        now_s = time.monotonic()

        def held(key: str) -> bool:
            return now_s - self._pressed_s.get(key, -np.inf) < HELD_S

        return np.array([float(held(PLUS[i])) - float(held(MINUS[i])) for i in range(len(self.joints))])
