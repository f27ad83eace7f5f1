"""Simulated time: the monotonic clock, scaled. It never jumps ahead by more than a physics can catch up with."""

import math
import time

from mbrl_core.config import refuse

LONGEST_LAG_S = 0.25  # real seconds; a process that was stopped for longer loses the time instead of leaping


class SimClock:
    """Simulated seconds since it was made.

    Raises:
      ValueError: a speed that is not positive and finite.
    """

    def __init__(self, speed: float = 1.0) -> None:
        """Start at 0."""
        self.speed = _checked(speed)
        self._base_s = 0.0
        self._base_real_s = time.monotonic()

    def now(self) -> float:
        """Simulated time in s."""
        return self._base_s + (time.monotonic() - self._base_real_s) * self.speed

    def set_speed(self, speed: float) -> None:
        """Go on from now at another speed.

        Raises:
          ValueError: a speed that is not positive and finite.
        """
        speed = _checked(speed)
        self._rebase(self.now())
        self.speed = speed

    def catch_up(self, reached_s: float) -> float:
        """Return the time to advance to from `reached_s`, having given up what lags too far behind."""
        target_s = self.now()
        furthest_s = reached_s + LONGEST_LAG_S * self.speed
        if target_s > furthest_s:
            self._rebase(furthest_s)
            return furthest_s
        return target_s

    def _rebase(self, base_s: float) -> None:
        self._base_s, self._base_real_s = base_s, time.monotonic()


def _checked(speed: float) -> float:
    if not 0.0 < speed < math.inf:
        raise refuse("speed", "above 0", speed)
    return speed
