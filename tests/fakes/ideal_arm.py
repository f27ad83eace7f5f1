"""An arm that is where it is told at once: for tests of the loop's logic, not of motion."""

import dataclasses
import time

import numpy as np

from mbrl_core.robots.errors import Fault, StaleState
from mbrl_core.robots.reading import ArmReading


class IdealArm:
    """Remembers every command; can be made silent, deaf or limp."""

    def __init__(self, position):
        self.position = np.array(position, dtype=float)
        self.sent = []
        self.silent = False  # reads fail
        self.deaf = False  # writes fail
        self.changed = {}  # what it reports instead, by field of ArmReading
        self.torque = False
        self.sag = 0.0
        self.goal = self.position.copy()

    def read(self):
        if self.silent:
            raise StaleState("servo 3: expected an answer, got none", (3,))
        zeros = np.zeros(len(self.position))
        well = ArmReading(
            position=self.position - self.sag,
            velocity=zeros,
            load=zeros,
            current_a=zeros,
            voltage_v=zeros + 12.0,
            temperature_c=zeros + 30.0,
            status=zeros.astype(np.uint8),
            stamp_s=time.monotonic(),
        )
        return dataclasses.replace(well, **self.changed)

    def read_goal(self):
        return self.goal.copy()

    def read_torque(self):
        return np.full(len(self.position), self.torque)

    def write(self, position):
        if self.deaf:
            raise Fault("write: expected torque enabled, got off")
        self.sent.append(np.array(position))
        self.position = np.array(position)
        self.goal = self.position.copy()
        self.torque = True  # as the firmware does

    def enable_torque(self):
        if not self.torque:
            self.goal = self.position - self.sag
        self.torque = True

    def disable_torque(self):
        self.torque = False
