"""The digital twin. Importing the package alone brings no MuJoCo, so what needs ASSETS only does without it."""

from pathlib import Path

ASSETS = Path(__file__).parent / "assets"


def profile_path(name: str) -> Path:
    """The YAML of an arm: a path as it is, or a bare name under ASSETS."""
    return Path(name) if name.endswith((".yaml", ".yml")) else ASSETS / f"{name}.yaml"
