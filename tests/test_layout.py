"""The tree keeps its promises: who imports what, and what setup.py installs."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import setuptools

ROOT = Path(__file__).parents[1]
FOLDERS = {"mbrl_core": ROOT / "mbrl_core", "mbrl_sim": ROOT / "sim", "mbrl_ros": ROOT / "ros2_ws/src/mbrl_ros"}
LEARNING = ("mbrl_core.models", "mbrl_core.policies", "mbrl_core.algorithms")
ROS = ("rclpy", "mbrl_msgs", "mbrl_ros")
SIMULATION = ("mujoco", "gymnasium")
TORCH = ("torch", "onnx", "onnxscript")

IMPORT_WITHOUT = """
import importlib, sys
forbidden, modules = sys.argv[1].split(","), sys.argv[2].split(",")

class Blocker:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in forbidden:
            raise ModuleNotFoundError(name + " must not be imported here", name=name)

sys.meta_path.insert(0, Blocker)
failed = 0
for module in modules:
    try:
        importlib.import_module(module)
    except ImportError as error:
        failed = 1
        print(f"{module}: {error}")
sys.exit(failed)
"""


def modules_of(package: str) -> list[str]:
    folder = FOLDERS[package]
    parts = [path.relative_to(folder).with_suffix("").parts for path in sorted(folder.rglob("*.py"))]
    return [".".join((package, *part)).removesuffix(".__init__") for part in parts]


def assert_imports_without(forbidden: tuple[str, ...], modules: list[str]) -> None:
    command = [sys.executable, "-c", IMPORT_WITHOUT, ",".join(forbidden), ",".join(modules)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.fixture(scope="module")
def arguments() -> dict:
    """What setup.py passes to setup()."""
    captured = {}
    patch, before = pytest.MonkeyPatch(), os.getcwd()
    patch.setattr(setuptools, "setup", lambda **kwargs: captured.update(kwargs))
    os.chdir(ROOT)
    try:
        runpy.run_path("setup.py")
    finally:
        os.chdir(before)
        patch.undo()
    return captured


def test_core_imports_neither_ros_nor_the_simulator():
    assert_imports_without((*ROS, *SIMULATION, "mbrl_sim"), modules_of("mbrl_core"))


def test_core_outside_the_learning_folders_imports_no_torch():
    modules = [name for name in modules_of("mbrl_core") if not name.startswith(LEARNING)]
    assert_imports_without((*TORCH, *ROS, *SIMULATION, "mbrl_sim"), modules)


def test_simulation_imports_neither_ros_nor_torch():
    assert_imports_without((*TORCH, *ROS), modules_of("mbrl_sim"))


@pytest.mark.parametrize("node, simulation", [("robot_interface", ("gymnasium",)), ("policy", SIMULATION)])
def test_what_runs_on_the_robot_imports_only_what_a_robot_installs(node, simulation):
    pytest.importorskip("rclpy", reason="the nodes need a ROS 2 client library")
    pytest.importorskip("mbrl_msgs", reason="mbrl_msgs is not built")
    assert_imports_without((*TORCH, *simulation, "matplotlib", "rich", "tyro"), [f"mbrl_ros.{node}"])


def test_versions_agree_in_every_manifest(arguments):
    manifests = (ROOT / "package.xml", ROOT / "ros2_ws/src/mbrl_msgs/package.xml")
    versions = {re.search("<version>(.*)</version>", path.read_text())[1] for path in manifests}
    assert versions == {arguments["version"]} == {"0.1.0"}


def test_every_folder_of_modules_is_an_installed_package(arguments):
    folders = {name.rpartition(".")[0] for package in FOLDERS for name in modules_of(package)} - {""}
    assert folders <= set(arguments["packages"]), "a folder lacks its __init__.py"


def test_every_launch_file_and_config_is_installed(arguments):
    installed = {name for _, names in arguments["data_files"] for name in names}
    paths = [*ROOT.glob("launch/*.launch.py"), *ROOT.glob("launch/config/*")]
    present = {str(path.relative_to(ROOT)) for path in paths}
    assert {"launch/train_sim.launch.py", "launch/train_real.launch.py", "launch/deploy.launch.py"} <= present
    assert present <= installed


def test_every_entry_point_names_a_module_that_exists(arguments):
    scripts = arguments["entry_points"]["console_scripts"]
    modules = {script.split("=")[1].split(":")[0].strip() for script in scripts}
    assert modules <= set(modules_of("mbrl_ros"))
