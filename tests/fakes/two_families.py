"""An arm of each servo family with the same joints, written out as a profile that a command can be given."""

import dataclasses
from pathlib import Path

import yaml

from mbrl_core.arm import ArmProfile, load_profile
from mbrl_sim import profile_path

FAMILIES = ("so101", "koch")  # feetech_sts and dynamixel_x


def load(name: str) -> ArmProfile:
    return load_profile(profile_path(name))


def write_profile(path: Path, profile: ArmProfile) -> Path:
    """A profile as YAML, beside nothing: its MJCF stays where it was."""
    path.write_text(yaml.safe_dump(_plain(dataclasses.asdict(profile))))
    return path


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
