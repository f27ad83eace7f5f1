"""The graph description agrees with the nodes that it describes."""

import dataclasses
import runpy
import typing
from pathlib import Path

import pytest
import setuptools

from mbrl_core.adaptation_config import AdaptationConfig
from mbrl_core.arm import load_profile
from mbrl_core.calibration import Calibration, JointCalibration, save_calibration
from mbrl_core.control_config import ControlConfig
from mbrl_ros.graph import STOP_ORDER, DeployGraph, RealGraph, SimGraph, build_graph
from mbrl_ros.node_configs import LearningConfig, LifecycleManagerConfig, PolicyConfig, TwinConfig
from mbrl_sim import profile_path

ROOT = Path(__file__).parents[2]
CONFIGS = {
    "twin": TwinConfig,
    "robot_interface": ControlConfig,
    "policy": PolicyConfig,
    "model_learning": LearningConfig,
    "lifecycle_manager": LifecycleManagerConfig,
}
SIM = SimGraph(run_dir="runs/one", max_steps=100, seed=3)
REAL = RealGraph(run_dir="runs/one", port="/dev/ttyUSB0")
RANDOM = DeployGraph(run_dir="runs/one", actor="random")
ARM = DeployGraph(run_dir="runs/one", actor="random", port="/dev/ttyUSB0")
CONTROLLERS = "so101_ros2_control"
LEARNED = DeployGraph(run_dir="runs/one", adapt_after=4, inner_steps=2)


def names(config):
    return [node.name for node in build_graph(config).nodes]


def parameters(config, name):
    return next(node.parameters for node in build_graph(config).nodes if node.name == name)


@pytest.fixture
def bundle(tmp_path):
    """A file that could be one: nobody reads it here."""
    (tmp_path / "policy.mbrl").write_bytes(b"")
    return tmp_path / "policy.mbrl"


@pytest.mark.parametrize("config", [SIM, REAL, RANDOM, ARM, LEARNED])
def test_every_parameter_is_a_field_of_its_node_with_its_type(config, bundle):
    config = dataclasses.replace(config, bundle=str(bundle)) if config is LEARNED else config
    for node in build_graph(config).nodes:
        hints = typing.get_type_hints(CONFIGS[node.name])
        if node.name == "policy":
            hints |= {f"adaptation.{name}": hint for name, hint in typing.get_type_hints(AdaptationConfig).items()}
        for name, value in node.parameters.items():
            if name == "use_sim_time":
                continue
            assert name in hints, f"{node.name} knows no {name}"
            assert isinstance(value, list if typing.get_origin(hints[name]) is tuple else hints[name])


def test_each_graph_has_the_nodes_that_it_needs():
    assert names(SIM) == ["twin", "robot_interface", "policy", "model_learning", "lifecycle_manager"]
    assert names(REAL) == ["robot_interface", "policy", "model_learning", "lifecycle_manager"]
    assert names(RANDOM) == ["twin", "robot_interface", "policy", "lifecycle_manager"]
    assert names(ARM) == ["robot_interface", "policy", "lifecycle_manager"]


def test_the_arm_is_stopped_first_and_the_twin_last():
    order = [node.name for node in build_graph(SIM).stop_order]
    assert order == list(STOP_ORDER)
    assert (order[0], order[-1]) == ("robot_interface", "twin")


def test_every_lifecycle_node_is_brought_up_by_the_manager():
    for config in (SIM, REAL, RANDOM):
        lifecycle = {node.name for node in build_graph(config).nodes if node.lifecycle}
        assert lifecycle == set(parameters(config, "lifecycle_manager")["nodes"])


def test_a_twin_starts_by_itself_and_an_arm_waits_for_the_operator():
    started = {config: parameters(config, "lifecycle_manager")["auto_start"] for config in (SIM, REAL, RANDOM, ARM)}
    assert started == {SIM: True, REAL: False, RANDOM: True, ARM: False}


def test_twin_and_robot_interface_meet_at_the_same_port_and_speed():
    config = dataclasses.replace(SIM, speed=4.0)
    twin, arm = parameters(config, "twin"), parameters(config, "robot_interface")
    assert (twin["port"], twin["speed"], twin["profile"]) == (arm["port"], arm["speed"], arm["profile"])


@pytest.mark.parametrize("config", [SIM, REAL, RANDOM, dataclasses.replace(RANDOM, port="ros2_control")])
def test_behind_ros2_control_there_is_no_port(config):
    port = config.port if isinstance(config, DeployGraph) else ""
    given = {"profile": CONTROLLERS} | ({} if isinstance(config, SimGraph) else {"port": port})
    graph = build_graph(dataclasses.replace(config, **given))
    assert graph.on_twin == (config in (SIM, RANDOM))
    assert {node.parameters.get("port", "") for node in graph.nodes} == {""}
    assert {node.parameters.get("profile", CONTROLLERS) for node in graph.nodes} == {CONTROLLERS}


@pytest.mark.parametrize("config", [SIM, REAL])
def test_demonstrations_are_handed_to_the_learner_by_a_path_that_holds_from_anywhere(config, tmp_path, monkeypatch):
    (tmp_path / "shown").mkdir()
    monkeypatch.chdir(tmp_path)
    given = parameters(dataclasses.replace(config, demonstrations="shown"), "model_learning")["demonstrations"]
    assert given == str(tmp_path / "shown")
    assert parameters(config, "model_learning")["demonstrations"] == ""


def test_a_deployed_policy_is_told_when_to_adapt_and_others_are_not(bundle):
    told = parameters(dataclasses.replace(LEARNED, bundle=str(bundle)), "policy")
    assert (told["adaptation.after_episodes"], told["adaptation.inner_steps"]) == (4, 2)
    for config in (SIM, REAL, RANDOM):
        assert not any(name.startswith("adapt") for name in parameters(config, "policy"))


