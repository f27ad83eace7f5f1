"""What is known of the emergency stop: pressed, released, or silent, which counts as pressed where words are due.

It brakes through the control loop and the servos go on holding. It is no circuit breaker: an arm that can hurt somebody
needs one in its supply.
"""

import threading
import time
from collections.abc import Callable

PRESSED = "emergency stop: pressed"


class EmergencyStop:
    """Between the thread that hears the button and the control loop.

    The last word counts, whoever said it: of several buttons each must repeat itself to be heeded. A press latches the
    arm in any case: however short it was, `heed` tells of it once.
    """

    def __init__(self, timeout_s: float = 0.0, now: Callable[[], float] = time.monotonic) -> None:
        """Begin released.

        Args:
          timeout_s: longest silence, wall s; 0 = nobody need say anything.
          now: the clock, s.
        """
        self._timeout_s, self._now = timeout_s, now
        self._changed = threading.Condition()
        self._pressed = self._unheeded = False
        self._heard_s: float | None = None

    def hear(self, pressed: bool) -> None:
        """Take one word of the button's."""
        with self._changed:
            self._pressed, self._heard_s = pressed, self._now()
            self._unheeded |= pressed
            self._changed.notify_all()

    def trouble(self) -> str:
        """Why the arm must not move; empty where nothing is wrong."""
        with self._changed:
            return self._trouble()

    def heed(self) -> str:
        """As `trouble`, and a press that was released since the last call: for the one who stops the arm."""
        with self._changed:
            unheeded, self._unheeded = self._unheeded, False
            return PRESSED if unheeded else self._trouble()

    def wait_until_clear(self, timeout_s: float) -> bool:
        """Wait, s, for a button that has not been heard yet; returns whether nothing is wrong."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._trouble(), timeout_s)

    def _trouble(self) -> str:
        if self._pressed:
            return PRESSED
        if self._timeout_s == 0.0:
            return ""
        if self._heard_s is None:
            return f"emergency stop: expected word of its button every {self._timeout_s:g} s, got none yet"
        silent_s = self._now() - self._heard_s
        if silent_s > self._timeout_s:
            return f"emergency stop: expected word of its button every {self._timeout_s:g} s, got silence"
        return ""
