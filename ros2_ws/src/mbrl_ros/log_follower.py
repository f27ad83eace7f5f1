"""Reads the nodes' logs: the last words of a node, and all of them on the console."""

import sys
import threading
from pathlib import Path

POLL_S = 0.1
TAIL_BYTES = 8192


def last_lines(path: Path, count: int = 8) -> list[str]:
    """Last lines of a log that are not empty."""
    if not path.is_file():
        return []
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - TAIL_BYTES))
        lines = log.read().decode(errors="replace").splitlines()
    return [line.rstrip() for line in lines if line.strip()][-count:]


class LogFollower:
    """Copies the logs of a run to the console as they grow, each line with its node's name."""

    def __init__(self, paths: dict[str, Path]) -> None:
        """Follow node name -> log; the files need not exist yet."""
        self._paths, self._read = paths, dict.fromkeys(paths, 0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True, name="logs")

    def start(self) -> None:
        """Begin to copy."""
        self._thread.start()

    def stop(self) -> None:
        """Copy what is left and end."""
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._stop.wait(POLL_S):
            self._copy()
        self._copy()

    def _copy(self) -> None:
        for name, path in self._paths.items():
            if not path.is_file():
                continue
            with path.open("rb") as log:
                log.seek(self._read[name])
                block = log.read()
            self._read[name] += len(block)
            for line in block.decode(errors="replace").splitlines():
                print(f"{name:>17} | {line}", file=sys.stderr)
