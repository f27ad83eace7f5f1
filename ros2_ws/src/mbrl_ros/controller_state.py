"""What the controller manager says of one controller: whether it is active, and what it is set up for.

| Source | When | How soon a change is known |
|---|---|---|
| service list_controllers | controller_manager_msgs is installed | 0.2 s |
| /diagnostics, "Controllers Activity" | otherwise | 1 s, the rate of that status |
| nothing | neither is heard | never: a subscriber to the commands counts as an active controller |
"""

import importlib
import threading
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.srv import GetParameters
from rclpy.client import Client
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python

from mbrl_core.robots.errors import Fault, NotConnected
from mbrl_ros.delivery import STATUS

ACTIVE = "active"
POLL_S = 0.2
ANSWER_S = 2.0  # wall time for one answer of the controller manager
STRICT = 2  # SwitchController's own number: all or nothing


class ControllerState:
    """Watches one controller. Its node must be spun by another thread than the one that asks.

    Attributes:
      state: as the controller manager calls it (active, inactive, ...); empty = not known.
    """

    def __init__(self, node: Node, controller: str, prefix: str = "") -> None:
        """Begin to listen.

        Args:
          node: to listen with.
          controller: its name.
          prefix: namespace of controller manager and controller, ending in a slash; empty = the node's.
        """
        self.state = ""
        self.controller = controller
        self._switches = 0  # an answer that was asked for before the last one of them tells of the past
        self._node, self._prefix = node, prefix
        self._services = _installed_services()
        if self._services is None:
            node.create_subscription(DiagnosticArray, "/diagnostics", self._read_diagnostics, STATUS)
            return
        self._list = node.create_client(self._services.ListControllers, f"{prefix}controller_manager/list_controllers")
        self._switch = node.create_client(
            self._services.SwitchController, f"{prefix}controller_manager/switch_controller"
        )
        node.create_timer(POLL_S, self._poll)

    def parameters(self, *names: str) -> dict[str, Any]:
        """Read parameters of the controller's own node; None for one that it does not have.

        Raises:
          NotConnected: the controller is not loaded.
        """
        client = self._node.create_client(GetParameters, f"{self._prefix}{self.controller}/get_parameters")
        try:
            answer = _ask(client, GetParameters.Request(names=list(names)))
        finally:
            self._node.destroy_client(client)
        if answer is None:
            raise NotConnected(
                f"controller {self.controller}: expected it to be loaded, got no answer in {ANSWER_S} s: start the "
                f"robot's bringup, or `ros2 run controller_manager spawner {self.controller}`"
            )
        values = [parameter_value_to_python(value) for value in answer.values] or [None] * len(names)
        return dict(zip(names, values, strict=True))

    def activate(self) -> None:
        """See that the controller is active; ask the controller manager to switch it on where that can be asked.

        Raises:
          Fault: it is not active; says what the controller manager answered, or what to call.
        """
        if self.state == ACTIVE:
            return
        by_hand = f"`ros2 control switch_controllers --activate {self.controller}`"
        if self._services is None:
            raise Fault(f"controller {self.controller}: expected {ACTIVE}, got {self.state}: call {by_hand}")
        request = self._services.SwitchController.Request(activate_controllers=[self.controller], strictness=STRICT)
        answer = _ask(self._switch, request)
        if answer is None or not answer.ok:
            said = "no answer" if answer is None else getattr(answer, "message", "") or "a refusal without a reason"
            raise Fault(f"controller {self.controller}: expected to be switched to {ACTIVE}, got {said}: try {by_hand}")
        self._switches += 1
        self.state = ACTIVE

    def _poll(self) -> None:
        if self._list.service_is_ready():
            asked = self._switches
            future = self._list.call_async(self._services.ListControllers.Request())
            future.add_done_callback(lambda answered: self._read_list(answered, asked))

    def _read_list(self, future: Any, asked: int) -> None:
        if asked != self._switches:
            return
        found = [told.state for told in future.result().controller if told.name == self.controller]
        self.state = found[0] if found else "not loaded"

    def _read_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.endswith("Controllers Activity"):
                told = {pair.key.removesuffix(".state"): pair.value for pair in status.values}
                self.state = told.get(self.controller, self.state)


def _installed_services() -> Any:
    try:
        return importlib.import_module("controller_manager_msgs.srv")
    except ImportError:
        return None


def _ask(client: Client, request: Any) -> Any:
    """Call a service from a thread that spins nothing; None when no answer came in time."""
    if not client.wait_for_service(timeout_sec=ANSWER_S):
        return None
    answered = threading.Event()
    future = client.call_async(request)
    future.add_done_callback(lambda _: answered.set())
    return future.result() if answered.wait(ANSWER_S) else None
