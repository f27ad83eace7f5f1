"""Brings the lifecycle nodes up in order: all configured, then all activated, then, where asked, the arm started.

| Event | What it does |
|---|---|
| start | wait for the nodes; configure each in order; activate each in order; with auto_start call `start` |
| an answer does not come, a service goes and comes back | ask again: the nodes may still be finding each other |
| a service stays away | say which, exit with 1 |
| a node refuses, or does not answer in time | say which node and transition, exit with 1 |
| SIGINT, SIGTERM | deactivate in reverse order those that still answer, exit with 0 |
"""

import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import rclpy
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import ListParameters
from rclpy.client import Client
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future
from std_srvs.srv import Trigger

from mbrl_ros.node_configs import LifecycleManagerConfig
from mbrl_ros.parameters import read_parameters
from mbrl_ros.process import REFUSED

LABELS = {
    Transition.TRANSITION_CONFIGURE: "configure",
    Transition.TRANSITION_ACTIVATE: "activate",
    Transition.TRANSITION_DEACTIVATE: "deactivate",
}
REACHED = {
    Transition.TRANSITION_CONFIGURE: State.PRIMARY_STATE_INACTIVE,
    Transition.TRANSITION_ACTIVATE: State.PRIMARY_STATE_ACTIVE,
    Transition.TRANSITION_DEACTIVATE: State.PRIMARY_STATE_INACTIVE,
}
POLL_S = 0.05
# An answer may be lost while two nodes are still finding each other (rmw_fastrtps issue 842).
AGAIN_S = 2.0
# A service that was there may be out of sight for a moment, for the same reason.
GONE_S = 5.0


class TransitionError(RuntimeError):
    """A node did not get where it was sent; the message names node and transition."""


class LifecycleManager(Node):
    """Drives the transitions of the graph's lifecycle nodes."""

    def __init__(self, **options: Any) -> None:
        """Read the parameters; nothing is called yet. Raises ValueError for a bad parameter."""
        super().__init__("lifecycle_manager", automatically_declare_parameters_from_overrides=True, **options)
        self.config, _ = read_parameters(self, LifecycleManagerConfig)
        self._changes = {name: self.create_client(ChangeState, f"{name}/change_state") for name in self.config.nodes}
        self._states = {name: self.create_client(GetState, f"{name}/get_state") for name in self.config.nodes}
        self._start = self.create_client(Trigger, "start")

    def bring_up(self) -> None:
        """Configure all, activate all, start.

        Raises:
          TransitionError: a node is missing, refused or was too slow.
        """
        self._wait_for_nodes()
        for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            for name in self.config.nodes:
                self._change(name, transition, self.config.timeout_s)
        if self.config.auto_start:
            response = self._call(self._start, Trigger.Request(), "robot_interface", "start", self.config.timeout_s)
            if not response.success:
                raise TransitionError(f"robot_interface: start refused: {response.message}")
        self.get_logger().info("all nodes are active" + (", collection started" if self.config.auto_start else ""))

    def bring_down(self) -> None:
        """Deactivate in reverse order the nodes that still answer."""
        for name in reversed(self.config.nodes):
            if not self._changes[name].service_is_ready():
                continue
            try:
                self._change(name, Transition.TRANSITION_DEACTIVATE, self.config.stop_timeout_s)
            except TransitionError as failure:
                self.get_logger().info(f"while stopping: {failure}")

    def _wait_for_nodes(self) -> None:
        """Wait until the other nodes answer: a node does so once it is built and spins, and is seen long before."""
        for name in self.config.wait_for:
            client = self.create_client(ListParameters, f"{name}/list_parameters")
            self._call(client, ListParameters.Request(), name, "answer", self.config.timeout_s)
            self.destroy_client(client)

    def _change(self, name: str, transition: int, timeout_s: float) -> None:
        def look() -> ChangeState.Response | None:
            state = self._call(self._states[name], GetState.Request(), name, "state", timeout_s).current_state
            return ChangeState.Response(success=True) if state.id == REACHED[transition] else None

        request = ChangeState.Request(transition=Transition(id=transition))
        response = self._call(self._changes[name], request, name, LABELS[transition], timeout_s, look)
        if not response.success:
            raise TransitionError(f"{name}: {LABELS[transition]} refused; its log says why")
        self.get_logger().info(f"{name}: {LABELS[transition]} done")

    def _call(
        self,
        client: Client,
        request: Any,
        name: str,
        label: str,
        timeout_s: float,
        look: Callable[[], Any | None] = lambda: None,
    ) -> Any:
        """Call a service until it answers.

        Args:
          client: of the service.
          request: what to ask.
          name: of the node, for messages.
          label: what it is asked for, for messages.
          timeout_s: longest wait for the service, and then for its answer.
          look: gives what the answer must have been, where it is long in coming; None = ask again. Needed where asking
            twice differs from asking once.

        Raises:
          TransitionError: there is no such service, or no answer in time.
        """
        if not self._spin_until(client.service_is_ready, timeout_s):
            raise TransitionError(f"{name}: {label}: no such service after {timeout_s} s")
        futures: list[Future] = []
        deadline = time.monotonic() + timeout_s
        while True:
            futures.append(client.call_async(request))
            self._spin_until(
                lambda: any(future.done() for future in futures) or not client.service_is_ready(),
                min(AGAIN_S, deadline - time.monotonic()),
            )
            answers = [future.result() for future in futures if future.done()]
            if answers:
                return answers[0]
            if not self._spin_until(client.service_is_ready, GONE_S):
                raise TransitionError(f"{name}: {label}: it ended before it answered")
            if time.monotonic() >= deadline:
                raise TransitionError(f"{name}: {label}: no answer after {timeout_s} s")
            seen = look()
            if seen is not None:
                self.get_logger().warning(f"{name}: {label}: done, its answer was lost")
                return seen

    def _spin_until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Spin in short turns, because a signal is only seen between two of them."""
        deadline = time.monotonic() + timeout_s
        while not condition() and time.monotonic() < deadline:
            rclpy.spin_once(self, timeout_sec=POLL_S)
        return condition()


def _interrupt(*_: Any) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # once is enough: stopping is bounded
    raise KeyboardInterrupt


def main() -> None:
    """Run the node until it is stopped or a transition fails."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)  # services must still answer while stopping
    code, node = 0, None
    try:
        node = LifecycleManager()
        node.bring_up()
        while True:
            rclpy.spin_once(node, timeout_sec=POLL_S)
    except (KeyboardInterrupt, ExternalShutdownException):
        if node is not None:
            node.bring_down()
    except ValueError as error:
        print(f"refused: {error}", file=sys.stderr)
        code = REFUSED
    except TransitionError as failure:
        print(f"lifecycle_manager: {failure}", file=sys.stderr)
        code = 1
    finally:
        rclpy.try_shutdown()
    sys.exit(code)


if __name__ == "__main__":
    main()
