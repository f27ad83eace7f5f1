"""The control loop on the emulated bus of each family, while servos suffer: bytes on a pseudo-terminal."""

import dataclasses
import threading
import time

import numpy as np
import pytest
from fakes.twin_process import TwinProcess

from mbrl_core.arm import load_profile
from mbrl_core.control_config import ControlConfig, Mode
from mbrl_core.control_loop import ControlLoop
from mbrl_core.robots.servo_arm import ServoArm
from mbrl_core.tasks.reach import ReachConfig, ReachTask
from mbrl_core.types import Action
from mbrl_sim import profile_path

pytestmark = pytest.mark.realtime
ELBOW = 2  # place in both arms


class Bench:
    """An arm's twin, its driver and its loop; the policy swings the base and the elbow."""

    def __init__(self, name, **settings):
        profile = load_profile(profile_path(name))
        rest = [joint.home_rad + 0.3 * (index == ELBOW) for index, joint in enumerate(profile.joints)]
        joints = [
            dataclasses.replace(joint, park_rad=angle) for joint, angle in zip(profile.joints, rest, strict=True)
        ]
        self.profile = dataclasses.replace(profile, joints=tuple(joints))
        task = ReachTask(self.profile, ReachConfig(duration_s=2.0))
        self.twin = TwinProcess(self.profile).__enter__()
        self.servo = ServoArm(self.profile, self.twin.port, deadline_s=0.05)
        self.action = np.zeros(task.action_dim)
        self.action[[0, ELBOW]] = 0.5
        self.modes = []
        config = ControlConfig(command_timeout_s=1.0, max_bus_errors=20, **settings)
        self.loop = ControlLoop(
            self.servo, task, config, on_observation=self.answer, on_episode=lambda episode: None, on_reading=self.note
        )
        self.thread = threading.Thread(target=self.loop.run, daemon=True)

    def __enter__(self):
        self.servo.connect()
        self.thread.start()
        self.loop.activate()
        return self

    def __exit__(self, *_):
        self.loop.close()
        self.thread.join(5)
        self.servo.close()
        self.twin.__exit__()

    def answer(self, observation):
        values = self.action if observation.seq // 20 % 2 else -self.action
        self.loop.mailbox.offer(Action(seq=observation.seq, episode=observation.episode, action=values))

    def note(self, reading):
        self.modes += [self.loop.mode] if self.loop.mode not in self.modes[-1:] else []

    def move(self):
        self.loop.start()
        self.wait_for(lambda: self.loop.counters.real_steps > 5)

    def wait_for(self, condition, limit_s=30.0):
        end = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < end, f"{self.loop.mode}: {self.loop.reason}"
            time.sleep(0.005)

    @property
    def joint(self):
        return self.profile.joints[ELBOW]


@pytest.fixture(params=["so101", "open_manipulator_x"])
def bench(request):
    with Bench(request.param) as bench:
        yield bench


def test_an_arm_that_is_well_moves_for_long_without_a_complaint(bench):
    bench.move()
    bench.wait_for(lambda: bench.loop.counters.real_steps > 60)
    assert bench.loop.mode in (Mode.MOVING, Mode.RESETTING), bench.loop.reason


def test_a_hot_servo_parks_the_arm_where_it_rests_and_latches_it(bench):
    """Fault 39."""
    bench.move()
    hot = bench.profile.servo_of(bench.joint).hot_c
    bench.twin.spoil(temperature_c={bench.joint.servo_id: hot + 1.0})
    bench.wait_for(lambda: bench.loop.mode is Mode.LATCHED)
    assert f"{bench.joint.name}: expected below {hot:g} degC" in bench.loop.reason
    assert Mode.PARKING in bench.modes
    np.testing.assert_allclose(bench.twin.spoil(), bench.profile.park_rad, atol=0.1)
    bench.twin.spoil(temperature_c={})
    bench.loop.rearm()
    assert bench.loop.mode is Mode.HOLDING


def test_a_frozen_encoder_stops_the_arm_and_is_named(bench):
    """Fault 20."""
    bench.move()
    bench.twin.spoil(frozen=frozenset({bench.joint.servo_id}))
    bench.wait_for(lambda: bench.loop.mode is Mode.LATCHED)
    assert bench.loop.reason.startswith(f"{bench.joint.name}: expected to follow its target")


def test_a_servo_in_overload_stops_the_arm_where_it_is(bench):
    """Faults 40 and 43."""
    bench.move()
    bench.twin.spoil(overloaded=frozenset({bench.joint.servo_id}))
    bench.wait_for(lambda: bench.loop.mode is Mode.LATCHED)
    assert bench.joint.name in bench.loop.reason
    assert Mode.PARKING not in bench.modes


def test_a_servo_that_lets_go_because_it_is_too_hot_is_not_switched_on_again(bench):
    """Fault 38, of an arm that is latched and holds: goals go on, for the joints that do."""
    bench.loop.start()
    joint, servo = bench.joint, bench.profile.servo_of(bench.joint)
    bench.twin.spoil(temperature_c={joint.servo_id: servo.hot_c + 1.0})
    bench.wait_for(lambda: bench.loop.mode is Mode.LATCHED)
    bench.twin.spoil(temperature_c={joint.servo_id: 90.0})  # above every servo's own limit
    held = bench.twin.spoil()[ELBOW]
    bench.wait_for(lambda: abs(bench.twin.spoil()[ELBOW] - held) > 0.2)
    time.sleep(0.2)
    bench.loop.close()
    bench.thread.join(5)
    assert not bench.servo.read_torque()[ELBOW]


def test_a_joint_that_lost_its_power_without_a_missed_reading_latches_the_arm():
    """Fault 41. A Feetech that could do that would be switched on by the next goal; its start takes readings, too."""
    with Bench("open_manipulator_x") as bench:
        bench.twin.power_cycle({bench.joint.servo_id})
        bench.wait_for(lambda: bench.loop.mode is Mode.LATCHED)
        assert f"expected torque enabled, got off at ['{bench.joint.name}']" in bench.loop.reason


def test_a_joint_that_lost_its_power_is_not_switched_on_again(bench):
    """Fault 41."""
    joint = bench.joint
    bench.twin.spoil(silent=frozenset({joint.servo_id}))
    bench.twin.power_cycle({joint.servo_id})
    time.sleep(0.1)
    bench.twin.spoil(silent=frozenset())
    bench.wait_for(lambda: bench.loop.mode is Mode.LATCHED)
    assert bench.loop.reason == f"bus: torque: expected on, got off at ['{joint.name}']"
    bench.loop.close()
    bench.thread.join(5)
    assert not bench.servo.read_torque()[ELBOW]


def test_an_arm_that_is_let_go_is_parked_first():
    with Bench("so101", on_shutdown="limp") as bench:
        bench.move()
        bench.loop.deactivate()
        assert (bench.loop.mode, bench.loop.reason) == (Mode.INACTIVE, "parked, torque is off")
        bench.servo.read_torque()
        assert not bench.servo.torque_enabled
