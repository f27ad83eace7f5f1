"""Inputs, targets and observations in units of their own spread."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Normaliser:
    """x -> (x - mean) / scale, over the last axis."""

    mean: Tensor  # (O,)
    scale: Tensor  # (O,), above 0

    @staticmethod
    def of(rows: Tensor, smallest: float) -> "Normaliser":
        """Mean and standard deviation of (B, O) rows; a spread below `smallest`, in raw units, counts as `smallest`."""
        return Normaliser(rows.mean(0), rows.std(0, correction=0).clamp(min=smallest))

    def __call__(self, x: Tensor) -> Tensor:
        """Normalise (..., O)."""
        return (x - self.mean) / self.scale
