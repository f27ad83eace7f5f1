"""A stand-in for an arm behind ros2_control: the twin's physics under the topics of a controller manager.

It has `joint_states` as joint_state_broadcaster has them (in another order than the profile's), one controller that
takes commands, that controller's parameters, its state on /diagnostics, and, where controller_manager_msgs is
installed, the services list_controllers and switch_controller. Not a controller manager: it loads nothing and knows no
hardware but its own.
"""

import importlib
import threading
import time
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.srv import GetParameters
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from mbrl_core.arm import ArmProfile
from mbrl_core.config import refuse
from mbrl_ros.delivery import COMMAND, STATUS
from mbrl_sim import stand_in_controllers as controllers
from mbrl_sim.perturbation import Perturbation
from mbrl_sim.physics import ArmPhysics
from mbrl_sim.sim_clock import SimClock

ENCODER_NOISE = 0.3  # standard deviation in counts
DIAGNOSTICS_S = 1.0


class Ros2ControlTwin:
    """One arm and its controller, in a thread that cycles at the profile's rate; it has a Twin's say about its end.

    Attributes:
      failed: set when the thread has died of an error.
      error: that error.
      active: whether the controller is; while it is not, the joints hold.

    Args:
      node: what the topics belong to; it must be spun.
      profile: the arm.
      speed: simulated seconds per wall second.
      seed: of the encoder noise.
      perturbation: how this arm differs from its profile; None = not at all.

    Raises:
      ValueError: a profile of another protocol, or a speed that is not positive.
    """

    def __init__(
        self,
        node: Node,
        profile: ArmProfile,
        *,
        speed: float = 1.0,
        seed: int = 0,
        perturbation: Perturbation | None = None,
    ) -> None:
        """Offer the topics and start."""
        if profile.bus.protocol != "ros2_control":
            raise refuse("bus.protocol", "ros2_control", profile.bus.protocol)
        self._node, self._profile = node, profile
        self._clock = SimClock(speed)
        self._physics = ArmPhysics(profile, seed=seed, perturbation=perturbation)
        self._names = [joint.name for joint in profile.joints]
        self._broadcast = sorted(range(len(self._names)), key=self._names.__getitem__)
        self._count_rad = 2 * np.pi / profile.bus.counts_per_turn
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self.failed = threading.Event()
        self.error: Exception | None = None
        self.active = True
        self.refuses_switch = ""  # why the next switches are refused; for trials
        self._offer_topics()
        self._thread = threading.Thread(target=self._run, name="twin", daemon=True)
        self._thread.start()

    @property
    def time_s(self) -> float:
        """Simulated time since the start in s."""
        with self._lock:
            return self._physics.time_s

    @property
    def position(self) -> np.ndarray:
        """True joint angles: (J_all,), rad."""
        with self._lock:
            return self._physics.position

    def set_active(self, active: bool) -> None:
        """Activate or deactivate the controller, as its manager would."""
        with self._lock:
            if active and not self.active:
                self._controller.start(self._physics.position)
            self.active = active
        self._tell_activity()

    def wait_until_closed_by_client(self, timeout_s: float) -> bool:
        """Wait until nobody publishes commands; return whether that came true."""
        deadline = time.monotonic() + timeout_s
        while self._node.count_publishers(self._commands.topic_name):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def close(self) -> None:
        """Stop."""
        self._closing.set()
        self._thread.join()

    # ---- what it offers

    def _offer_topics(self) -> None:
        node, name = self._node, self._profile.bus.controller
        forward = self._profile.bus.controller_type == "forward_command"
        self._controller: Any = (
            controllers.ForwardCommand(len(self._names))
            if forward
            else controllers.JointTrajectory(self._names, 1.0 / self._profile.bus_hz)
        )
        self._controller.start(self._physics.position)
        self._states = node.create_publisher(JointState, "joint_states", COMMAND)
        self._diagnostics = node.create_publisher(DiagnosticArray, "/diagnostics", STATUS)
        self._commands = (
            node.create_subscription(Float64MultiArray, f"{name}/commands", self._take_command, COMMAND)
            if forward
            else node.create_subscription(JointTrajectory, f"{name}/joint_trajectory", self._take_trajectory, COMMAND)
        )
        interface = {"interface_name": "position"} if forward else {"command_interfaces": ["position"]}
        self._parameters: dict[str, Any] = {"joints": self._names} | interface
        node.create_service(GetParameters, f"{name}/get_parameters", self._tell_parameters)
        node.create_timer(DIAGNOSTICS_S, self._tell_activity, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._offer_services()

    def _offer_services(self) -> None:
        try:
            services = importlib.import_module("controller_manager_msgs.srv")
            self._state_msg = importlib.import_module("controller_manager_msgs.msg").ControllerState
        except ImportError:
            return
        manager = "controller_manager"
        self._node.create_service(services.ListControllers, f"{manager}/list_controllers", self._list)
        self._node.create_service(services.SwitchController, f"{manager}/switch_controller", self._switch)

    def _list(self, _: Any, answer: Any) -> Any:
        answer.controller = [self._state_msg(name=self._profile.bus.controller, state=self._state)]
        return answer

    def _switch(self, request: Any, answer: Any) -> Any:
        mine = self._profile.bus.controller
        unknown = {*request.activate_controllers, *request.deactivate_controllers} - {mine}
        why = self.refuses_switch or (f"no controller {sorted(unknown)}" if unknown else "")
        if not why:
            self.set_active(mine in request.activate_controllers)
        answer.ok = not why
        if hasattr(answer, "message"):
            answer.message = why
        return answer

    @property
    def _state(self) -> str:
        return "active" if self.active else "inactive"

    def _tell_parameters(self, request: Any, answer: Any) -> Any:
        answer.values = [
            Parameter(name, value=self._parameters.get(name)).get_parameter_value() for name in request.names
        ]
        return answer

    def _tell_activity(self) -> None:
        told = [KeyValue(key=f"{self._profile.bus.controller}.state", value=self._state)]
        message = "All controllers are active" if self.active else "Not all controllers are active"
        status = DiagnosticStatus(name="controller_manager: Controllers Activity", message=message, values=told)
        array = DiagnosticArray(status=[status])
        array.header.stamp = _stamp(self.time_s)
        self._diagnostics.publish(array)

    # ---- commands

    def _take_command(self, message: Float64MultiArray) -> None:
        with self._lock:
            complaint = self._controller.receive(message.data) if self.active else ""
        self._complain(complaint)

    def _take_trajectory(self, message: JointTrajectory) -> None:
        points = [
            controllers.Point(_seconds(point.time_from_start), point.positions, point.velocities)
            for point in message.points
        ]
        with self._lock:
            stamp_s, now_s = _seconds(message.header.stamp), self._physics.time_s
            complaint = self._controller.receive(message.joint_names, points, stamp_s, now_s) if self.active else ""
        self._complain(complaint)

    def _complain(self, complaint: str) -> None:
        if complaint:
            self._node.get_logger().warning(complaint, throttle_duration_sec=1.0)

    # ---- the cycle

    def _run(self) -> None:
        try:
            self._cycle_until_closed()
        except Exception as error:  # whatever it is, an arm that falls silent must not do so unseen
            self.error = error
            self.failed.set()

    def _cycle_until_closed(self) -> None:
        period_s = 1.0 / self._profile.bus_hz
        due_s = 0.0
        while not self._closing.wait(max(0.0, (due_s - self._clock.now()) / self._clock.speed)):
            self._states.publish(self._cycle())
            due_s = max(due_s + period_s, self._clock.now())

    def _cycle(self) -> JointState:
        """Read, update the controller, write: one cycle of a controller manager."""
        failure = ""
        with self._lock:
            physics = self._physics
            elapsed_s = self._clock.catch_up(physics.time_s) - physics.time_s
            physics.advance(max(0.0, elapsed_s))
            if self.active:
                try:
                    self._write(self._controller.update(physics.time_s, physics.position))
                except controllers.ControllerError as error:
                    failure, self.active = str(error), False
            message = self._joint_state()
        if failure:
            self._node.get_logger().error(f"{failure}; deactivating {self._profile.bus.controller}")
            self._tell_activity()
        return message

    def _write(self, target: np.ndarray | None) -> None:
        if target is None:
            return
        if not np.isfinite(target).all():
            raise controllers.ControllerError(f"hardware: expected finite positions, got {target.tolist()}")
        self._physics.set_target(target)

    def _joint_state(self) -> JointState:
        noise = ENCODER_NOISE * self._physics.rng.standard_normal(len(self._names))
        position = np.rint(self._physics.position / self._count_rad + noise) * self._count_rad
        order = self._broadcast
        message = JointState(
            name=[self._names[index] for index in order],
            position=position[order].tolist(),
            velocity=self._physics.velocity[order].tolist(),
        )
        message.header.stamp = _stamp(self._physics.time_s)
        return message


def _stamp(time_s: float) -> Time:
    seconds, fraction = divmod(time_s, 1.0)
    return Time(sec=int(seconds), nanosec=int(fraction * 1e9))


def _seconds(stamp: Any) -> float:
    return float(stamp.sec + 1e-9 * stamp.nanosec)
