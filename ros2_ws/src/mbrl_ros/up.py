"""`mbrl up`: keeps a graph up until Ctrl-C and shows what it does. `mbrl call`: the operator's services."""

import dataclasses
import os
import sys
from typing import NoReturn

from mbrl_core.adaptation_config import MOST_INNER_STEPS
from mbrl_core.config import setting
from mbrl_ros.console import VERBS, Console
from mbrl_ros.graph import Graph, GraphConfig, build_graph
from mbrl_ros.run_directory import create_run_dir
from mbrl_ros.run_view import RunView, adaptation_line, episode_line, learner_line
from mbrl_ros.running_graph import GraphError, RunningGraph, relative
from mbrl_ros.stop_request import StopRequest, StopRequested

FAILED = 1
VERBS_DOC = (
    "start episodes; stop, brake and hold; rearm after a latch; reset, go home; park, go slowly to where it rests; "
    "estop presses the emergency stop, release lets it out; adapt takes inner steps, rollback takes them back"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CallConfig:
    """Ask a running graph: adapt and rollback its policy node, the others its robot_interface."""

    verb: str = setting(doc=VERBS_DOC, one_of=VERBS)
    namespace: str = setting("", doc="ROS namespace of the arm")
    inner_steps: int = setting(
        0, doc="adapt: gradient steps; 0 = as many as the policy node takes at most", low=0, high=MOST_INNER_STEPS
    )


def keep_up(config: GraphConfig) -> int:
    """Start a graph and keep it up; returns the exit status.

    Raises:
      ValueError: the config does not describe a graph.
    """
    build_graph(dataclasses.replace(config, run_dir=config.run_dir or "runs"))  # refuse before a folder is made
    run_dir = create_run_dir(config.run_dir)
    graph = build_graph(dataclasses.replace(config, run_dir=str(run_dir)))
    if graph.on_twin:  # an arm may have its learner on another machine
        os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    view = RunView()
    view.say(f"{graph.kind}: {', '.join(node.name for node in graph.nodes)}; files in {relative(run_dir)}/")
    with StopRequest() as stop:
        try:
            with RunningGraph(graph, run_dir, stop, verbose=config.verbose) as running:
                _show(running, graph, view)
        except StopRequested as end:
            view.say(f"{end}; every node has ended")
            return end.code
        except GraphError as end:
            for line in end.details:
                view.say(f"  {line}")
            view.say(f"{end}; every other node was stopped")
            return FAILED


def _show(running: RunningGraph, graph: Graph, view: RunView) -> NoReturn:
    """Print what changes, for ever; ends by an exception."""
    told, told_of_adaptation, robot_time_s, steps = "", "", 0.0, 0
    while True:
        episode = running.next_episode()
        if episode is not None:
            robot_time_s += float(episode.stamps_s[-1] - episode.stamps_s[0]) + episode.reset_s
            steps += episode.steps
            line = episode_line(episode, robot_time_s=robot_time_s, real_steps=steps, max_steps=0)
            learns = any(node.name == "model_learning" for node in graph.nodes)
            view.say(f"{line}  | {learner_line(running.console.learner)}" if learns else line)
        safety = running.console.safety
        state = f"arm: {safety.state}" + (f" ({safety.reason})" if safety.reason else "") if safety else ""
        if state != told:
            view.say(state + _advice(safety.state if safety else ""))
            told = state
        adaptation = adaptation_line(running.console.adaptation)
        if adaptation != told_of_adaptation:
            view.say(adaptation)
            told_of_adaptation = adaptation


def _advice(state: str) -> str:
    return {
        "holding": "; `mbrl call start` begins",
        "latched": "; look at the arm, then `mbrl call rearm` and `mbrl call start`",
    }.get(state, "")


def call(config: CallConfig) -> int:
    """Ask a running graph and print its answer; returns the exit status."""
    console = Console(config.namespace)
    console.start()
    try:
        granted, answer = console.call(config.verb, inner_steps=config.inner_steps)
    finally:
        console.stop()
    print(answer, file=sys.stdout if granted else sys.stderr)
    return 0 if granted else FAILED
