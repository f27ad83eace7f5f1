"""What a round of learning has done so far, and how long its phases took."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from mbrl_core.algorithms.report import InnerReport
from mbrl_core.algorithms.world import Imagined


@dataclass
class Tally:
    """What a round has done so far."""

    phase: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    fit_steps: int = 0
    imagined_steps: int = 0
    imagined: Imagined = field(default_factory=Imagined)
    holdout_loss: tuple[float, ...] = ()
    disagreement: float = 0.0
    ratio: float = 0.0
    imagined_return: float = math.nan
    imagined_success: float = math.nan
    inner: InnerReport | None = None
    problem: str = ""


@contextmanager
def timed(tally: Tally, phase: str, on_phase: Callable[[str], None]) -> Iterator[None]:
    """Announce a change of phase and add the phase's wall-clock time."""
    if phase != tally.phase:
        tally.phase = phase
        on_phase(phase)
    start = time.monotonic()
    try:
        yield
    finally:
        tally.seconds[phase] = tally.seconds.get(phase, 0.0) + time.monotonic() - start