def test_the_gate_is_asked_for_in_deployment_unless_it_is_not_wanted(bundle):
    deployed = dataclasses.replace(LEARNED, bundle=str(bundle))
    assert parameters(deployed, "policy")["gate"] is True
    assert parameters(dataclasses.replace(deployed, gate=False), "policy")["gate"] is False
    for config in (SIM, REAL, RANDOM):
        assert "gate" not in parameters(config, "policy")


def test_adapted_parameters_of_arms_and_of_the_twin_are_kept_apart(bundle, tmp_path):
    on_twin = dataclasses.replace(LEARNED, bundle=str(bundle), run_dir=str(tmp_path / "run"))
    on_arm = dataclasses.replace(on_twin, port="/dev/ttyUSB0")
    left, chosen = dataclasses.replace(on_arm, namespace="/cell/left"), dataclasses.replace(on_arm, adapted="one")
    files = [parameters(config, "policy")["adapted"] for config in (on_twin, on_arm, left, chosen)]
    assert files == [
        str(tmp_path / "run/policy.adapted.safetensors"),
        str(tmp_path / "policy.adapted.safetensors"),
        str(tmp_path / "policy.cell.left.adapted.safetensors"),
        str(Path("one").absolute()),
    ]


def test_every_node_is_an_executable_of_the_package(monkeypatch):
    captured = {}
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: captured.update(arguments))
    monkeypatch.chdir(ROOT)
    runpy.run_path("setup.py")
    scripts = captured["entry_points"]["console_scripts"]
    assert {f"{node.name} = {node.module}:main" for node in build_graph(SIM).nodes} <= set(scripts)


def test_parameters_from_a_file_replace_those_of_the_graph(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("robot_interface: {command_timeout_s: 0.3, seed: 5}\n")
    changed = parameters(dataclasses.replace(SIM, params=str(path)), "robot_interface")
    assert (changed["command_timeout_s"], changed["seed"], changed["max_steps"]) == (0.3, 5, 100)


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        (dataclasses.replace(REAL, port=""), "port: expected a serial port, for example /dev/ttyUSB0, got ''"),
        (dataclasses.replace(REAL, port="ros2_control"), "port: expected a serial port"),
        (dataclasses.replace(REAL, profile=CONTROLLERS), "port: expected ros2_control or nothing"),
        (dataclasses.replace(SIM, profile="no_such_arm"), "profile: expected a file"),
        (dataclasses.replace(RANDOM, actor="best"), "actor: expected one of"),
        (dataclasses.replace(RANDOM, actor="learned"), "bundle: expected a policy file"),
        (dataclasses.replace(LEARNED, inner_steps=-1), "inner_steps: expected at least 0, got -1"),
        (dataclasses.replace(ARM, speed=2.0), "speed: expected 1.0 on an arm"),
        (dataclasses.replace(SIM, speed=0.0), "speed: expected at least 0.1, got 0.0"),
        (dataclasses.replace(SIM, namespace="a b"), "namespace: expected a ROS name"),
        (dataclasses.replace(SIM, params="nowhere.yaml"), "params: expected a YAML file"),
        (dataclasses.replace(SIM, run_dir=""), "run_dir: expected a folder"),
        (dataclasses.replace(SIM, demonstrations="none"), "demonstrations: expected a folder of episodes, or of a run"),
    ],
)
def test_bad_requests_are_refused_with_field_expected_and_got(config, complaint):
    with pytest.raises(ValueError, match="expected") as refusal:
        build_graph(config)
    assert complaint in str(refusal.value)


def test_parameters_for_a_node_that_is_not_there_are_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("robot_interfase: {seed: 5}\n")
    with pytest.raises(ValueError, match="got 'robot_interfase'"):
        build_graph(dataclasses.replace(SIM, params=str(path)))


def test_the_learner_is_told_its_method():
    assert parameters(SIM, "model_learning")["algorithm"] == "me-ppo"
    for config in (SIM, REAL):
        told = parameters(dataclasses.replace(config, algorithm="mb-mpo"), "model_learning")
        assert told["algorithm"] == "mb-mpo"
    with pytest.raises(ValueError, match="algorithm: expected one of .'me-ppo', 'mb-mpo'., got 'bptt'"):
        build_graph(dataclasses.replace(SIM, algorithm="bptt"))


@pytest.mark.parametrize("config", [REAL, ARM])
def test_a_calibration_reaches_the_arm_and_a_wrong_one_is_refused_before_anything_starts(config, tmp_path):
    assert parameters(config, "robot_interface")["calibration"] == ""
    profile = load_profile(profile_path("so101"))
    joints = tuple(
        JointCalibration(
            name=joint.name, servo_id=joint.servo_id, homing_offset=0, sign=1, zero_count=2000, lower_count=100,
            upper_count=4000,
        )
        for joint in profile.joints
    )  # fmt: skip
    mine, another = tmp_path / "mine.yaml", tmp_path / "another.yaml"
    save_calibration(mine, Calibration(arm="so101", joints=joints))
    save_calibration(another, Calibration(arm="koch", joints=joints))
    named = dataclasses.replace(config, calibration=str(mine))
    assert parameters(named, "robot_interface")["calibration"] == str(mine)
    with pytest.raises(ValueError, match="calibration.arm: expected 'so101', got 'koch'"):
        build_graph(dataclasses.replace(config, calibration=str(another)))
    with pytest.raises(ValueError, match="calibration: expected a file"):
        build_graph(dataclasses.replace(config, calibration="none.yaml"))
