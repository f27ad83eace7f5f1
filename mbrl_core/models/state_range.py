"""Where imagined states may lie: in the range of the real ones, and somewhat beyond.

Beyond what was seen a model extrapolates, and where the world is unstable (a hopper that should have fallen) each
imagined step leads further out, until numbers overflow or a learned reward promises millions. There is nothing to learn
there: states are cut back to a box, entry by entry; so are rewards and ends where they are learned with the state.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class StateRange:
    """A box of states."""

    low: Tensor  # (S,)
    high: Tensor  # (S,)

    @classmethod
    def of(cls, states: Tensor) -> "StateRange":
        """The smallest box that holds these: (B, S)."""
        return cls(*torch.aminmax(states, dim=0))

    def widened(self, margin: float) -> "StateRange":
        """As much wider on either side as `margin` times its width."""
        more = margin * (self.high - self.low)
        return StateRange(self.low - more, self.high + more)

    def nearest(self, states: Tensor) -> Tensor:
        """The nearest states of the box, (..., S) to (..., S); what is no number stays none."""
        return torch.clamp(states, self.low, self.high)
