"""The switchboard of an emulated bus: everything that is made to go wrong on its wire and in its servos.

Attributes are set at any time, from any thread; each is replaced as a whole, never changed in place. Rates are shares
of the answers in [0, 1], drawn from a generator of the switchboard's own. Three more faults are methods of the twin,
because they are events: `power_cycle` (brown-out), `unplug` and `replug`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import NamedTuple

import numpy as np

FOREIGN = 100  # a wrong id is so far from the right one
HIGHEST_ID = 253
NOISE_BYTES = 12  # at most so many before an answer
LATENCY_TIMER_S = 0.016  # of a USB adapter as it comes out of the box


class Reply(NamedTuple):
    """One status packet on its way.

    Attributes:
      data: its bytes.
      delay_s: how long the servo waits before it answers, in s.
      id_at: place of the id byte in `data`.
    """

    data: bytes
    delay_s: float
    id_at: int = 2


@dataclass(kw_only=True)
class BusFaults:
    """What goes wrong now. As built, nothing does.

    Attributes:
      silent: ids of servos that neither hear nor answer.
      duplicated: ids that two servos have; their answers collide on the wire, so that no checksum holds.
      twice: ids that two servos have; with different return delays, both answers are whole.
      bad_checksum: rate of answers with a flipped bit.
      noise: rate of answers with random bytes before them.
      truncated: rate of answers that break off.
      wrong_id: rate of answers that carry another id, with a checksum that holds.
      echo: whether the host hears what it sends, as on a half-duplex adapter.
      latency_s: how long the adapter keeps answers back, in s; LATENCY_TIMER_S is what adapters do at their default.
      frozen: ids of servos whose position and velocity stay as they were.
      encoder_jump: counts by which servos' position is off, by id.
      overloaded: ids of servos that think that their load is beyond what they stand.
      temperature_c: what servos' thermometers are held at, by id, degC.
      supply: factor on the supply voltage.
      seed: of the draws.
    """

    silent: frozenset[int] = frozenset()
    duplicated: frozenset[int] = frozenset()
    twice: frozenset[int] = frozenset()
    bad_checksum: float = 0.0
    noise: float = 0.0
    truncated: float = 0.0
    wrong_id: float = 0.0
    echo: bool = False
    latency_s: float = 0.0
    frozen: frozenset[int] = frozenset()
    encoder_jump: Mapping[int, int] = field(default_factory=dict)
    overloaded: frozenset[int] = frozenset()
    temperature_c: Mapping[int, float] = field(default_factory=dict)
    supply: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Seed the draws."""
        self._rng = np.random.default_rng(self.seed)

    def clear(self) -> None:
        """Let nothing go wrong any more; the draws go on where they were."""
        fresh = BusFaults()
        for fault in fields(self):
            if fault.name != "seed":
                setattr(self, fault.name, getattr(fresh, fault.name))

    def spoil(self, reply: Reply) -> list[Reply]:
        """Return what really leaves in place of one answer."""
        servo_id = reply.data[reply.id_at]
        if servo_id in self.duplicated:
            return [reply._replace(data=_collided(reply.data))]
        if self._strikes(self.bad_checksum):
            at = int(self._rng.integers(reply.id_at + 1, len(reply.data)))
            reply = reply._replace(data=_flipped(reply.data, at, int(self._rng.integers(8))))
        if self._strikes(self.truncated):
            reply = reply._replace(data=reply.data[: int(self._rng.integers(1, len(reply.data)))])
        if self._strikes(self.noise):
            noise = self._rng.bytes(int(self._rng.integers(1, NOISE_BYTES + 1)))
            reply = reply._replace(data=noise + reply.data)
        return [reply, reply] if servo_id in self.twice else [reply]

    def signs_as(self, servo_id: int) -> int:
        """Return the id under which a servo sends its next answer: its own, or one that nobody has."""
        return (servo_id + FOREIGN) % HIGHEST_ID if self._strikes(self.wrong_id) else servo_id

    def _strikes(self, rate: float) -> bool:
        return rate > 0.0 and bool(self._rng.random() < rate)


def _flipped(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes((data[at] ^ 1 << bit,)) + data[at + 1 :]


def _collided(data: bytes) -> bytes:
    """Two answers a byte apart on an open-collector line: a bit is high only where both are."""
    late = b"\xff" + data
    return bytes(one & other for one, other in zip(data + b"\xff", late, strict=True))
