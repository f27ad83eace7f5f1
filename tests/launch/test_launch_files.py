"""The launch files start what graph.py describes."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("launch_ros", reason="launch_ros is not installed: it comes with a full ROS 2 installation")

from launch.actions import DeclareLaunchArgument, OpaqueFunction  # noqa: E402
from launch.launch_description_sources import get_launch_description_from_python_launch_file  # noqa: E402

from launch import LaunchContext  # noqa: E402
from mbrl_ros.graph import DeployGraph, RealGraph, SimGraph, build_graph  # noqa: E402
from mbrl_ros.launch_graph import read_config  # noqa: E402

pytestmark = pytest.mark.full_ros
LAUNCH = Path(__file__).parents[2] / "launch"
FILES = {"train_sim": SimGraph, "train_real": RealGraph, "deploy": DeployGraph}
GIVEN = {"train_sim": {}, "train_real": {"port": "/dev/ttyUSB0"}, "deploy": {"actor": "random"}}


def describe(name):
    return get_launch_description_from_python_launch_file(str(LAUNCH / f"{name}.launch.py"))


@pytest.mark.parametrize("name", FILES)
def test_arguments_are_the_fields_of_the_graph(name):
    arguments = [entity for entity in describe(name).entities if isinstance(entity, DeclareLaunchArgument)]
    fields = {field.name for field in dataclasses.fields(FILES[name])} - {"verbose"}
    assert {argument.name for argument in arguments} == fields
    assert all(argument.description for argument in arguments)


@pytest.mark.parametrize("name", FILES)
def test_nodes_are_those_of_the_graph_in_its_order(name, tmp_path):
    context = LaunchContext()
    given = {**GIVEN[name], "run_dir": str(tmp_path / "run")}
    context.launch_configurations.update(given)
    description = describe(name)
    for entity in description.entities:
        if isinstance(entity, DeclareLaunchArgument):
            entity.visit(context)
    (function,) = [entity for entity in description.entities if isinstance(entity, OpaqueFunction)]
    nodes = function.visit(context)
    expected = build_graph(FILES[name](**given))
    assert [node.node_executable for node in nodes] == [node.name for node in expected.nodes]
    assert {path.stem for path in (tmp_path / "run/params").iterdir()} == {node.name for node in expected.nodes}


def test_texts_become_values_of_the_fields_types():
    texts = {"speed": "2", "max_steps": "300", "start": "false", "profile": "so101", "something_else": "x"}
    assert read_config(SimGraph, texts) == SimGraph(speed=2.0, max_steps=300, start=False)


@pytest.mark.parametrize(
    ("texts", "complaint"),
    [
        ({"speed": "fast"}, "launch argument.speed: expected float, got 'fast'"),
        ({"speed": "-1"}, "launch argument.speed: expected at least 0.1, got -1.0"),
        ({"start": "maybe"}, "launch argument.start: expected bool, got 'maybe'"),
    ],
)
def test_bad_arguments_are_refused_with_field_expected_and_got(texts, complaint):
    with pytest.raises(ValueError, match="expected") as refusal:
        read_config(SimGraph, texts)
    assert str(refusal.value) == complaint


def launch(name, *arguments):
    """Start a launch file as `ros2 launch` does, without needing the package to be installed."""
    code = (
        "import sys; from launch import LaunchService, LaunchDescription\n"
        "from launch.actions import IncludeLaunchDescription\n"
        "from launch.launch_description_sources import PythonLaunchDescriptionSource\n"
        "given = [tuple(text.split(':=', 1)) for text in sys.argv[2:]]\n"
        "source = PythonLaunchDescriptionSource(sys.argv[1])\n"
        "service = LaunchService()\n"
        "service.include_launch_description(LaunchDescription([IncludeLaunchDescription("
        "source, launch_arguments=given)]))\n"
        "sys.exit(service.run())"
    )
    path = str(LAUNCH / f"{name}.launch.py")
    command = [sys.executable, "-c", code, path, *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def press_ctrl_c(run):
    """As a terminal does it: to the whole group; launch relies on that."""
    os.killpg(run.pid, signal.SIGINT)


@pytest.fixture
def private_domain(monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(1 + os.getpid() % 101))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")


def wait_for(process, text, limit_s=90.0):
    end, said = time.monotonic() + limit_s, []
    for line in process.stdout:
        said.append(line)
        if text in line:
            return
        assert time.monotonic() < end, "".join(said)
    pytest.fail("".join(said))


def is_installed():
    from ament_index_python.packages import PackageNotFoundError, get_package_prefix

    try:
        return bool(get_package_prefix("mbrl"))
    except PackageNotFoundError:
        return False


@pytest.mark.skipif("not is_installed()", reason="the ROS package mbrl is not built and sourced (colcon build)")
def test_the_deploy_graph_comes_up_and_ctrl_c_ends_every_process(tmp_path, private_domain):
    run = launch("deploy", "actor:=random", "speed:=2.0", f"run_dir:={tmp_path / 'run'}")
    wait_for(run, "all nodes are active, collection started")
    press_ctrl_c(run)
    rest, _ = run.communicate(timeout=60)
    assert rest.count("process has finished cleanly") == 4, rest
    assert "escalating" not in rest


@pytest.mark.skipif("not is_installed()", reason="the ROS package mbrl is not built and sourced (colcon build)")
def test_when_one_node_is_refused_the_others_are_stopped(tmp_path, private_domain):
    run = launch("train_real", f"port:={tmp_path / 'ttyUSB7'}", f"run_dir:={tmp_path / 'run'}")
    said, _ = run.communicate(timeout=120)
    assert "refused: port: expected a serial device" in said
    assert "robot_interface: configure refused" in said
    assert said.count("process has finished cleanly") + said.count("process has died") == 4, said
