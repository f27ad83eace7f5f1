"""A checkpoint: everything that the next round of learning depends on, in one file. No pickle, no torch.

Arrays lie in safetensors, the rest as JSON in its header; the file is whole or it is not there.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from mbrl_core.config import refuse
from mbrl_core.replay import header_metadata, write_atomically

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Arrays by name, and numbers and words as JSON has them."""

    arrays: dict[str, NDArray[Any]]
    facts: dict[str, Any]


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the file; an older one of that name is replaced."""
    arrays = {name: np.asarray(array, order="C") for name, array in checkpoint.arrays.items()}
    facts = json.dumps({"schema_version": SCHEMA_VERSION} | checkpoint.facts)
    write_atomically(path, save_tensors(arrays, metadata={"facts": facts}))


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint file.

    Raises:
      ValueError: the file is damaged or of another schema.
    """
    data = path.read_bytes()
    try:
        arrays = load_tensors(data)
        facts: dict[str, Any] = json.loads(header_metadata(data)["facts"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise refuse(path.name, "a whole checkpoint", str(error)) from error
    if not isinstance(facts, dict):
        raise refuse(f"{path.name}: header", "a mapping", facts)
    version = facts.pop("schema_version", None)
    if version != SCHEMA_VERSION:
        raise refuse(f"{path.name}: schema_version", SCHEMA_VERSION, version)
    return Checkpoint(arrays=arrays, facts=facts)
