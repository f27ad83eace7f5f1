"""A node that answers observations as a policy does, and can be made to do it wrongly; a button; and an ear."""

import threading
import time

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from rclpy.time import Time
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool

from mbrl_msgs import msg
from mbrl_ros.delivery import NEWEST, STATUS


class Puppet:
    """Entered: it answers. `offset_s` is added to its stamps; `pressed` None = the button is silent."""

    def __init__(self, name="policy", action=(0.2, 0.0, 0.0, 0.0, 0.0)):
        self.name, self.action = name, list(action)
        self.answers, self.offset_s, self.pressed = True, 0.0, None
        self.joints, self.diagnostics, self.last = [], None, None

    def __enter__(self):
        self._context = rclpy.context.Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = rclpy.create_node(self.name, context=self._context)
        self._actions = self.node.create_publisher(msg.Action, "action", NEWEST)
        self._button = self.node.create_publisher(Bool, "emergency_stop", STATUS)
        self.node.create_subscription(msg.Observation, "observation", self._answer, NEWEST)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._hear, STATUS)
        self.node.create_subscription(JointState, "joint_states", lambda m: self.joints.append(m.position), NEWEST)
        self.node.create_timer(0.05, self._beat)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._executor.shutdown()
        rclpy.shutdown(context=self._context)
        self._thread.join()

    def intrude(self):
        """Send the answer to the last observation although somebody else did."""
        self._actions.publish(self._message(self.last))

    def _answer(self, observation):
        self.last = observation
        if self.answers:
            self._actions.publish(self._message(observation))

    def _message(self, observation):
        stamp = Time(nanoseconds=self.node.get_clock().now().nanoseconds + int(self.offset_s * 1e9)).to_msg()
        return msg.Action(stamp=stamp, seq=observation.seq, episode=observation.episode, member=-1, action=self.action)

    def _hear(self, message):
        if any("robot_interface" in status.name for status in message.status):
            self.diagnostics = {status.name: status for status in message.status}

    def _beat(self):
        if self.pressed is not None:
            self._button.publish(Bool(data=self.pressed))

    def _spin(self):
        try:
            self._executor.spin()
        except ExternalShutdownException:
            return


def wait_for(condition, what, limit_s=30.0):
    """Wait; fails the test with `what` when it does not come true."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"waited {limit_s} s for {what}"
        time.sleep(0.02)
