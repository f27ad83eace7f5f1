"""The operator's end of a graph: hears episodes and statuses, and calls the services of its nodes.

A node in a thread and a context of its own, so that a process may have several graphs one after the other.
"""

import queue
import threading
import time

import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from std_srvs.srv import Trigger

from mbrl_core.types import Episode
from mbrl_msgs.msg import AdaptationStatus, LearnerStatus, SafetyStatus
from mbrl_msgs.msg import Episode as EpisodeMsg
from mbrl_msgs.srv import Adapt, Rollback
from mbrl_ros.conversions import from_episode_msg
from mbrl_ros.delivery import LATCHED, STATUS, WHOLE
from mbrl_ros.emergency_stop_topic import say

ARM_VERBS = ("start", "stop", "rearm", "reset", "park")
STOP_VERBS = {"estop": True, "release": False}
POLICY_VERBS = {"adapt": Adapt, "rollback": Rollback}
VERBS = (*ARM_VERBS, *STOP_VERBS, *POLICY_VERBS)


class Console:
    """What a graph says. Entered: it listens."""

    def __init__(self, namespace: str = "") -> None:
        """Prepare; nothing is heard before start()."""
        self.episodes: queue.SimpleQueue[Episode] = queue.SimpleQueue()
        self.safety: SafetyStatus | None = None
        self.learner: LearnerStatus | None = None
        self.adaptation: AdaptationStatus | None = None
        self.problem = ""  # an episode that could not be read
        self.first_motion_s: float | None = None  # monotonic clock of this process
        self._namespace = namespace

    def start(self) -> None:
        """Begin to listen."""
        self._context = Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self._node = Node("console", context=self._context, namespace=self._namespace)
        self._node.create_subscription(EpisodeMsg, "episode", self._on_episode, WHOLE)
        self._node.create_subscription(SafetyStatus, "safety_status", self._on_safety, STATUS)
        self._node.create_subscription(LearnerStatus, "learner_status", self._on_learner, STATUS)
        self._node.create_subscription(AdaptationStatus, "adaptation_status", self._on_adaptation, LATCHED)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, daemon=True, name="console")
        self._thread.start()

    def stop(self) -> None:
        """Stop to listen."""
        self._executor.shutdown()
        rclpy.shutdown(context=self._context)
        self._thread.join()
        self._node.destroy_node()

    def call(self, verb: str, *, inner_steps: int = 0, timeout_s: float = 5.0) -> tuple[bool, str]:
        """Call one of VERBS; return whether it was done, and what the node said. `inner_steps` is for adapt."""
        if verb in STOP_VERBS:
            return say(self._node, pressed=STOP_VERBS[verb], timeout_s=timeout_s)
        service = POLICY_VERBS.get(verb, Trigger)
        node = "policy" if verb in POLICY_VERBS else "robot_interface"
        request = Adapt.Request(inner_steps=inner_steps) if verb == "adapt" else service.Request()
        client = self._node.create_client(service, verb)
        try:
            if not client.wait_for_service(timeout_sec=timeout_s):
                return False, f"no {node} offers {verb} (waited {timeout_s} s)"
            future = client.call_async(request)
            deadline = time.monotonic() + timeout_s
            while not future.done() and time.monotonic() < deadline:
                time.sleep(0.01)
            response = future.result() if future.done() else None
        finally:
            self._node.destroy_client(client)
        return (response.success, response.message) if response else (False, f"no answer in {timeout_s} s")

    def _on_episode(self, message: EpisodeMsg) -> None:
        try:
            self.episodes.put(from_episode_msg(message))
        except ValueError as error:
            self.problem = f"episode {message.episode} refused: {error}"

    def _on_safety(self, message: SafetyStatus) -> None:
        self.safety = message
        if self.first_motion_s is None and message.state == "moving":
            self.first_motion_s = time.monotonic()

    def _on_learner(self, message: LearnerStatus) -> None:
        self.learner = message

    def _on_adaptation(self, message: AdaptationStatus) -> None:
        self.adaptation = message

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            return
