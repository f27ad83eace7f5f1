"""An arm behind ros2_control: joint states in, commands to one controller out; every call bounded in time.

The controller manager owns the servos. This side only asks: it starts no controller that is not the profile's, and it
cannot switch torque off, because that is the hardware's own affair.
"""

import contextlib
import math
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from mbrl_core.arm import ArmProfile
from mbrl_core.config import refuse
from mbrl_core.robots.errors import Fault, NotConnected, StaleState
from mbrl_core.robots.reading import ArmReading
from mbrl_core.types import Vector
from mbrl_ros.controller_state import ACTIVE, ControllerState
from mbrl_ros.delivery import COMMAND, NEWEST
from mbrl_ros.joint_samples import JointSample, JointSamples

CONNECT_S = 5.0  # for the first joint states
HEAR_S = 1.5  # for word of the controller's state, before it counts as not to be had
PACE_S = 0.4  # over which the speed of the robot's clock is measured
SHORTEST_DEADLINE_S = 0.02  # of a read; less would be the middleware's jitter
INTERFACE = "position"


class Ros2ControlRobot:
    """A Robot. Joint states are heard by a node and a thread of its own, so the owner's may be busy, or waiting here.

    Not measured, and NaN in every reading: load, current, voltage, temperature.

    Args:
      node: whose namespace, remappings and log are used.
      profile: joints, and `bus.controller`.
      speed: robot seconds per wall second, other than 1 only in a simulation that really runs at it.
      deadline_s: longest wait of `read` for a new joint state, s; None = two cycles, at least 20 ms.
    """

    def __init__(self, node: Node, profile: ArmProfile, *, speed: float = 1.0, deadline_s: float | None = None) -> None:
        """Keep the settings; `connect` begins to listen.

        Raises:
          ValueError: a profile of another protocol, or a deadline that is not positive.
        """
        if profile.bus.protocol != "ros2_control":
            raise refuse("bus.protocol", "ros2_control", profile.bus.protocol)
        wall_s = 2.0 / (profile.bus_hz * speed)
        self.deadline_s = max(SHORTEST_DEADLINE_S, wall_s) if deadline_s is None else deadline_s
        if not 0.0 < self.deadline_s < math.inf:
            raise refuse("deadline_s", "above 0", deadline_s)
        self.profile = profile
        self._owner, self._speed = node, speed
        self._names = [joint.name for joint in profile.joints]
        self._ids = tuple(joint.servo_id for joint in profile.joints)
        self._topic = node.resolve_topic_name("joint_states")
        # a controller's name is relative to the namespace, as the topics are
        self._prefix = node.resolve_topic_name("x").removesuffix("x")
        self._heard = threading.Condition()
        self._node: Node | None = None
        self._samples = JointSamples(self._names, speed=speed)
        self._sample: JointSample | None = None
        self._read_last: JointSample | None = None
        self._goal: Vector | None = None
        self._torque = False

    @property
    def samples(self) -> JointSamples:
        """What was heard and dropped since `connect`."""
        return self._samples

    def connect(self) -> None:
        """Listen, and check that joints, controller and clock are the profile's.

        Raises:
          NotConnected: no joint states with the profile's joints, a controller that is not loaded or takes other
            joints, another order of them or another interface, or a robot clock that does not run at `speed`.
          Fault: connected already.
        """
        if self._node is not None:
            raise Fault("connect: expected a closed arm, got one that is connected")
        self._open()
        try:
            self._wait_for_joints()
            self._check_controller()
            self._check_pace()
            self._hear_of_controller()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop listening; the controller goes on holding the last command."""
        node, self._node, self._torque = self._node, None, False
        if node is None:
            return
        self._executor.shutdown(timeout_sec=1.0)
        self._thread.join(timeout=1.0)
        node.destroy_node()

    def read(self) -> ArmReading:
        """Wait for a joint state that was not read before, and return it.

        Raises:
          StaleState: none came within the deadline, or only such as had to be dropped.
          NotConnected: closed.
        """
        self._check_open()
        with self._heard:
            if not self._heard.wait_for(self._is_new, self.deadline_s):
                why = self._samples.complaint or f"none on {self._topic}"
                raise StaleState(f"read: expected new joint states in {self.deadline_s:g} s, got {why}", self._ids)
            sample = self._read_last = self._sample
        assert sample is not None  # _is_new says so
        unknown = np.full(len(self._names), math.nan)
        return ArmReading(
            position=sample.position,
            velocity=sample.velocity,
            load=unknown,
            current_a=unknown,
            voltage_v=unknown,
            temperature_c=unknown,
            status=np.zeros(len(self._names), dtype=np.uint8),
            stamp_s=sample.stamp_s,
        )

    def read_goal(self) -> Vector:
        """Return what was sent last, (J_all,) rad; before anything was sent, where the arm is: no controller says it.

        Raises:
          NotConnected: closed.
        """
        self._check_open()
        if self._goal is not None:
            return self._goal.copy()
        assert self._sample is not None  # connect saw one
        return self._sample.position.copy()

    def read_torque(self) -> NDArray[np.bool_]:
        """Return whether the controller is active, for every joint the same: (J_all,)."""
        self._check_open()
        return np.full(len(self._names), self._inactive() == "")

    def write(self, position: Vector) -> None:
        """Send target positions: (J_all,), rad.

        Raises:
          ValueError: wrong shape or not finite; nothing was sent.
          Fault: the controller is not active, or was not engaged by `enable_torque`. Nothing was sent.
          NotConnected: closed.
        """
        self._check_open()
        position = np.asarray(position, dtype=float)
        if position.shape != (len(self._names),):
            raise refuse("position.shape", (len(self._names),), position.shape)
        if not np.isfinite(position).all():
            raise refuse("position", "finite numbers", position.tolist())
        inactive = self._inactive()
        if inactive or not self._torque:
            self._torque = False  # only the explicit act takes it up again, even if the controller comes back
            raise Fault(inactive or f"controller {self.profile.bus.controller}: expected to be engaged, got released")
        self._commands.publish(self._message(position))
        self._goal = position.copy()

    def enable_torque(self) -> None:
        """See that the controller is active, asking for it where that can be asked; it holds where the arm is.

        Raises:
          Fault: it is not, and says why.
          NotConnected: closed.
        """
        self._check_open()
        if self._controller.state:
            self._controller.activate()
        inactive = self._inactive()
        if inactive:
            raise Fault(inactive)
        if not self._torque:
            self._goal = None  # a controller that was activated anew holds the measured position, not an old command
        self._torque = True

    def disable_torque(self) -> None:
        """Write no more, and say that letting go is not ours.

        Raises:
          Fault: always: ros2_control's controllers have no torque switch.
        """
        self._torque = False
        raise Fault(
            "disable_torque: expected a torque switch, got a controller of ros2_control: deactivate the hardware, `"
            "ros2 control set_hardware_component_state COMPONENT inactive`"
        )

    # ---- connecting

    def _open(self) -> None:
        name = f"{self._owner.get_name()}_arm"
        self._node = node = Node(
            name, namespace=self._owner.get_namespace(), context=self._owner.context, use_global_arguments=False
        )
        self._samples = JointSamples(self._names, speed=self._speed)
        self._sample = self._read_last = self._goal = None
        self._controller = ControllerState(node, self.profile.bus.controller, self._prefix)
        kinds: dict[str, tuple[Any, str, Callable[[Vector], Any]]] = {
            "forward_command": (Float64MultiArray, "commands", _forward),
            "joint_trajectory": (JointTrajectory, "joint_trajectory", self._trajectory),
        }
        kind, topic, self._message = kinds[self.profile.bus.controller_type]
        command_topic = self._owner.resolve_topic_name(f"{self.profile.bus.controller}/{topic}")
        self._commands = node.create_publisher(kind, command_topic, COMMAND)
        node.create_subscription(JointState, self._topic, self._receive, NEWEST)
        self._executor = SingleThreadedExecutor(context=self._owner.context)
        self._executor.add_node(node)
        self._thread = threading.Thread(target=self._listen, name="joint states", daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()

    def _receive(self, message: JointState) -> None:
        arrived_s, stamp = time.monotonic(), message.header.stamp
        robot_s = stamp.sec + 1e-9 * stamp.nanosec
        sample = self._samples.offer(message.name, message.position, message.velocity, robot_s, arrived_s)
        if sample is not None:
            with self._heard:
                self._sample = sample
                self._heard.notify_all()

    def _is_new(self) -> bool:
        return self._sample is not self._read_last

    def _wait_for_joints(self) -> None:
        with self._heard:
            if self._heard.wait_for(lambda: self._sample is not None, CONNECT_S):
                return
        why = self._samples.complaint or f"nothing in {CONNECT_S} s: is joint_state_broadcaster active?"
        raise NotConnected(f"{self._topic}: expected joint states of {self._names}, got {why}")

    def _check_controller(self) -> None:
        field = {"forward_command": "interface_name", "joint_trajectory": "command_interfaces"}
        key = field[self.profile.bus.controller_type]
        told = self._controller.parameters("joints", key)
        where = f"controller {self.profile.bus.controller}"
        joints = list(told["joints"] or [])
        ordered = self.profile.bus.controller_type == "forward_command"  # the other one is told names
        if joints != self._names if ordered else sorted(joints) != sorted(self._names):
            order = ", in this order" if ordered else ""
            raise NotConnected(f"{where} joints: expected {self._names}{order}, got {joints}")
        interface = told[key]
        if interface is not None and interface != INTERFACE and list(interface) != [INTERFACE]:
            raise NotConnected(f"{where} {key}: expected {INTERFACE}, got {interface}")

    def _check_pace(self) -> None:
        """Refuse to run faster than the robot's own clock: an arm's runs with the wall's."""
        if self._speed == 1.0:
            return
        first = self._next_sample()
        while (last := self._next_sample()).arrived_s - first.arrived_s < PACE_S:
            pass
        pace = (last.robot_s - first.robot_s) / (last.arrived_s - first.arrived_s)
        if not abs(pace - self._speed) < 0.5 * abs(1.0 - self._speed):
            expected = f"stamps on {self._topic} to run at {self._speed:g} times the wall's clock, as a twin's do"
            raise NotConnected(f"speed: expected {expected}, got {pace:.2f} times")

    def _next_sample(self) -> JointSample:
        with self._heard:
            before = self._sample
            if not self._heard.wait_for(lambda: self._sample is not before, CONNECT_S) or self._sample is None:
                raise NotConnected(f"{self._topic}: expected joint states to go on, got none in {CONNECT_S} s")
            return self._sample

    def _hear_of_controller(self) -> None:
        end_s = time.monotonic() + HEAR_S
        while not self._controller.state and time.monotonic() < end_s:
            time.sleep(0.01)
        if not self._controller.state:
            self._owner.get_logger().warning(
                f"controller {self.profile.bus.controller}: neither controller_manager_msgs nor /diagnostics tell its "
                "state; a subscriber to its commands counts as active, and a deactivation will not be noticed"
            )

    # ---- while connected

    def _check_open(self) -> None:
        if self._node is None:
            raise NotConnected("ros2_control: expected to be connected, got closed")

    def _inactive(self) -> str:
        """Why the controller cannot be commanded; empty when it can."""
        controller = self._controller
        if controller.state == ACTIVE or (not controller.state and self._commands.get_subscription_count()):
            return ""
        return f"controller {controller.controller}: expected {ACTIVE}, got {controller.state or 'no subscriber'}"

    def _trajectory(self, position: Vector) -> JointTrajectory:
        """One point, a cycle from now (stamp 0), without velocities: the controller goes there in a straight line."""
        ahead = Duration(seconds=1.0 / self.profile.bus_hz).to_msg()
        point = JointTrajectoryPoint(positions=position.tolist(), time_from_start=ahead)
        return JointTrajectory(joint_names=self._names, points=[point])


def _forward(position: Vector) -> Float64MultiArray:
    return Float64MultiArray(data=position.tolist())
