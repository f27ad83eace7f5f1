"""Trains on an arm, which does not move before `start`: ros2 launch mbrl train_real.launch.py --show-args."""

from launch import LaunchDescription
from mbrl_ros.graph import RealGraph
from mbrl_ros.launch_graph import describe_launch


def generate_launch_description() -> LaunchDescription:
    """Return the graph that `mbrl up real` starts, too."""
    return describe_launch(RealGraph)
