"""Questions to whoever stands at the arm, answered with Enter: at a terminal, or through a pipe."""

import os
import select
import sys
import termios

from mbrl_core.config import refuse


class Prompt:
    """Lines of standard input, read without a buffer that would hide them from `entered`."""

    def __init__(self) -> None:
        """Nothing was typed yet."""
        self._typed = b""

    def ask(self, text: str) -> str:
        """Print a line, wait for one, and return it.

        Raises:
          ValueError: the input ended.
        """
        self._put(text)
        while b"\n" not in self._typed:
            self._read()
        return self._take()

    def begin(self, text: str) -> None:
        """Print a line and go on; `entered` tells when Enter was pressed."""
        self._put(text)

    def entered(self) -> bool:
        """Whether a line was typed since; does not wait.

        Raises:
          ValueError: the input ended.
        """
        if b"\n" not in self._typed and select.select([sys.stdin.fileno()], [], [], 0.0)[0]:
            self._read()
        if b"\n" not in self._typed:
            return False
        self._take()
        return True

    def _put(self, text: str) -> None:
        """Print a line; at a terminal forget what was typed before it: nobody can have meant this question."""
        if os.isatty(sys.stdin.fileno()):
            termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
            self._typed = b""
        print(text, flush=True)

    def _read(self) -> None:
        fresh = os.read(sys.stdin.fileno(), 1024)
        if not fresh:
            raise refuse("input", "Enter", "its end")
        self._typed += fresh

    def _take(self) -> str:
        line, _, self._typed = self._typed.partition(b"\n")
        return line.decode(errors="replace").strip()
