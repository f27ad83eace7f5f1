"""How far an encoder went, across its own end: counts that do not wrap, and the lowest and highest of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class EncoderRange:
    """The way of several encoders, by servo id; each begins where it is first seen.

    Between two looks an encoder must move by less than half a turn: look often.
    """

    counts_per_turn: int
    now: dict[int, int] = field(default_factory=dict)
    lowest: dict[int, int] = field(default_factory=dict)
    highest: dict[int, int] = field(default_factory=dict)

    def forget(self, servo_id: int) -> None:
        """Begin anew with one encoder, wherever it is seen next."""
        for known in (self.now, self.lowest, self.highest):
            known.pop(servo_id, None)

    def look(self, counts: Mapping[int, int]) -> None:
        """Take in what the encoders say: counts by servo id, wrapped or not."""
        half = self.counts_per_turn // 2
        for servo_id, count in counts.items():
            before = self.now.get(servo_id, count)
            here = before + (count - before + half) % self.counts_per_turn - half
            self.now[servo_id] = here
            self.lowest[servo_id] = min(here, self.lowest.get(servo_id, here))
            self.highest[servo_id] = max(here, self.highest.get(servo_id, here))
