"""A vendor's SDK in a process and a folder of packages of its own: what an emulated bus is graded by."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

VERBS = Path(__file__).with_name("sdk_verbs.py")
ORACLES = Path(sys.prefix) / "oracles"
SDKS = ("dynamixel-sdk", "feetech-servo-sdk", "ftservo-python-sdk")


def lacks(package: str) -> str:
    """Return what is missing for an SDK to run, empty when nothing is."""
    if package == "dynamixel-sdk":
        return "" if importlib.util.find_spec("dynamixel_sdk") else "dynamixel-sdk is not installed"
    return "" if (ORACLES / package).is_dir() else f"{ORACLES / package} is not there: make setup"


class VendorSdk:
    """One SDK on one port; every verb of `sdk_verbs.Verbs` is a call. A context manager.

    Args:
      package: name on PyPI, one of SDKS.
      port: path of the serial port.
      baud: bit/s.
    """

    def __init__(self, package: str, port: str, baud: int = 1_000_000) -> None:
        """Start its process."""
        environment = os.environ | {"PYTHONPATH": str(ORACLES / package)}
        self._process = subprocess.Popen(
            [sys.executable, str(VERBS), package, port, str(baud)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def __call__(self, verb: str, *args: Any) -> Any:
        """Have it do one thing and return what it says, as JSON knows it.

        Raises:
          RuntimeError: its process has ended.
        """
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps([verb, *args]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the SDK's process ended with {self._process.wait()}")
        return json.loads(line)

    def __enter__(self) -> "VendorSdk":
        """Return the running SDK."""
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """End its process."""
        self._process.communicate()
