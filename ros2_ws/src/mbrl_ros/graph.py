"""The one description of the graphs: which nodes, with which parameters, started and stopped in which order.

The launch files and the command line both start what is written here. Plain data; imports no ROS.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mbrl_core.adaptation_config import (
    ADAPT_AFTER_DOC,
    INNER_STEPS_DOC,
    MOST_EXPLORED,
    MOST_INNER_STEPS,
    AdaptationConfig,
)
from mbrl_core.adapted_file import SUFFIX
from mbrl_core.arm import load_profile
from mbrl_core.calibration import load_fitted
from mbrl_core.config import check, refuse, setting
from mbrl_core.control_config import CALIBRATION_DOC
from mbrl_ros.node_configs import (
    ALGORITHM_DOC,
    ALGORITHMS,
    DEMONSTRATIONS_DOC,
    GATE_DOC,
    PROFILE_DOC,
    LearningConfig,
    LifecycleManagerConfig,
)
from mbrl_sim import profile_path

# robot_interface first, so that the arm holds and rests; the twin last, because it is the arm
STOP_ORDER = ("robot_interface", "lifecycle_manager", "policy", "model_learning", "twin")
# A pseudo-terminal is served by ordinary kernel workers, which a busy machine keeps waiting longer than a wire does
TWIN_BUS_ERRORS = 10
PARK_S = 20.0  # time that robot_interface has to end: 15 s to park, where it is told to, and 5 s to brake and close
ROS2_CONTROL = "ros2_control"  # a port that is none: the controllers that the profile names
ACTORS = ("learned", "zero", "random")
ADAPTED_DOC = (
    "file that adapted parameters are kept in; empty = beside the bundle on an arm, in the run folder on the twin"
)


@dataclass(frozen=True, kw_only=True)
class NodeSpec:
    """One node in its own process: `python -m mbrl_ros.<name>`, or executable <name> of the ROS package mbrl."""

    name: str
    parameters: Mapping[str, Any]
    lifecycle: bool = False
    settles: bool = False  # needs a moment to bring an arm to rest, also when its supervisor was killed
    stop_s: float = 5.0  # time from SIGINT to SIGTERM

    @property
    def module(self) -> str:
        """Python module that holds the node's main()."""
        return f"mbrl_ros.{self.name}"


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Nodes in the order in which they are started."""

    kind: str
    nodes: tuple[NodeSpec, ...]
    namespace: str = ""
    on_twin: bool = field(default=False)

    @property
    def stop_order(self) -> tuple[NodeSpec, ...]:
        """The same nodes in the order in which they are stopped."""
        return tuple(sorted(self.nodes, key=lambda node: STOP_ORDER.index(node.name)))


@dataclass(frozen=True, kw_only=True)
class SimGraph:
    """Train on the twin."""

    profile: str = setting("so101", doc=PROFILE_DOC)
    speed: float = setting(1.0, doc="how many times faster than real time the twin runs", low=0.1, high=100)
    seed: int = setting(0, doc="seed of goals, policy and learner", low=0, high=2**31 - 1)
    max_steps: int = setting(0, doc="real steps after which collection ends; 0 = no limit", low=0)
    episodes: int = setting(0, doc="episodes after which collection ends; 0 = no limit", low=0)
    finish_s: float = setting(LearningConfig.finish_s, doc="learning after the last real step", unit="s", low=0)
    start: bool = setting(True, doc="begin to move as soon as every node is active")
    run_dir: str = setting("", doc="folder for what the run leaves; empty = runs/<stamp>")
    namespace: str = setting("", doc="ROS namespace, one per arm; empty = the root")
    algorithm: str = setting(LearningConfig.algorithm, doc=ALGORITHM_DOC, one_of=ALGORITHMS)
    demonstrations: str = setting("", doc=DEMONSTRATIONS_DOC)
    params: str = setting("", doc="YAML file, node: {parameter: value}, for what differs from the defaults")
    verbose: bool = setting(False, doc="copy the nodes' logs to the console")


@dataclass(frozen=True, kw_only=True)
class RealGraph:
    """Train on an arm."""

    profile: str = setting("so101", doc=PROFILE_DOC)
    port: str = setting(
        "", doc="serial port of the servo bus, for example /dev/ttyUSB0; required, but for arms behind ros2_control"
    )
    calibration: str = setting("", doc=CALIBRATION_DOC)
    seed: int = setting(0, doc="seed of goals, policy and learner", low=0, high=2**31 - 1)
    max_steps: int = setting(0, doc="real steps after which collection ends; 0 = no limit", low=0)
    episodes: int = setting(0, doc="episodes after which collection ends; 0 = no limit", low=0)
    start: bool = setting(False, doc="move without waiting for the operator to call the service start")
    run_dir: str = setting("", doc="folder for what the run leaves; empty = runs/<stamp>")
    namespace: str = setting("", doc="ROS namespace, one per arm; empty = the root")
    algorithm: str = setting(LearningConfig.algorithm, doc=ALGORITHM_DOC, one_of=ALGORITHMS)
    demonstrations: str = setting("", doc=DEMONSTRATIONS_DOC)
    params: str = setting("", doc="YAML file, node: {parameter: value}, for what differs from the defaults")
    verbose: bool = setting(False, doc="copy the nodes' logs to the console")


@dataclass(frozen=True, kw_only=True)
class DeployGraph:
    """Run a policy without learning: on an arm when a port is given, otherwise on the twin."""

    bundle: str = setting("", doc="policy file (.mbrl); required when the actor is `learned`")
    profile: str = setting("so101", doc=PROFILE_DOC)
    port: str = setting(
        "", doc="serial port of the servo bus, or `ros2_control` for an arm that is behind it; empty = the twin"
    )
    calibration: str = setting("", doc=CALIBRATION_DOC)
    speed: float = setting(1.0, doc="how many times faster than real time the twin runs", low=0.1, high=100)
    seed: int = setting(0, doc="seed of goals and of random actions", low=0, high=2**31 - 1)
    episodes: int = setting(0, doc="episodes after which the arm stops; 0 = no limit", low=0)
    actor: str = setting("learned", doc="what acts", one_of=ACTORS)
    deterministic: bool = setting(True, doc="act with the mean instead of a sample, where no adaptation is under way")
    adapt_after: int = setting(AdaptationConfig.after_episodes, doc=ADAPT_AFTER_DOC, low=0, high=MOST_EXPLORED)
    inner_steps: int = setting(AdaptationConfig.inner_steps, doc=INNER_STEPS_DOC, low=0, high=MOST_INNER_STEPS)
    adapted: str = setting("", doc=ADAPTED_DOC)
    gate: bool = setting(True, doc=GATE_DOC)
    start: bool = setting(False, doc="move without waiting for the service start; the twin never waits")
    run_dir: str = setting("", doc="folder for what the run leaves; empty = runs/<stamp>")
    namespace: str = setting("", doc="ROS namespace, one per arm; empty = the root")
    params: str = setting("", doc="YAML file, node: {parameter: value}, for what differs from the defaults")
    verbose: bool = setting(False, doc="copy the nodes' logs to the console")


GraphConfig = SimGraph | RealGraph | DeployGraph


def build_graph(config: GraphConfig) -> Graph:
    """Describe the graph that a config asks for; `run_dir` must be filled in.

    Raises:
      ValueError: a value out of bounds, a port, bundle or run folder missing, or a file of parameters that is wrong.
    """
    check(config)
    if not config.run_dir:
        raise refuse("run_dir", "a folder", config.run_dir)
    if re.fullmatch(r"(/?[A-Za-z_]\w*(/[A-Za-z_]\w*)*)?", config.namespace) is None:
        raise refuse("namespace", "a ROS name such as left_arm", config.namespace)
    builders = {SimGraph: _sim, RealGraph: _real, DeployGraph: _deploy}
    graph = builders[type(config)](config)  # type: ignore[operator]
    return override(graph, read_overrides(config.params)) if config.params else graph


def _sim(config: SimGraph) -> Graph:
    arm = {"profile": config.profile, "port": _twin_port(config), "max_bus_errors": TWIN_BUS_ERRORS}
    limits = {"max_steps": config.max_steps, "episodes": config.episodes}
    shared = {"profile": config.profile, "seed": config.seed, "use_sim_time": True}
    nodes = (
        _twin(config),
        _robot_interface({**arm, **shared, "speed": config.speed, **limits}),
        _policy({**shared, "bundle": "", "actor": "learned", "deterministic": False}),
        _learner({**_learning(config), **shared, "finish_s": config.finish_s}),
        _manager(("twin", "model_learning"), config.start),
    )
    return Graph(kind="sim", nodes=nodes, namespace=config.namespace, on_twin=True)


def _real(config: RealGraph) -> Graph:
    port = _arm_port(config)
    shared = {"profile": config.profile, "seed": config.seed}
    limits = {"max_steps": config.max_steps, "episodes": config.episodes}
    nodes = (
        _robot_interface({**shared, "port": port, "calibration": _calibration(config), "speed": 1.0, **limits}),
        _policy({**shared, "bundle": "", "actor": "learned", "deterministic": False}),
        _learner({**_learning(config), **shared}),
        _manager(("model_learning",), config.start),
    )
    return Graph(kind="real", nodes=nodes, namespace=config.namespace)


def _deploy(config: DeployGraph) -> Graph:
    if config.actor == "learned" and not Path(config.bundle).is_file():
        raise refuse("bundle", "a policy file (.mbrl)", config.bundle)
    if config.port and config.speed != 1.0:
        raise refuse("speed", "1.0 on an arm; only the twin runs faster", config.speed)
    on_twin = not config.port
    arm: dict[str, Any] = {"port": _twin_port(config) if on_twin else _arm_port(config)}
    if on_twin:
        arm["max_bus_errors"] = TWIN_BUS_ERRORS
    else:
        arm["calibration"] = _calibration(config)
    shared = {"profile": config.profile, "seed": config.seed, "use_sim_time": on_twin}
    acting = {"bundle": config.bundle, "actor": config.actor, "deterministic": config.deterministic}
    if config.actor == "learned":
        adaptation = {"after_episodes": config.adapt_after, "inner_steps": config.inner_steps}
        acting |= {f"adaptation.{name}": value for name, value in adaptation.items()}
        acting |= {"adapted": str(_adapted(config)), "gate": config.gate}
    nodes = (
        *((_twin(config),) if on_twin else ()),
        _robot_interface({**shared, **arm, "speed": config.speed, "max_steps": 0, "episodes": config.episodes}),
        _policy({**shared, **acting}),
        _manager(("twin",) if on_twin else (), config.start or on_twin),
    )
    return Graph(kind="deploy", nodes=nodes, namespace=config.namespace, on_twin=on_twin)


def _learning(config: SimGraph | RealGraph) -> dict[str, Any]:
    """What the learner is told of the run.

    Raises:
      ValueError: there is no such folder of demonstrations.
    """
    if config.demonstrations and not Path(config.demonstrations).is_dir():
        raise refuse("demonstrations", "a folder of episodes, or of a run", config.demonstrations)
    demonstrations = str(Path(config.demonstrations).absolute()) if config.demonstrations else ""
    told = {"run_dir": config.run_dir, "max_steps": config.max_steps, "algorithm": config.algorithm}
    return told | {"demonstrations": demonstrations}


def _adapted(config: DeployGraph) -> Path:
    """Where adapted parameters are kept: a file for each arm, and never the twin's on an arm."""
    if config.adapted:
        return Path(config.adapted).absolute()
    bundle = Path(config.bundle).absolute()
    folder = bundle.parent if config.port else _folder(config)
    arm = config.namespace.strip("/").replace("/", ".")
    return folder / f"{bundle.stem}{'.' if arm else ''}{arm}{SUFFIX}"


