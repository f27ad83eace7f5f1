"""The twin as a process: MuJoCo behind an emulated servo bus on a pseudo-terminal, and /clock.

It has no other topic: the robot interface talks to it over the serial line, as to the real arm.
"""

from builtin_interfaces.msg import Time
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rosgraph_msgs.msg import Clock as ClockMsg

from mbrl_core.arm import load_profile
from mbrl_ros.delivery import NEWEST
from mbrl_ros.node_configs import TwinConfig
from mbrl_ros.parameters import read_parameters
from mbrl_ros.process import run_node
from mbrl_sim import profile_path
from mbrl_sim.emulated_bus import Twin
from mbrl_sim.perturbation import Perturbation


class TwinNode(Node):
    """Starts the twin; an arm does not vanish, so it outlives its client at shutdown.

    `failed` is set when the bus thread died of an error: the process then ends with a status that is not 0.
    """

    def __init__(self) -> None:
        """Start the bus. Raises ValueError for a bad parameter or profile."""
        super().__init__("twin", automatically_declare_parameters_from_overrides=True)
        config, groups = read_parameters(self, TwinConfig, perturbation=Perturbation)
        profile = load_profile(profile_path(config.profile))
        differs: Perturbation = groups["perturbation"]
        link = config.port or None
        self._twin = Twin(profile, speed=config.speed, seed=config.seed, link=link, perturbation=differs)
        self.failed = self._twin.failed
        self._time_topic = self.create_publisher(ClockMsg, "/clock", NEWEST)
        wall = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0 / config.clock_hz, self._tell_time, clock=wall)
        if differs != Perturbation():
            self.get_logger().info(f"not the arm of its profile: {differs}")
        self.get_logger().info(f"{profile.name} at speed {config.speed} on {config.port or self._twin.port}")

    def _tell_time(self) -> None:
        seconds, fraction = divmod(self._twin.time_s, 1.0)
        self._time_topic.publish(ClockMsg(clock=Time(sec=int(seconds), nanosec=int(fraction * 1e9))))

    def shut_down(self) -> None:
        """Wait until the robot interface has closed the port, then stop; say what the bus died of, if it did."""
        if self._twin.error is not None:
            self.get_logger().error(f"bus: {type(self._twin.error).__name__}: {self._twin.error}")
        else:
            self._twin.wait_until_closed_by_client(3.0)
        self._twin.close()


def main() -> None:
    """Entry point."""
    run_node(TwinNode, realtime_priority=50)


if __name__ == "__main__":
    main()
