"""Holds at most one action: the answer to the observation that is open now. Everything else is refused and counted.

`seq` protects by itself from answers that come late or twice, on any clock. Stamps add what it cannot see: a sender
whose clock is not ours, and a recording that is played again, whose numbers may fit. The sender adds the third: two
policies that answer the same observations.
"""

import threading
import time
from collections import Counter
from dataclasses import dataclass

import numpy as np

from mbrl_core.types import Action

# Of any component of an action. A draw outside [-1, 1] is in order and is cut later; one that is a hundred times too
# large comes from a network that has diverged or was fed wrong units. Cut to full speed it would look like any other.
LARGEST_DRAW = 100.0


@dataclass(frozen=True)
class Sender:
    """Who sent an action: what the middleware knows it by, and a name for people."""

    gid: bytes = b""
    name: str = ""


UNKNOWN = Sender()  # where the middleware does not tell


class ActionMailbox:
    """Between the thread that receives actions and the control loop."""

    def __init__(self, action_dim: int, *, oldest_s: float = np.inf, ahead_s: float = np.inf) -> None:
        """Accept actions of shape (action_dim,) that are no older than oldest_s and no more than ahead_s to come."""
        self._dim, self._oldest_s, self._ahead_s = action_dim, oldest_s, ahead_s
        self._changed = threading.Condition()
        self._open: tuple[int, int] | None = None
        self._action: Action | None = None
        self._fresh_s = time.monotonic()
        self._owner: Sender | None = None  # whose first action was taken in this episode
        self._rival: Sender | None = None
        self.refused: Counter[str] = Counter()

    def expect(self, seq: int, episode: int, *, restart: bool) -> None:
        """Open the box for the answer to one observation; `restart`: to the first one of an episode.

        Then the watchdog's count begins anew, and whoever answers first is the one that acts in this episode.
        """
        with self._changed:
            self._open, self._action = (seq, episode), None
            if restart:
                self._fresh_s = time.monotonic()
                self._owner = self._rival = None

    def offer(self, action: Action, *, sender: Sender = UNKNOWN, age_s: float = 0.0) -> bool:
        """Put an action in; returns whether it was taken. A refused one is counted under its reason.

        Args:
          action: what was received.
          sender: whose it is.
          age_s: since its stamp, wall s; negative for a stamp that is still to come.
        """
        with self._changed:
            if self._owner not in (None, sender):
                self._rival = sender
            reason = self._refusal(action, sender, age_s)
            if reason:
                self.refused[reason] += 1
                return False
            self._action, self._owner, self._fresh_s = action, sender, time.monotonic()
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

    def fight(self) -> str:
        """Who acts and who wants to as well, since this episode began; empty where there is no such second one."""
        with self._changed:
            if self._owner is None or self._rival is None:
                return ""
            return f"actions: expected one publisher, {self._owner.name}, got a second one, {self._rival.name}"

    def _refusal(self, action: Action, sender: Sender, age_s: float) -> str:
        if self._owner not in (None, sender):
            return "second publisher"
        if not age_s <= self._oldest_s:
            return "stale stamp"
        if age_s < -self._ahead_s:
            return "future stamp"
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
