"""Rows of a gradient step: every row once a pass, or each member of an ensemble its own bootstrap."""

from collections.abc import Iterator

import torch
from torch import Tensor


def shuffled(count: int, size: int, passes: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield every one of `count` rows once in each pass, in another order: (size,) at a time, the last maybe fewer."""
    for _ in range(passes):
        order = torch.randperm(count, generator=generator, device=generator.device)
        yield from torch.split(order, size)


def bootstrapped(count: int, members: int, size: int, passes: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Draw `count` rows with replacement for each member, then yield those as `shuffled` does: (members, size).

    The bootstrap (Efron 1979) is drawn once; each member goes through its own in an order of its own.
    """
    device = generator.device
    rows = torch.randint(count, (members, count), generator=generator, device=device)
    for _ in range(passes):
        order = torch.rand(rows.shape, generator=generator, device=device).argsort(1)
        yield from torch.split(rows.gather(1, order), size, dim=1)
