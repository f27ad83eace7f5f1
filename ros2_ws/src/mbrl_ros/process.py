"""Runs one node as a process: errors in one line, clean shutdown on Ctrl-C and SIGTERM."""

import signal
import sys
import threading
from collections.abc import Callable

import rclpy
from rclpy.executors import Executor, ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from mbrl_core.robots.errors import RobotError
from mbrl_core.robots.realtime import ask_for_realtime

REFUSED = 2  # exit status for bad input, as argparse has it


def run_node(make: Callable[[], Node], *, realtime_priority: int = 0) -> None:
    """Make a node, spin it until a signal, let it shut down while its topics still work, and exit.

    With a real-time priority (1 to 99) the whole process runs ahead of ordinary ones, where the system allows it.
    A node may have `shut_down()`, called before its topics go, `failed` (threading.Event) to end the process, and
    `hurry` (threading.Event), which a second signal sets.
    Signals are taken by Python's own handler, because rclpy's closes every topic before a node can say its last word.
    """
    stop, again = threading.Event(), threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: (again if stop.is_set() else stop).set())
    refusal = ask_for_realtime(realtime_priority) if realtime_priority else ""
    rclpy.init(args=sys.argv, signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = make()
    except ValueError as error:
        print(f"refused: {error}", file=sys.stderr)
        rclpy.try_shutdown()
        sys.exit(REFUSED)
    if refusal:
        node.get_logger().warning(refusal)
    if hasattr(node, "hurry"):
        node.hurry = again
    code = _spin(node, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C, from here on, would count as a death by it
    sys.exit(code)


def explain(error: Exception) -> str:
    """One line for the log; rclpy itself swallows what a lifecycle callback raises."""
    expected = isinstance(error, ValueError | RobotError)
    return f"refused: {error}" if expected else f"refused: {type(error).__name__}: {error}"


def _spin(node: Node, stop: threading.Event) -> int:
    failed: threading.Event = getattr(node, "failed", threading.Event())
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    spinner = threading.Thread(target=_spin_quietly, args=(executor,), name="executor", daemon=True)
    spinner.start()
    while not stop.wait(0.05) and not failed.is_set() and spinner.is_alive():
        pass
    broken = failed.is_set() or not spinner.is_alive()
    if hasattr(node, "shut_down"):
        node.shut_down()
    executor.shutdown(timeout_sec=1.0)
    spinner.join(timeout=1.0)
    rclpy.try_shutdown()
    return 1 if broken else 0


def _spin_quietly(executor: Executor) -> None:
    try:
        executor.spin()
    except ExternalShutdownException:
        return
