"""An arm that is where it is told at once: for tests of the loop's logic, not of motion. Also a clock that jumps."""

import time

import numpy as np

from mbrl_core.robots.errors import StaleState
from mbrl_core.robots.reading import ArmReading


class IdealArm:
    """Remembers every command."""

    def __init__(self, position):
        self.position = np.array(position, dtype=float)
        self.sent = []
        self.silent = False
        self.torque = False

    def read(self):
        if self.silent:
            raise StaleState("servo 3: expected an answer, got none", (3,))
        zeros = np.zeros(len(self.position))
        return ArmReading(
            position=self.position.copy(),
            velocity=zeros,
            load=zeros,
            current_a=zeros,
            voltage_v=zeros + 12.0,
            temperature_c=zeros + 30.0,
            status=zeros.astype(np.uint8),
            stamp_s=time.monotonic(),
        )

    def write(self, position):
        self.sent.append(np.array(position))
        self.position = np.array(position)

    def enable_torque(self):
        self.torque = True
