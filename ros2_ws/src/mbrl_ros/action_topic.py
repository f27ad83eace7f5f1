"""The topic `action` as the robot interface hears it: every action with its sender and its age; one sender, no more."""

from collections.abc import Callable
from typing import Any

from rclpy.node import Node

from mbrl_core.action_mailbox import UNKNOWN, Sender
from mbrl_core.config import refuse
from mbrl_core.types import Action
from mbrl_msgs import msg
from mbrl_ros.conversions import from_action_msg
from mbrl_ros.delivery import NEWEST


class ActionTopic:
    """Subscribes, and hands on `offer(action, sender, age_s)`; see ActionMailbox for what these are."""

    def __init__(self, node: Node, speed: float, offer: Callable[[Action, Sender, float], None]) -> None:
        """Begin to listen; `speed` is robot seconds per wall second, for stamps on the twin's clock."""
        self._node, self._speed, self._offer = node, speed, offer
        self._senders: dict[bytes, Sender] = {}
        self._topic = node.create_subscription(msg.Action, "action", self._receive, NEWEST).topic_name

    def refuse_several(self) -> None:
        """Raise ValueError where more than one publisher is there, naming their nodes.

        One that was killed is remembered for as long as the middleware's lease lasts, some 20 s.
        """
        names = [sender.name for sender in self._publishers().values()]
        if len(names) > 1:
            raise refuse(f"start: publishers of {self._topic}", "one", sorted(names))

    def _receive(self, message: msg.Action, info: Any) -> None:
        now_ns = self._node.get_clock().now().nanoseconds
        age_s = 1e-9 * (now_ns - message.stamp.sec * 1_000_000_000 - message.stamp.nanosec) / self._speed
        self._offer(from_action_msg(message), self._sender(info), age_s)

    def _sender(self, info: Any) -> Sender:
        """Who sent a message; UNKNOWN with a client library that does not say."""
        gid = bytes((info.get("publisher_gid") or {}).get("data", b""))
        if not gid:
            return UNKNOWN
        if gid not in self._senders:
            self._senders = self._publishers() | {gid: self._publishers().get(gid, Sender(gid, f"unknown {gid.hex()}"))}
        return self._senders[gid]

    def _publishers(self) -> dict[bytes, Sender]:
        found = {}
        for endpoint in self._node.get_publishers_info_by_topic(self._topic):
            gid = bytes(endpoint.endpoint_gid)
            found[gid] = Sender(gid, f"{endpoint.node_namespace.rstrip('/')}/{endpoint.node_name}")
        return found
