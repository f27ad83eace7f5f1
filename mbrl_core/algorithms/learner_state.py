"""A learner between two rounds as a checkpoint, and back: its policies, its ensemble, every random generator."""

import dataclasses
from typing import Any, NamedTuple

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
_CANDIDATE = "candidate"
_GENERATOR = "generator"  # what the names of generators' states end with


class Loaded(NamedTuple):
    """What a checkpoint has of the learner itself."""

    good: Accepted
    candidate: Accepted | None
    counts: dict[str, int]


def save_learner(
    good: Accepted,
    candidate: Accepted | None,
    ensemble: Ensemble,
    generator: torch.Generator,
    rng: np.random.Generator,
    **counts: int,
) -> Checkpoint:
    """Everything that a round depends on; `counts` are whatever the learner counts."""
    tensors = _prefixed("ensemble", ensemble.tensors()) | _good_tensors(good) | {"generator": generator.get_state()}
    if candidate is not None:
        tensors |= _prefixed(_CANDIDATE, _trained_tensors(candidate))
    facts: dict[str, Any] = {name: getattr(good, name) for name in _FACTS}
    return Checkpoint(
        arrays={name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()},
        facts={"good": facts, "rng": rng.bit_generator.state, "counts": counts},
    )


def load_learner(
    checkpoint: Checkpoint, like: Accepted, ensemble: Ensemble, generator: torch.Generator, rng: np.random.Generator
) -> Loaded:
    """Put ensemble and generators back as they were; return the rest.

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
    candidate = _unprefixed(_CANDIDATE, tensors)
    if candidate:
        wanted |= _prefixed(_CANDIDATE, _trained_tensors(like))
    for name in sorted(set(wanted) ^ set(tensors)):
        raise refuse(f"checkpoint.{name}", *(("an array", "nothing") if name in wanted else ("nothing", "an array")))
    for name, mine in wanted.items():
        if tensors[name].shape == mine.shape:
            continue
        if name.endswith(_GENERATOR):
            raise refuse("device", "the kind that the run was begun on, which has other generators", str(device))
        raise refuse(f"checkpoint.{name}", tuple(mine.shape), tuple(tensors[name].shape))
    for name in ("good", "rng", "counts"):
        if name not in checkpoint.facts:
            raise refuse(f"checkpoint.{name}", "a value", "nothing")
    ensemble.replace(_unprefixed("ensemble", tensors))
    generator.set_state(tensors["generator"].cpu())
    rng.bit_generator.state = checkpoint.facts["rng"]
    good = dataclasses.replace(_accepted(tensors, like), **checkpoint.facts["good"], gate=gate)
    return Loaded(good, _accepted(candidate, like) if candidate else None, checkpoint.facts["counts"])


def load_ensemble(checkpoint: Checkpoint, ensemble: Ensemble, device: str) -> None:
    """Put back the ensemble alone, without its generators: another device has others, and only a fit draws from them.

    Args:
      checkpoint: what `save_learner` gave.
      ensemble: of the same size; changed.
      device: where its tensors lie.

    Raises:
      ValueError: something of it is missing or has another shape, as under other settings.
    """
    tensors = {name: torch.as_tensor(array, device=device) for name, array in checkpoint.arrays.items()}
    own = {name: tensor for name, tensor in ensemble.tensors().items() if name.endswith(_GENERATOR)}
    ensemble.replace(_unprefixed("ensemble", tensors) | own)


def own_generators(checkpoint: Checkpoint, learner: Checkpoint) -> Checkpoint:
    """A checkpoint with a learner's own generators: what the last good policy is can so be read on any device.

    Args:
      checkpoint: of a learner, made on any device.
      learner: of the one that is to restore it.
    """
    own = {name: array for name, array in learner.arrays.items() if name.endswith(_GENERATOR)}
    return Checkpoint(arrays=checkpoint.arrays | own, facts=checkpoint.facts)


def _good_tensors(good: Accepted) -> dict[str, Tensor]:
    return _trained_tensors(good) | _prefixed("gate", good.gate)


def _trained_tensors(accepted: Accepted) -> dict[str, Tensor]:
    named = _prefixed("obs", {"mean": accepted.obs_norm.mean, "scale": accepted.obs_norm.scale})
    for part in Trained._fields:
        named |= _prefixed(part, getattr(accepted.trained, part))
    return named


def _accepted(tensors: dict[str, Tensor], like: Accepted) -> Accepted:
    """The inverse of `_trained_tensors`."""
    trained = Trained(*(_ordered(part, tensors, getattr(like.trained, part)) for part in Trained._fields))
    norm = Normaliser(tensors["obs.mean"], tensors["obs.scale"])
    return Accepted(version=like.version, trained=trained, obs_norm=norm)


def _prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _unprefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def _ordered(prefix: str, tensors: dict[str, Tensor], like: Parameters) -> Parameters:
    """In the order of `like`: a sum over parameters in another order differs in its last bits."""
    return {name: tensors[f"{prefix}.{name}"] for name in like}
