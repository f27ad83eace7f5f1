"""Holds at most one action: the answer to the observation that is open now. Everything else is refused and counted."""

import threading
import time
from collections import Counter

import numpy as np

from mbrl_core.types import Action

# Of any component of an action. A draw outside [-1, 1] is in order and is cut later; one that is a hundred times too
# large comes from a network that has diverged or was fed wrong units. Cut to full speed it would look like any other.
LARGEST_DRAW = 100.0


class ActionMailbox:
    """Between the thread that receives actions and the control loop."""

    def __init__(self, action_dim: int) -> None:
        """Accept actions of shape (action_dim,)."""
        self._dim = action_dim
        self._changed = threading.Condition()
        self._open: tuple[int, int] | None = None
        self._action: Action | None = None
        self._fresh_s = time.monotonic()
        self.refused: Counter[str] = Counter()

    def expect(self, seq: int, episode: int, *, restart: bool) -> None:
        """Open the box for the answer to one observation; `restart` begins the watchdog's count anew."""
        with self._changed:
            self._open, self._action = (seq, episode), None
            if restart:
                self._fresh_s = time.monotonic()

    def offer(self, action: Action) -> bool:
        """Put an action in; returns whether it was taken. A refused one is counted under its reason."""
        with self._changed:
            reason = self._refusal(action)
            if reason:
                self.refused[reason] += 1
                return False
            self._action, self._fresh_s = action, time.monotonic()
            self._changed.notify()
            return True

    def wait(self, timeout_s: float) -> None:
        """Wait until the answer is there, at most timeout_s of wall time."""
        with self._changed:
            self._changed.wait_for(lambda: self._action is not None, timeout_s)

    def take(self) -> Action | None:
        """Return the answer, once; the box closes with it."""
        with self._changed:
            action, self._action = self._action, None
            if action is not None:
                self._open = None
            return action

    def silent_s(self) -> float:
        """Wall seconds since the last action that was taken in."""
        with self._changed:
            return time.monotonic() - self._fresh_s

    def _refusal(self, action: Action) -> str:
        if (action.seq, action.episode) != self._open:
            return "stale"
        if action.action.shape != (self._dim,):
            return "wrong length"
        if not np.isfinite(action.action).all():
            return "not finite"
        if np.abs(action.action).max() > LARGEST_DRAW:
            return "out of range"
        if self._action is not None:
            return "second answer"
        return ""
