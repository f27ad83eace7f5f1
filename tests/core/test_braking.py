"""One joint comes to rest, or to a speed, within acceleration and jerk."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbrl_core.braking import Joint

DT_S = 0.01

joints = st.builds(
    lambda velocity, share, strongest, jerk: Joint(0.3, velocity, share * strongest, strongest, jerk * DT_S, DT_S),
    velocity=st.floats(-6, 6),
    share=st.floats(-1, 1),
    strongest=st.floats(0.5, 200),
    jerk=st.floats(20, 30000),
)


def path(joint: Joint, first: float) -> np.ndarray:
    return np.array([joint.position - DT_S * joint.velocity, joint.position, *joint.stopping(first)])


@settings(max_examples=300, deadline=None)
@given(joints)
def test_a_joint_comes_to_rest_within_acceleration_and_jerk(joint):
    positions = path(joint, joint.towards(0.0))
    velocities = np.append(np.diff(positions) / DT_S, [0.0, 0.0])
    accelerations = np.append(joint.acceleration, np.diff(velocities) / DT_S)
    assert np.abs(accelerations).max() <= joint.strongest + 1e-6
    assert np.abs(np.diff(accelerations)).max() <= joint.jerk_step + 1e-6


@settings(max_examples=300, deadline=None)
@given(joints, st.floats(-6, 6))
def test_a_speed_is_reached_without_passing_it(joint, wanted):
    joint = joint._replace(acceleration=0.0)
    above = wanted < joint.velocity
    for _ in range(5000):
        acceleration = joint.towards(wanted)
        assert joint._replace(strongest=joint.strongest + 1e-9, jerk_step=joint.jerk_step + 1e-9).allows(acceleration)
        velocity = joint.velocity + acceleration * DT_S
        joint = joint._replace(velocity=velocity, acceleration=acceleration)
        assert (velocity >= wanted - 1e-9) if above else (velocity <= wanted + 1e-9)
        if abs(velocity - wanted) < 1e-9 and abs(acceleration) <= joint.jerk_step:
            return
    pytest.fail("never there")


def test_a_stop_is_the_one_computed_by_hand():
    """From 0.6 rad/s with steps of 10 rad/s^2: 60 rad/s^2 in all, given back as 10, 20, 20, 10 (and no more jerk)."""
    joint = Joint(0.0, 0.6, 0.0, 20.0, 10.0, DT_S)
    positions = path(joint, joint.towards(0.0))
    assert np.diff(np.diff(positions)) / DT_S**2 == pytest.approx([-10, -20, -20, -10])


@settings(max_examples=200, deadline=None)
@given(joints, st.floats(-200, 200), st.floats(0.0, 0.5), st.floats(0.0, 0.5))
def test_what_is_chosen_keeps_its_bounds_wherever_braking_does(joint, wish, below, beyond):
    low, high, speed = joint.position - below, joint.position + beyond, abs(joint.velocity)
    wanted = min(max(wish, joint.acceleration - joint.jerk_step), joint.acceleration + joint.jerk_step)
    wanted = min(max(wanted, -joint.strongest), joint.strongest)
    braking = np.array(joint.stopping(joint.towards(0.0)))
    chosen, way = joint.within(wanted, low, high, speed)
    assert way == joint.stopping(chosen)
    speeds = np.abs(np.diff([joint.position, *braking])) / DT_S
    if low <= braking.min() and braking.max() <= high and speeds.max() <= speed:
        assert low - 1e-9 <= min(way) and max(way) <= high + 1e-9
        assert np.abs(np.diff([joint.position, *way])).max() / DT_S <= speed + 1e-6


def test_as_much_of_a_wish_passes_as_lets_the_joint_stop_at_its_bound():
    joint = Joint(0.0, 0.0, 0.0, 30.0, 30.0, DT_S)
    for _ in range(200):
        acceleration, _ = joint.within(joint.towards(1.5), -1.0, 0.5, 1.5)
        velocity = joint.velocity + acceleration * DT_S
        joint = joint._replace(position=joint.position + velocity * DT_S, velocity=velocity, acceleration=acceleration)
    assert 0.499 < joint.position <= 0.5 + 1e-9
