"""The folder that a run leaves behind: `runs/<stamp>/`, with every node's parameters and log in it."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mbrl_core.config import refuse

RUNS = "runs"


def create_run_dir(given: str = "") -> Path:
    """Create the folder of a run and return its absolute path.

    Args:
      given: a path; empty = `runs/<stamp>` below the current folder, a number added where the stamp is taken.

    Raises:
      ValueError: the path is a file, or holds the summary of another run.
    """
    if not given:
        return _create_stamped(Path(RUNS).absolute())
    path = Path(given).absolute()
    if path.exists() and not path.is_dir():
        raise refuse("run_dir", "a folder", given)
    if (path / "summary.json").exists():
        raise refuse("run_dir", "a folder without the summary of another run", given)
    path.mkdir(parents=True, exist_ok=True)
    return path


def _create_stamped(root: Path) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for attempt in range(1000):
        path = root / (f"{stamp}-{attempt}" if attempt else stamp)
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        return path
    raise refuse("run_dir", "a free name", str(root / stamp))


def write_parameters(folder: Path, name: str, parameters: Mapping[str, Any]) -> Path:
    """Write one node's ROS parameter file, valid in any namespace, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"/**": {"ros__parameters": dict(parameters)}}, sort_keys=False))
    return path
