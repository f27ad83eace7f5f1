"""One torch thread, since tests run beside each other; devices to learn on; a Feetech driver on six faked servos."""

from collections.abc import Iterator

import pytest
import torch
from fakes.feetech_wire import FakeWire
from fakes.gpu import NEEDS_GPU

from mbrl_core.arm import ArmProfile, load_profile
from mbrl_core.robots.servo_arm import ServoArm
from mbrl_sim import ASSETS

torch.set_num_threads(1)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=NEEDS_GPU)])
def device(request: pytest.FixtureRequest) -> str:
    """Where to learn: on the CPU, and on a GPU where there is one."""
    name: str = request.param
    return name


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
