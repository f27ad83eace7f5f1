"""Joint states become samples by name, in order, finite, with a speed and a time on the monotonic clock."""

import math

import numpy as np
import pytest

from mbrl_ros.joint_samples import JointSamples

NAMES = ("a", "b")


@pytest.fixture
def samples():
    return JointSamples(NAMES)


def offer(samples, at_s, position=(1.0, 2.0), velocity=(0.1, 0.2), names=NAMES, arrived_s=None):
    return samples.offer(names, position, velocity, at_s, 50.0 + at_s if arrived_s is None else arrived_s)


def test_joints_are_found_by_name_whatever_their_order_and_company(samples):  # cases 5, 25
    sample = offer(samples, 1.0, (7.0, 2.0, 1.0), (9.0, 0.2, 0.1), ("wheel", "b", "a"))
    assert (sample.position.tolist(), sample.velocity.tolist()) == ([1.0, 2.0], [0.1, 0.2])


@pytest.mark.parametrize(
    ("names", "position", "velocity", "cause"),
    [
        (("a", "wheel"), (1.0, 2.0), (), "joints missing"),
        (("a", "b", "b"), (1.0, 2.0, 3.0), (), "malformed"),
        (("a", "b"), (1.0,), (), "malformed"),
        (("a", "b"), (1.0, 2.0), (0.1,), "malformed"),
        (("a", "b"), (1.0, math.nan), (0.1, 0.1), "position is not finite"),  # case 21
        (("a", "b"), (math.inf, 1.0), (0.1, 0.1), "position is not finite"),
    ],
)
def test_a_message_that_is_not_whole_is_dropped_counted_and_explained(samples, names, position, velocity, cause):
    assert offer(samples, 1.0, position, velocity, names) is None
    assert samples.refused == {cause: 1}
    assert samples.complaint.startswith("joint_states: expected")
    assert offer(samples, 1.01) is not None
    assert samples.complaint == ""


@pytest.mark.parametrize("velocity", [(), (math.nan, math.nan)])
def test_a_missing_velocity_is_the_change_of_the_position(samples, velocity):  # case 24
    assert offer(samples, 1.0, (1.0, 2.0), velocity) is None
    assert offer(samples, 1.01, (1.02, 1.99), velocity).velocity == pytest.approx([2.0, -1.0])


def test_a_velocity_that_one_joint_lacks_is_filled_in_for_that_joint_alone(samples):
    offer(samples, 1.0)
    sample = offer(samples, 1.01, (1.02, 2.0), (math.nan, 0.5))
    assert sample.velocity == pytest.approx([2.0, 0.5])


def test_no_speed_is_made_of_positions_that_lie_too_far_apart(samples):
    offer(samples, 1.0, velocity=())
    assert offer(samples, 3.0, velocity=()) is None


def test_without_stamps_arrival_times_count_at_the_robots_speed():
    samples = JointSamples(NAMES, speed=2.0)
    offer(samples, 0.0, (1.0, 2.0), (), arrived_s=10.0)
    sample = offer(samples, 0.0, (1.02, 2.0), (), arrived_s=10.01)
    assert sample.velocity == pytest.approx([1.0, 0.0])
    assert sample.stamp_s == 10.01


def test_overtaken_and_repeated_messages_are_dropped(samples):  # case 26
    offer(samples, 1.02)
    assert offer(samples, 1.01) is None
    assert offer(samples, 1.02) is None
    assert samples.refused == {"out of order": 2}
    assert offer(samples, 1.03) is not None


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
def test_a_clock_that_is_set_changes_neither_speed_nor_time(samples, jump_s):  # case 11
    base = 1e6
    for tick in range(100):
        at_s = base + 0.01 * tick + (jump_s if tick >= 50 else 0.0)
        sample = offer(samples, at_s, arrived_s=7.0 + 0.01 * tick)
        assert sample is not None
        assert sample.stamp_s == pytest.approx(7.0 + 0.01 * tick, abs=1e-6)
    assert not samples.refused


def test_times_follow_the_stamps_and_not_the_networks_jitter():
    samples, rng = JointSamples(NAMES, speed=3.0), np.random.default_rng(0)
    stamps = []
    for tick in range(1000):
        measured_s = 5.0 + 0.01 * tick / 3.0
        arrived_s = measured_s + 0.0005 + rng.exponential(0.003)
        stamps.append(offer(samples, 40.0 + 0.01 * tick, arrived_s=arrived_s).stamp_s)
        assert stamps[-1] <= arrived_s + 1e-9
    steps = np.diff(stamps[100:])
    assert np.abs(steps - 0.01 / 3.0).max() < 0.001, "steps of the stamps, with single delays of over 15 ms"


def test_clocks_that_drift_apart_are_followed(samples):
    for tick in range(20_000):  # 200 s at 100 parts in a million: 20 ms
        sample = offer(samples, 1.0 + 0.01 * tick, arrived_s=7.0 + 0.01 * tick * 1.0001)
        assert sample.arrived_s - sample.stamp_s == pytest.approx(0.0, abs=0.0005)
