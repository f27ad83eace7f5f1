"""Calls from other threads that the control loop carries out between two cycles."""

import queue
from collections.abc import Callable
from concurrent.futures import CancelledError, Future

from mbrl_core.robots.errors import NotConnected, RobotError

ANSWER_S = 5.0  # wall time that the loop has to carry out what it was asked


class CallQueue:
    """`ask` is for other threads, `serve` for the loop's."""

    def __init__(self) -> None:
        """Begin empty."""
        self._calls: queue.SimpleQueue[tuple[Callable[[], None], Future[None]]] = queue.SimpleQueue()

    def ask(self, call: Callable[[], None]) -> None:
        """Have a call carried out; one that is not begun in time is taken back.

        Raises:
          NotConnected: the loop does not run.
          ValueError, RobotError: what the call raised.
        """
        answer: Future[None] = Future()
        self._calls.put((call, answer))
        try:
            answer.result(timeout=ANSWER_S)
        except (TimeoutError, CancelledError) as error:
            answer.cancel()
            raise NotConnected(f"control loop: expected an answer within {ANSWER_S} s, got none") from error

    def serve(self) -> None:
        """Carry out what was asked since the last time."""
        while not self._calls.empty():
            call, answer = self._calls.get()
            if not answer.set_running_or_notify_cancel():
                continue
            try:
                call()
            except (ValueError, RobotError) as error:
                answer.set_exception(error)
            else:
                answer.set_result(None)
