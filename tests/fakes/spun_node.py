"""A node that is spun in the background while a test looks at what it hears."""

import contextlib
import threading

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions


@contextlib.contextmanager
def own_context(domain):
    """A context in a domain of its own, beside those of the code under test."""
    context = rclpy.context.Context()
    rclpy.init(context=context, domain_id=int(domain), signal_handler_options=SignalHandlerOptions.NO)
    try:
        yield context
    finally:
        rclpy.try_shutdown(context=context)


@contextlib.contextmanager
def spun(name, context):
    """A node of that name; it is spun until the end."""
    node, executor = rclpy.create_node(name, context=context), SingleThreadedExecutor(context=context)
    executor.add_node(node)

    def spin():
        with contextlib.suppress(ExternalShutdownException):
            executor.spin()

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    try:
        yield node
    finally:
        executor.shutdown(timeout_sec=1.0)
        thread.join(timeout=2.0)
