"""A graph as a launch description. Only the launch files import this: it needs the packages launch and launch_ros.

All nodes get Ctrl-C at the same time here, and the order that matters is kept by the nodes: robot_interface brakes and
holds, or parks, at once, and the twin stays until its port was closed.
"""

import dataclasses
import typing
from pathlib import Path
from typing import Any

import yaml
from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription
from mbrl_core.config import from_mapping
from mbrl_ros.field_text import describe_field
from mbrl_ros.graph import PARK_S, Graph, GraphConfig, NodeSpec, build_graph
from mbrl_ros.run_directory import create_run_dir, write_parameters


def describe_launch(cls: type[GraphConfig]) -> LaunchDescription:
    """One launch argument per field of the graph's config, and the nodes that they lead to."""
    arguments = [
        DeclareLaunchArgument(field.name, default_value=_text(field.default), description=describe_field(field))
        for field in dataclasses.fields(cls)
        if field.name != "verbose"  # launch always shows what the nodes say
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=lambda context: _nodes(cls, context))])


def _nodes(cls: type[GraphConfig], context: LaunchContext) -> list[Node]:
    config = read_config(cls, context.launch_configurations)
    build_graph(dataclasses.replace(config, run_dir=config.run_dir or "runs"))  # refuse before a folder is made
    run_dir = create_run_dir(config.run_dir)
    graph = build_graph(dataclasses.replace(config, run_dir=str(run_dir)))
    return [_node(node, graph, run_dir) for node in graph.nodes]


def read_config(cls: type[GraphConfig], texts: typing.Mapping[str, str]) -> GraphConfig:
    """Read the texts of launch arguments into the config.

    Raises:
      ValueError: a text that is no value of the field's type, or a value out of bounds.
    """
    hints = typing.get_type_hints(cls)
    values = {
        name: text if hints[name] is str else yaml.safe_load(text) for name, text in texts.items() if name in hints
    }
    return from_mapping(cls, values, "launch argument")


def _node(node: NodeSpec, graph: Graph, run_dir: Path) -> Node:
    parameters = write_parameters(run_dir / "params", node.name, node.parameters)
    return Node(
        package="mbrl",
        executable=node.name,
        name=node.name,
        namespace=graph.namespace,
        parameters=[str(parameters)],
        output="both",
        # the same for all: the twin must not be killed while robot_interface still holds its port
        sigterm_timeout=str(PARK_S),
        sigkill_timeout="10",
        on_exit=Shutdown(reason=f"{node.name} ended"),
    )


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
