"""Builds the arm that a profile describes, and refuses what contradicts it."""

import os

from rclpy.node import Node

from mbrl_core.arm import ArmProfile
from mbrl_core.config import refuse
from mbrl_core.control_config import ControlConfig
from mbrl_core.robots.robot import Robot
from mbrl_core.robots.servo_arm import ServoArm
from mbrl_ros.ros2_control_robot import Ros2ControlRobot
from mbrl_sim.profile_check import check_profile


def open_robot(node: Node, profile: ArmProfile, config: ControlConfig) -> Robot:
    """Build the profile's arm, not connected yet.

    Raises:
      ValueError: the profile contradicts its MJCF, or a setting is not for this arm.
    """
    check_profile(profile)
    if is_behind_controllers(profile):
        if config.on_shutdown == "limp":
            raise refuse("robot_interface.on_shutdown", "hold or park: controllers have no torque switch", "limp")
        return Ros2ControlRobot(node, profile, speed=config.speed)
    _refuse_fast_arm(config)
    return ServoArm(profile, config.port)


def is_behind_controllers(profile: ArmProfile) -> bool:
    """Whether ros2_control owns the arm, so that the joint states are another's to publish."""
    return profile.bus.protocol == "ros2_control"


def _refuse_fast_arm(config: ControlConfig) -> None:
    """Only a pseudo-terminal, which is a twin, may be run at another speed than real time."""
    port = os.path.realpath(config.port)
    if config.speed != 1.0 and not port.startswith("/dev/pts/"):
        raise refuse("robot_interface.speed", f"1.0 on an arm ({port} is no twin)", config.speed)
