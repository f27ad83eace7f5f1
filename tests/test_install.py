"""`colcon build` at the root, for real, into a temporary folder."""

import importlib.util
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NODES = ("robot_interface", "policy", "model_learning", "twin", "lifecycle_manager")

WHERE = """
import mbrl_core, mbrl_msgs.msg, mbrl_ros, mbrl_sim

for part in mbrl_core, mbrl_msgs, mbrl_ros, mbrl_sim:
    print(part.__file__)
print(*sorted(path.name for path in mbrl_sim.ASSETS.rglob("*.*")))
"""

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("colcon_core") is None, reason="colcon is not installed: colcon build is not tested"
)


def bash(script: str) -> str:
    """Run a script in a fresh shell at the root; ROS from wheels is sourced where this interpreter has it."""
    underlay = Path(sys.prefix, "setup.bash")
    first = f"source {shlex.quote(str(underlay))}\n" if underlay.exists() else ""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = ["bash", "-e", "-c", first + script]
    run = subprocess.run(command, cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
    return run.stdout


def source(install: Path) -> str:
    return f"source {shlex.quote(str(install / 'local_setup.bash'))}"


@pytest.fixture(scope="module")
def install(tmp_path_factory) -> Path:
    """The install folder of `colcon build`."""
    folder = tmp_path_factory.mktemp("colcon")
    log, build, install = (shlex.quote(str(folder / name)) for name in ("log", "build", "install"))
    bash(f"python3 -m colcon --log-base {log} build --build-base {build} --install-base {install}")
    return folder / "install"


def test_colcon_installs_what_ros_looks_for(install):
    share = install / "mbrl/share"
    assert (share / "ament_index/resource_index/packages/mbrl").is_file()
    assert (share / "mbrl/package.xml").is_file()
    for source in (*ROOT.glob("launch/*.launch.py"), *ROOT.glob("launch/config/*.yaml")):
        assert (share / "mbrl" / source.relative_to(ROOT)).read_bytes() == source.read_bytes()


def test_colcon_installs_the_nodes_where_ros2_run_looks(install):
    for node in ("mbrl", *NODES):
        assert os.access(install / "mbrl/lib/mbrl" / node, os.X_OK), node


def test_installed_tree_works_by_itself(install, tmp_path):
    program = tmp_path / "where.py"
    program.write_text(WHERE)
    *files, assets = bash(f"{source(install)}\npython3 {shlex.quote(str(program))}").splitlines()[-5:]
    assert all(file.startswith(str(install)) for file in files), files
    assert assets.split() == sorted(path.name for path in (ROOT / "sim/assets").rglob("*.*"))


def test_installed_command_starts(install):
    command = shlex.quote(str(install / "mbrl/lib/mbrl/mbrl"))
    assert "sim" in bash(f"{source(install)}\n{command} --help")
