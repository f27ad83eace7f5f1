"""The topic `emergency_stop` (std_msgs/Bool, true = pressed): hearing it, and pressing it from a program.

It is heard by a node and a thread of its own: the owner's executor may be busy, or waiting for an arm that parks.
"""

import contextlib
import threading
import time

from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from std_msgs.msg import Bool

from mbrl_core.emergency_stop import EmergencyStop
from mbrl_ros.delivery import STATUS

TOPIC = "emergency_stop"
SUFFIX = "_stop"  # of the name of a node that listens for an arm, by which it is told from one that only records


class EmergencyStopTopic:
    """Tells an EmergencyStop what is said, from now until `close`."""

    def __init__(self, owner: Node, stop: EmergencyStop) -> None:
        """Listen under the owner's namespace and remappings."""
        self._node = Node(
            f"{owner.get_name()}{SUFFIX}",
            namespace=owner.get_namespace(),
            context=owner.context,
            use_global_arguments=False,
            start_parameter_services=False,
        )
        topic = owner.resolve_topic_name(TOPIC)
        self._node.create_subscription(Bool, topic, lambda message: stop.hear(message.data), STATUS)
        self._executor = SingleThreadedExecutor(context=owner.context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._listen, name="emergency stop", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Listen no more."""
        self._executor.shutdown(timeout_sec=1.0)
        self._thread.join(timeout=1.0)
        self._node.destroy_node()

    def _listen(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()


def say(node: Node, *, pressed: bool, timeout_s: float) -> tuple[bool, str]:
    """Press or release the stop of every arm that listens; returns whether one did, and a sentence."""
    publisher = node.create_publisher(Bool, TOPIC, STATUS)
    try:
        deadline = time.monotonic() + timeout_s
        while not _is_heard(node, publisher) and time.monotonic() < deadline:
            time.sleep(0.01)
        if not _is_heard(node, publisher):
            return False, f"no robot_interface listens to {TOPIC} (waited {timeout_s} s)"
        publisher.publish(Bool(data=pressed))
        if not publisher.wait_for_all_acked(Duration(seconds=timeout_s)):
            return False, f"{TOPIC} was not acknowledged in {timeout_s} s"
    finally:
        node.destroy_publisher(publisher)
    return True, "emergency stop pressed" if pressed else "emergency stop released; `mbrl call rearm` follows"


def _is_heard(node: Node, publisher: Publisher) -> bool:
    """Whether an arm listens, and everybody who does is connected."""
    listeners = node.get_subscriptions_info_by_topic(publisher.topic_name)
    connected = publisher.get_subscription_count() >= len(listeners)
    return connected and any(listener.node_name.endswith(SUFFIX) for listener in listeners)
