"""One torch thread: tests run beside each other. And a Feetech driver on six servos faked at the wire."""

from collections.abc import Iterator

import pytest
import torch
from fakes.feetech_wire import FakeWire

from mbrl_core.arm import ArmProfile, load_profile
from mbrl_core.robots.servo_arm import ServoArm
from mbrl_sim import ASSETS

torch.set_num_threads(1)


@pytest.fixture
def profile() -> ArmProfile:
    return load_profile(ASSETS / "so101.yaml")


@pytest.fixture
def wire() -> Iterator[FakeWire]:
    wire = FakeWire()
    yield wire
    wire.unplug()


@pytest.fixture
def arm(profile: ArmProfile, wire: FakeWire) -> Iterator[ServoArm]:
    arm = ServoArm(profile, wire.port, deadline_s=0.2)
    arm.connect()
    yield arm
    arm.close()
