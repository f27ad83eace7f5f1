"""`mbrl inspect`: what a policy bundle is, what it was made for, and whether it fits an arm. No ROS, no torch."""

import dataclasses
import hashlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mbrl_core.arm import load_profile
from mbrl_core.bundle import Bundle, Metadata, Slice, check_fits
from mbrl_core.config import setting
from mbrl_core.tasks.reach import ReachTask
from mbrl_sim import profile_path


@dataclasses.dataclass(frozen=True, kw_only=True)
class InspectConfig:
    """Show a policy bundle; every hash in it is checked."""

    bundle: str = setting(doc="policy file (.mbrl)")
    profile: str = setting("", doc="an arm's profile, by name or path: refuse a bundle that was made for another arm")


def inspect(config: InspectConfig) -> int:
    """Print what is in the bundle; return the exit status.

    Raises:
      ValueError: the bundle is damaged, or does not fit the arm that was named.
    """
    path = Path(config.bundle)
    bundle = Bundle.load(path)
    print(f"{path}: {path.stat().st_size:,} bytes, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}")
    rows = [*_rows(bundle.metadata, ""), *_inner_step(bundle)]
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        print(f"  {name:{width}}  {text}")
    with zipfile.ZipFile(path) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    for file in bundle.metadata.files:
        print(f"  {file.name}: {sizes[file.name]:,} bytes, sha256 {file.sha256}")
    if config.profile:
        profile = load_profile(profile_path(config.profile))
        check_fits(bundle, profile, ReachTask(profile))
    print(_fits(bundle.metadata, config.profile))
    return 0


def _rows(group: Any, prefix: str) -> Iterator[tuple[str, str]]:
    """Name and value of every setting that says something, those of a group behind its name."""
    for field in dataclasses.fields(group):
        value, name = getattr(group, field.name), f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            yield from _rows(value, f"{name}.")
        elif field.name != "files" and value not in ((), "", None):
            yield name, f"{_text(value)} {field.metadata['unit']}".rstrip()


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(_text(item) for item in value)
    if isinstance(value, Slice):
        return f"{value.name} {value.start}:{value.stop}"
    return f"{value:g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _inner_step(bundle: Bundle) -> Iterator[tuple[str, str]]:
    """What the metadata leave to the arrays."""
    sizes = bundle.step_sizes
    if sizes is not None:
        yield "step sizes", f"{sizes.min():g} to {sizes.max():g}, mean {sizes.mean():g}"


def _fits(metadata: Metadata, profile: str) -> str:
    arm = f"the arm {metadata.arm}, task {metadata.task}" if metadata.arm else f"the environment {metadata.task}"
    parts = {"an inner step": metadata.adaptation, "an ensemble to watch it": metadata.disagreement}
    extras = [name for name, there in parts.items() if there is not None]
    checked = f"; {profile} checked" if profile else ""
    return f"fits {arm}{checked}; it has {' and '.join(extras) or 'neither inner step nor ensemble'}"