def _twin_port(config: SimGraph | DeployGraph) -> str:
    """Where the twin's bus is linked to; behind ros2_control there is none."""
    return "" if _has_controllers(config) else str(_folder(config) / "port")


def _arm_port(config: RealGraph | DeployGraph) -> str:
    """The serial port of an arm; behind ros2_control there is none.

    Raises:
      ValueError: a port missing, or one where there is none.
    """
    if _has_controllers(config):
        if config.port not in ("", ROS2_CONTROL):
            raise refuse("port", f"{ROS2_CONTROL} or nothing: {config.profile} is behind controllers", config.port)
        return ""
    if config.port in ("", ROS2_CONTROL):
        raise refuse("port", "a serial port, for example /dev/ttyUSB0", config.port)
    return config.port


def _calibration(config: RealGraph | DeployGraph) -> str:
    """Path of the calibration that the arm's node is told of; refused here, before anything starts, where it is wrong.

    Raises:
      ValueError: the file is wrong, or of another arm.
    """
    load_fitted(profile_path(config.profile), config.calibration)
    return str(Path(config.calibration).absolute()) if config.calibration else ""


def _has_controllers(config: GraphConfig) -> bool:
    return load_profile(profile_path(config.profile)).bus.protocol == "ros2_control"


def _folder(config: GraphConfig) -> Path:
    return Path(config.run_dir).absolute()


