"""Starts a graph's nodes as processes, sees at once when one dies, and stops all of them in order.

Honcho's process manager was the first choice; it stops everything at the same time, and an arm must rest first.
"""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mbrl_ros.graph import PARK_S, Graph, NodeSpec
from mbrl_ros.log_follower import last_lines
from mbrl_ros.run_directory import write_parameters

TERM_S = 3.0  # from SIGTERM to SIGKILL
GRACE_S = PARK_S + 2.0  # what an arm gets to settle when the supervisor itself was killed

Command = Callable[[NodeSpec, Path, str], list[str]]


@dataclass(frozen=True)
class Death:
    """A node that ended although nobody had asked it to."""

    name: str
    code: int  # as in subprocess: negative = signal
    log: tuple[str, ...]  # its last lines

    def __str__(self) -> str:
        """Return who and how, in a few words."""
        how = f"signal {-self.code}" if self.code < 0 else f"exit code {self.code}"
        return f"{self.name} died ({how})"


def node_command(node: NodeSpec, parameters: Path, namespace: str) -> list[str]:
    """Command line of a node: the leash, then its module with a parameter file."""
    grace_s = GRACE_S if node.settles else 0.0
    leash = [sys.executable, "-m", "mbrl_ros.leash", str(os.getpid()), str(grace_s), node.module]
    remap = ["-r", f"__node:={node.name}"]
    if namespace:
        remap += ["-r", f"__ns:=/{namespace.strip('/')}"]
    return [*leash, "--ros-args", *remap, "--params-file", str(parameters), "--disable-external-lib-logs"]


class Child:
    """One process, its log and the thread that waits for its end."""

    def __init__(self, node: NodeSpec, command: list[str], log: Path, environment: Mapping[str, str]) -> None:
        """Start the process."""
        self.node, self.log, self.ended = node, log, threading.Event()
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=dict(environment)
            )

    def watch(self, report: Callable[["Child"], None]) -> None:
        """Call `report` from a thread of its own as soon as the process has ended."""
        threading.Thread(target=self._wait, args=(report,), daemon=True, name=f"wait {self.node.name}").start()

    def stop(self) -> str:
        """End the process and return the signal that it took, or nothing if it had already ended."""
        steps = ((signal.SIGINT, self.node.stop_s), (signal.SIGTERM, TERM_S), (signal.SIGKILL, None))
        if self.ended.is_set():
            return ""
        for number, wait_s in steps:
            with contextlib.suppress(ProcessLookupError):  # not send_signal, which would reap it before the waiter
                os.kill(self.process.pid, number)
            if self.ended.wait(wait_s):
                return number.name
        return signal.SIGKILL.name

    def _wait(self, report: Callable[["Child"], None]) -> None:
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)  # what it may have started; its id is not free before wait()
        self.process.wait()
        self.ended.set()
        report(self)


class Supervisor:
    """The processes of one graph."""

    def __init__(
        self,
        graph: Graph,
        run_dir: Path,
        environment: Mapping[str, str],
        command: Command = node_command,
    ) -> None:
        """Describe what start() will start.

        Args:
          graph: the nodes.
          run_dir: receives params/<node>.yaml and log/<node>.log.
          environment: of every node.
          command: node, its parameter file and namespace to a command line.
        """
        self.graph, self.run_dir = graph, run_dir
        self.stop_signals: dict[str, str] = {}  # node -> the signal that ended it, in the order of stopping
        self._environment, self._command = environment, command
        self._children: dict[str, Child] = {}
        self._deaths: queue.SimpleQueue[Death] = queue.SimpleQueue()
        self._stopping = False

    def start(self) -> None:
        """Start all nodes, in order. Call it from the main thread: the kernel ties the children to the caller's."""
        (self.run_dir / "log").mkdir(parents=True, exist_ok=True)
        for node in self.graph.nodes:
            parameters = write_parameters(self.run_dir / "params", node.name, node.parameters)
            command = self._command(node, parameters, self.graph.namespace)
            child = Child(node, command, self.log_path(node.name), self._environment)
            self._children[node.name] = child
            child.watch(self._report)

    def log_path(self, name: str) -> Path:
        """Where a node's output goes."""
        return self.run_dir / "log" / f"{name}.log"

    def pid(self, name: str) -> int:
        """Process id of a node."""
        return self._children[name].process.pid

    def wait(self, timeout_s: float) -> Death | None:
        """Return the first node that died, or None when none did in that time."""
        try:
            return self._deaths.get(timeout=timeout_s) if timeout_s > 0 else self._deaths.get_nowait()
        except queue.Empty:
            return None

    def stop(self) -> None:
        """Stop all nodes in the graph's order, each within its bounded time; harmless when called again."""
        self._stopping = True
        for node in self.graph.stop_order:
            if node.name in self._children:
                used = self._children.pop(node.name).stop()
                self.stop_signals[node.name] = used

    def _report(self, child: Child) -> None:
        if not self._stopping:
            name, code = child.node.name, child.process.returncode
            self._deaths.put(Death(name, code, tuple(last_lines(child.log))))
