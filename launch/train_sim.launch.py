"""Trains on the twin: ros2 launch mbrl train_sim.launch.py --show-args."""

from launch import LaunchDescription
from mbrl_ros.graph import SimGraph
from mbrl_ros.launch_graph import describe_launch


def generate_launch_description() -> LaunchDescription:
    """Return the graph that `mbrl up sim` starts, too."""
    return describe_launch(SimGraph)
