"""What the control loop needs of an arm, whatever stands behind it: servos on a bus, or controllers of ros2_control.

| state          | how to get there   | allowed                          |
|----------------|--------------------|----------------------------------|
| closed         | built, `close`     | `connect`                        |
| connected      | `connect`          | all `read*`, `enable_torque`     |
| torque enabled | `enable_torque`    | and `write`, `disable_torque`    |
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mbrl_core.robots.reading import ArmReading
from mbrl_core.types import Vector


class Robot(Protocol):
    """One arm. Every call is bounded in time; all raise RobotError. Not thread-safe: one loop owns it."""

    def connect(self) -> None:
        """Open it and check that it is the profile's arm. Raises NotConnected, with what to do about it."""

    def close(self) -> None:
        """Give it back; the arm goes on holding."""

    def read(self) -> ArmReading:
        """Measure all joints. Raises StaleState when one did not answer in time."""

    def read_goal(self) -> Vector:
        """Targets that the arm holds now: (J_all,) rad."""

    def read_torque(self) -> NDArray[np.bool_]:
        """Which joints are driven: (J_all,)."""

    def write(self, position: Vector) -> None:
        """Send target positions (J_all,) rad."""

    def enable_torque(self) -> None:
        """Hold where the arm is; leaves goals alone where torque is on already. The explicit act that clears a trip."""

    def disable_torque(self) -> None:
        """Let the arm go limp: it falls."""
