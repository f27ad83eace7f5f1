"""Adapted parameters on disk, with all that tells where they came from: one file, whole or absent.

A safetensors file with the acting parameters and those before the last adaptation, to which the policy may still fall
back; its header holds the provenance as JSON and a SHA-256 over provenance and numbers. What is damaged, or belongs to
another bundle or arm, is refused: the meta-policy then acts.
"""

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from mbrl_core.bundle import Bundle, File
from mbrl_core.config import from_mapping, refuse, setting
from mbrl_core.replay import header_metadata, write_atomically

SCHEMA_VERSION = 1
SUFFIX = ".adapted.safetensors"
_TENSORS = {"theta", "theta_before"}


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where adapted parameters came from, and how they did."""

    schema_version: int = setting(SCHEMA_VERSION, doc="version of this format")
    bundle_files: tuple[File, ...] = setting(doc="hashes of the bundle's members")
    policy_version: int = setting(doc="version of the meta-policy", low=1)
    arm: str = setting(doc="name of the arm's profile")
    task: str = setting(doc="name of the task")
    inner_steps: int = setting(doc="gradient steps taken", low=1)
    inner_steps_before: int = setting(doc="of the parameters before the last adaptation", low=0)
    episodes: tuple[int, ...] = setting(doc="numbers of the episodes that the last adaptation used")
    kl: float = setting(doc="of the last step", unit="nats")
    surrogate: float = setting(doc="improvement that was predicted on the episodes used")
    gradient_norm: float = setting(doc="at the last step")
    returns_before: tuple[float, ...] = setting((), doc="of evaluation episodes before the last adaptation")
    returns_after: tuple[float, ...] = setting((), doc="of evaluation episodes since")
    saved_at: str = setting(doc="when, UTC, ISO 8601")


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """What the file holds."""

    theta: NDArray[np.float32]  # (P,)
    theta_before: NDArray[np.float32]  # (P,)
    provenance: Provenance


def hashes_of(bundle: Bundle) -> tuple[File, ...]:
    """Hashes of the members that the bundle has as a file."""
    return Bundle.from_bytes(bundle.to_bytes()).metadata.files


def save_adapted(path: Path, adapted: Adapted) -> None:
    """Write the file; one of that name is replaced, and `kill -9` leaves the old or the new one.

    Raises:
      OSError: the folder cannot be written to.
    """
    provenance = json.dumps(dataclasses.asdict(adapted.provenance))
    tensors = {"theta": adapted.theta, "theta_before": adapted.theta_before}
    header = {"provenance": provenance, "sha256": _digest(provenance, tensors)}
    write_atomically(path, save_tensors(tensors, metadata=header))


def load_adapted(path: Path, bundle: Bundle) -> Adapted:
    """Read what `save_adapted` wrote for this very bundle.

    Raises:
      ValueError: damaged, of another schema, bundle or arm.
      OSError: the file cannot be read.
    """
    data = path.read_bytes()
    try:
        tensors: dict[str, Any] = load_tensors(data)
        header = header_metadata(data)
        provenance, digest = header["provenance"], header["sha256"]
    except (SafetensorError, KeyError, ValueError) as error:
        raise refuse(path.name, "undamaged adapted parameters", str(error)) from error
    if set(tensors) != _TENSORS or _digest(provenance, tensors) != digest:
        raise refuse(path.name, f"undamaged adapted parameters, sha256 {digest}", "others")
    adapted = Adapted(provenance=_parse(provenance, path.name), **tensors)
    _check_fits(adapted, bundle, path.name)
    return adapted


def remove_adapted(path: Path) -> None:
    """Remove the file for good, where there is one.

    Raises:
      OSError: the folder cannot be written to.
    """
    path.unlink(missing_ok=True)
    if path.parent.is_dir():
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _parse(provenance: str, name: str) -> Provenance:
    mapping = json.loads(provenance)
    version = mapping.get("schema_version") if isinstance(mapping, dict) else None
    if version != SCHEMA_VERSION:
        raise refuse(f"{name}: schema_version", SCHEMA_VERSION, version)
    return from_mapping(Provenance, mapping, name)


def _check_fits(adapted: Adapted, bundle: Bundle, name: str) -> None:
    facts = adapted.provenance
    wanted = {file.name: file.sha256 for file in hashes_of(bundle)}
    got = {file.name: file.sha256 for file in facts.bundle_files}
    for member in sorted(wanted.keys() | got.keys()):
        if wanted.get(member) != got.get(member):
            raise refuse(f"{name}: sha256 of the bundle's {member}", wanted.get(member), got.get(member))
    for field in ("policy_version", "arm", "task"):
        want, have = getattr(bundle.metadata, field), getattr(facts, field)
        if want != have:
            raise refuse(f"{name}: {field}", want, have)
    for tensor in (adapted.theta, adapted.theta_before):
        if tensor.shape != bundle.theta.shape or tensor.dtype != np.float32 or not np.isfinite(tensor).all():
            raise refuse(f"{name}: theta", f"{bundle.theta.shape}, float32, finite", (tensor.shape, str(tensor.dtype)))


def _digest(provenance: str, tensors: dict[str, Any]) -> str:
    digest = hashlib.sha256(provenance.encode())
    for name in sorted(tensors):
        digest.update(np.ascontiguousarray(tensors[name]).tobytes())
    return digest.hexdigest()
