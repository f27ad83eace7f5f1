"""What a run was made with: versions, machine, commit. Nothing is imported for it; only installed metadata are read."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

PACKAGES = ("torch", "mujoco", "onnxruntime", "numpy")


def versions() -> dict[str, str]:
    """Versions of Python, of the main libraries and of ROS; a library that is not installed is left out."""
    found = {"python": platform.python_version(), "ros": ros_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def ros_version() -> str:
    """Distribution of a sourced ROS 2, or the version of the rclpy wheel."""
    if os.environ.get("ROS_DISTRO"):
        return os.environ["ROS_DISTRO"]
    for package in ("ros-rclpy", "rclpy"):
        try:
            return f"{package} {metadata.version(package)}"
        except metadata.PackageNotFoundError:
            continue
    return "unknown"


def machine() -> dict[str, str | int]:
    """CPU model and cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {"cpu": _cpu_model(), "cores": cores, "system": f"{platform.system()} {platform.machine()}"}


def git_commit() -> str | None:
    """Commit of the source tree that runs, `-dirty` where it was changed; None where it is not a checkout."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip() or None


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or "unknown"
