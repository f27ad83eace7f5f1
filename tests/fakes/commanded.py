"""A command as a process, its prompts read line by line and answered: what a person at the arm does."""

import os
import queue
import subprocess
import sys
import threading

WITHOUT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests in the background ignores it
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "onnx", "rclpy", "mbrl_msgs"):
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Block())
from mbrl_ros.cli import main
main()
"""
PATIENCE_S = 60.0


class Commanded:
    """`mbrl ...` without what a robot does not install."""

    def __init__(self, *arguments, stdin=subprocess.PIPE, cwd=None):
        command = [sys.executable, "-c", WITHOUT, *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(command, stdin=stdin, **pipes, text=True, bufsize=1, cwd=cwd)
        self.lines: list[str] = []
        self._fresh: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for line in self.process.stdout:
            self._fresh.put(line.rstrip("\n"))
        self._fresh.put(None)

    def until(self, *texts):
        """Wait for a line that holds one of the texts; return it."""
        while True:
            line = self._fresh.get(timeout=PATIENCE_S)
            if line is None:
                raise AssertionError(f"no line with {texts}: {self.lines} {self.process.stderr.read()}")
            self.lines.append(line)
            if any(text in line for text in texts):
                return line

    def enter(self, text=""):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def interrupt(self):
        os.kill(self.process.pid, 2)

    def finish(self):
        """Type no more; return exit status, all lines, and what it complained of."""
        if self.process.stdin:
            self.process.stdin.close()
        return self.finish_open()

    def finish_open(self):
        """The same for a command that ends by itself, its input still open."""
        status = self.process.wait(timeout=PATIENCE_S)
        while (line := self._fresh.get(timeout=PATIENCE_S)) is not None:
            self.lines.append(line)
        return status, "\n".join(self.lines), self.process.stderr.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
