"""The twin as a process: MuJoCo behind what the profile's `bus.protocol` names, and /clock.

For a servo family that is an emulated bus on a pseudo-terminal, and no other topic: the robot interface talks to it
over the serial line, as to the real arm. For ros2_control it is the topics of joint_state_broadcaster and of one
controller.
"""

import threading
import time

from builtin_interfaces.msg import Time
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rosgraph_msgs.msg import Clock as ClockMsg

from mbrl_core.arm import ArmProfile, load_profile
from mbrl_core.config import refuse
from mbrl_ros.delivery import NEWEST
from mbrl_ros.graph import PARK_S
from mbrl_ros.node_configs import TwinConfig
from mbrl_ros.parameters import read_parameters
from mbrl_ros.process import run_node
from mbrl_ros.ros2_control_twin import Ros2ControlTwin
from mbrl_sim import profile_path
from mbrl_sim.emulated_bus import Twin
from mbrl_sim.perturbation import Perturbation


class TwinNode(Node):
    """Starts the twin; an arm does not vanish, so it outlives its client at shutdown.

    `failed` is set when the bus thread died of an error: the process then ends with a status that is not 0.
    """

    def __init__(self) -> None:
        """Start the arm. Raises ValueError for a bad parameter or profile."""
        super().__init__("twin", automatically_declare_parameters_from_overrides=True)
        config, groups = read_parameters(self, TwinConfig, perturbation=Perturbation)
        profile = load_profile(profile_path(config.profile))
        differs: Perturbation = groups["perturbation"]
        self._twin, where = self._start(profile, config, differs)
        self.failed, self.hurry = self._twin.failed, threading.Event()
        self._time_topic = self.create_publisher(ClockMsg, "/clock", NEWEST)
        wall = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0 / config.clock_hz, self._tell_time, clock=wall)
        if differs != Perturbation():
            self.get_logger().info(f"not the arm of its profile: {differs}")
        self.get_logger().info(f"{profile.name} at speed {config.speed} on {where}")

    def _start(
        self, profile: ArmProfile, config: TwinConfig, differs: Perturbation
    ) -> tuple[Twin | Ros2ControlTwin, str]:
        """Start the twin that the profile's protocol asks for; returns it and where it is."""
        if profile.bus.protocol != "ros2_control":
            bus = Twin(profile, speed=config.speed, seed=config.seed, link=config.port or None, perturbation=differs)
            return bus, config.port or bus.port
        if config.port:
            raise refuse("twin.port", "none with ros2_control", config.port)
        twin = Ros2ControlTwin(self, profile, speed=config.speed, seed=config.seed, perturbation=differs)
        return twin, f"the topics of {profile.bus.controller}"

    def _tell_time(self) -> None:
        seconds, fraction = divmod(self._twin.time_s, 1.0)
        self._time_topic.publish(ClockMsg(clock=Time(sec=int(seconds), nanosec=int(fraction * 1e9))))

    def shut_down(self) -> None:
        """Wait until the robot interface has let go of the arm, then stop; say what the twin died of, if it did."""
        if self._twin.error is not None:
            self.get_logger().error(f"twin: {type(self._twin.error).__name__}: {self._twin.error}")
        else:
            self._wait_for_client()
        self._twin.close()

    def _wait_for_client(self) -> None:
        """Stay as long as an arm may take to park; a second signal ends the wait, for the client may be dead."""
        end_s = time.monotonic() + PARK_S
        while not self.hurry.is_set() and time.monotonic() < end_s:
            if self._twin.wait_until_closed_by_client(0.05):
                return


def main() -> None:
    """Entry point."""
    run_node(TwinNode, realtime_priority=50)


if __name__ == "__main__":
    main()
