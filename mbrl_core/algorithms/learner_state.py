"""A learner between two rounds as a checkpoint, and back: last good policy, ensemble, every random generator."""

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mbrl_core.algorithms.accepted import Accepted, Trained
from mbrl_core.checkpoint import Checkpoint
from mbrl_core.config import refuse
from mbrl_core.models.ensemble import Ensemble
from mbrl_core.models.ensemble_graph import BOUNDS
from mbrl_core.models.normaliser import Normaliser
from mbrl_core.policies.gaussian_mlp import Parameters

_FACTS = ("version", "real_steps", "ensemble_id")


def save_learner(
    good: Accepted, ensemble: Ensemble, generator: torch.Generator, rng: np.random.Generator, **counts: int
) -> Checkpoint:
    """Everything that a round depends on; `counts` are whatever the learner counts."""
    tensors = _prefixed("ensemble", ensemble.tensors()) | _good_tensors(good) | {"generator": generator.get_state()}
    facts: dict[str, Any] = {name: getattr(good, name) for name in _FACTS}
    return Checkpoint(
        arrays={name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()},
        facts={"good": facts, "rng": rng.bit_generator.state, "counts": counts},
    )


def load_learner(
    checkpoint: Checkpoint, like: Accepted, ensemble: Ensemble, generator: torch.Generator, rng: np.random.Generator
) -> tuple[Accepted, dict[str, int]]:
    """Put ensemble and generators back as they were; return the last good policy and the counts.

    Args:
      checkpoint: what `save_learner` gave.
      like: a policy of the same shape.
      ensemble: of the same size; changed.
      generator: changed.
      rng: changed.

    Raises:
      ValueError: something is missing or has another shape, as under other settings.
    """
    device = like.obs_norm.mean.device
    tensors = {name: torch.as_tensor(array, device=device) for name, array in checkpoint.arrays.items()}
    gate = _unprefixed("gate", tensors)  # a policy of an earlier version has none
    if gate:
        like = dataclasses.replace(like, gate=ensemble.asked_tensors() | dict.fromkeys(BOUNDS, torch.zeros(())))
    wanted = _good_tensors(like) | _prefixed("ensemble", ensemble.tensors()) | {"generator": generator.get_state()}
    for name in sorted(set(wanted) ^ set(tensors)):
        raise refuse(f"checkpoint.{name}", *(("an array", "nothing") if name in wanted else ("nothing", "an array")))
    for name, mine in wanted.items():
        if tensors[name].shape != mine.shape:
            raise refuse(f"checkpoint.{name}", tuple(mine.shape), tuple(tensors[name].shape))
    for name in ("good", "rng", "counts"):
        if name not in checkpoint.facts:
            raise refuse(f"checkpoint.{name}", "a value", "nothing")
    ensemble.replace(_unprefixed("ensemble", tensors))
    generator.set_state(tensors["generator"].cpu())
    rng.bit_generator.state = checkpoint.facts["rng"]
    good = dataclasses.replace(
        like,
        **checkpoint.facts["good"],
        trained=Trained(*(_ordered(part, tensors, getattr(like.trained, part)) for part in Trained._fields)),
        obs_norm=Normaliser(tensors["obs.mean"], tensors["obs.scale"]),
        gate=gate,
    )
    return good, checkpoint.facts["counts"]


def load_ensemble(checkpoint: Checkpoint, ensemble: Ensemble, device: str) -> None:
    """Put back the ensemble alone.

    Args:
      checkpoint: what `save_learner` gave.
      ensemble: of the same size; changed.
      device: where its tensors lie.

    Raises:
      ValueError: something of it is missing or has another shape, as under other settings.
    """
    tensors = {name: torch.as_tensor(array, device=device) for name, array in checkpoint.arrays.items()}
    ensemble.replace(_unprefixed("ensemble", tensors))


def _good_tensors(good: Accepted) -> dict[str, Tensor]:
    norm = {"mean": good.obs_norm.mean, "scale": good.obs_norm.scale}
    named = _prefixed("obs", norm) | _prefixed("gate", good.gate)
    for part in Trained._fields:
        named |= _prefixed(part, getattr(good.trained, part))
    return named


def _prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _unprefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def _ordered(prefix: str, tensors: dict[str, Tensor], like: Parameters) -> Parameters:
    """In the order of `like`: a sum over parameters in another order differs in its last bits."""
    return {name: tensors[f"{prefix}.{name}"] for name in like}
