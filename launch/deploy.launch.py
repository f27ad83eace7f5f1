"""Runs a policy without learning, on an arm or on the twin: ros2 launch mbrl deploy.launch.py --show-args."""

from launch import LaunchDescription
from mbrl_ros.graph import DeployGraph
from mbrl_ros.launch_graph import describe_launch


def generate_launch_description() -> LaunchDescription:
    """Return the graph that `mbrl up deploy` starts, too."""
    return describe_launch(DeployGraph)