def _twin(config: SimGraph | DeployGraph) -> NodeSpec:
    shared = {"profile": config.profile, "speed": config.speed, "seed": config.seed}
    parameters = {**shared, "port": _twin_port(config)}
    return NodeSpec(name="twin", parameters=parameters, settles=True)


def _robot_interface(parameters: Mapping[str, Any]) -> NodeSpec:
    return NodeSpec(name="robot_interface", parameters=parameters, lifecycle=True, settles=True, stop_s=PARK_S)


def _policy(parameters: Mapping[str, Any]) -> NodeSpec:
    return NodeSpec(name="policy", parameters=parameters, lifecycle=True)


def _learner(parameters: Mapping[str, Any]) -> NodeSpec:
    return NodeSpec(name="model_learning", parameters=parameters)


def _manager(wait_for: tuple[str, ...], start: bool) -> NodeSpec:
    parameters: dict[str, Any] = {"nodes": list(LifecycleManagerConfig.nodes), "auto_start": start}
    if wait_for:  # ROS has no type for an empty list
        parameters["wait_for"] = list(wait_for)
    return NodeSpec(name="lifecycle_manager", parameters=parameters)


def read_overrides(path: str) -> Mapping[str, Mapping[str, Any]]:
    """Read a YAML file of the form node: {parameter: value}.

    Raises:
      ValueError: no such file, or of another form.
    """
    if not Path(path).is_file():
        raise refuse("params", "a YAML file", path)
    overrides = yaml.safe_load(Path(path).read_text())
    if not isinstance(overrides, dict) or not all(isinstance(values, dict) for values in overrides.values()):
        raise refuse(f"params {path}", "node: {parameter: value}", overrides)
    return overrides


def override(graph: Graph, overrides: Mapping[str, Mapping[str, Any]]) -> Graph:
    """Return the graph with some parameters replaced; the nodes themselves refuse parameters that they do not know.

    Raises:
      ValueError: a node that the graph does not have.
    """
    names = [node.name for node in graph.nodes]
    for name in overrides:
        if name not in names:
            raise refuse("params", f"one of {names}", name)
    nodes = tuple(
        NodeSpec(**{**vars(node), "parameters": {**node.parameters, **overrides.get(node.name, {})}})
        for node in graph.nodes
    )
    return Graph(kind=graph.kind, nodes=nodes, namespace=graph.namespace, on_twin=graph.on_twin)
