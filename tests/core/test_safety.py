import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbrl_core.arm import load_profile
from mbrl_core.kinematics import Chain
from mbrl_core.safety import Limits, Reason, Sent, limit
from mbrl_sim import profile_path

PROFILE = load_profile(profile_path("so101"))
LIMITS, CHAIN, HOME = Limits.of(PROFILE), Chain(PROFILE), PROFILE.vector("home_rad")
DT_S, INDEX = 0.01, PROFILE.controlled
SLACK = 1e-9


def tip(joints):
    return CHAIN.tip(joints[..., INDEX])


def step(command, last: Sent) -> Sent:
    return limit(command, last, DT_S, LIMITS, tip)


numbers = st.one_of(st.floats(-4, 4), st.floats(allow_nan=True, allow_infinity=True), st.just(1e300))
absolute = st.lists(numbers, min_size=6, max_size=6)
near = st.lists(st.floats(-0.05, 0.05), min_size=6, max_size=6)
commands = st.lists(st.tuples(st.booleans(), absolute, near), min_size=1, max_size=40)


@settings(max_examples=150, deadline=None)
@given(commands)
def test_no_command_sequence_breaks_position_velocity_or_tip_speed(sequence):
    last = Sent.at_rest(HOME)
    for relative, far, close in sequence:
        command = last.position + np.array(close) if relative else np.array(far)
        sent = step(command, last)
        assert np.isfinite(sent.position).all() and np.isfinite(sent.velocity).all()
        assert (sent.position >= LIMITS.lower - SLACK).all() and (sent.position <= LIMITS.upper + SLACK).all()
        moved = (sent.position - last.position) / DT_S
        assert (np.abs(moved) <= LIMITS.velocity + 1e-6).all()
        assert np.linalg.norm(tip(sent.position) - tip(last.position)) / DT_S <= LIMITS.tcp_speed_m_s + 1e-6
        assert np.allclose(moved, sent.velocity, atol=1e-6)
        last = sent


@settings(max_examples=150, deadline=None)
@given(commands)
def test_acceleration_is_exceeded_only_to_brake(sequence):
    last = Sent.at_rest(HOME)
    for relative, far, close in sequence:
        sent = step(last.position + np.array(close) if relative else np.array(far), last)
        hard = np.abs(sent.velocity - last.velocity) > LIMITS.acceleration * DT_S + 1e-6
        # a joint that changes speed harder than allowed ends slower than it was
        assert (np.abs(sent.velocity[hard]) <= np.abs(last.velocity[hard]) + 1e-9).all()
        last = sent


@given(st.lists(st.floats(-0.002, 0.002), min_size=6, max_size=6))
def test_a_gentle_command_passes_unchanged(change):
    command = HOME + np.array(change)
    sent = step(command, Sent.at_rest(HOME))
    assert sent.reason is Reason.NONE
    assert np.allclose(sent.position, command, atol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_command_that_is_not_finite_brakes_to_a_hold(bad):
    last = Sent.at_rest(HOME)
    for _ in range(20):
        last = step(last.position + np.array([0.01, 0, 0, 0, 0, 0]), last)
    for _ in range(30):
        last = step(np.array([HOME[0], HOME[1], bad, 0, 0, 0]), last)
        assert Reason.NOT_FINITE in last.reason
    assert np.abs(last.velocity).max() < 1e-9


def test_a_far_command_is_reached_in_the_end():
    goal, last = HOME + np.array([0.4, 0.2, -0.2, 0.1, 0.3, 0.5]), Sent.at_rest(HOME)
    for _ in range(400):
        last = step(goal, last)
    assert np.allclose(last.position, goal, atol=1e-6)


def test_each_reason_is_named():
    far = HOME.copy()
    far[5] = 1.6
    assert Reason.VELOCITY in step(far, Sent.at_rest(HOME)).reason
    assert Reason.ACCELERATION in step(far, Sent.at_rest(HOME)).reason
    outside = HOME.copy()
    outside[0] = 9.0
    assert Reason.POSITION in step(outside, Sent.at_rest(HOME)).reason
    slow = dataclasses.replace(LIMITS, tcp_speed_m_s=0.01)
    pan = HOME + np.array([0.002, 0, 0, 0, 0, 0])
    assert Reason.TCP_SPEED in limit(pan, Sent.at_rest(HOME), DT_S, slow, tip).reason


def test_a_start_outside_the_limits_may_only_move_inward():
    outside = HOME.copy()
    outside[0] = LIMITS.upper[0] + 0.1
    last = Sent.at_rest(outside)
    out = step(outside + np.array([0.01, 0, 0, 0, 0, 0]), last)
    assert out.position[0] <= outside[0] + SLACK
    inward = step(outside - np.array([0.002, 0, 0, 0, 0, 0]), last)
    assert inward.position[0] < outside[0]


def test_a_command_for_another_number_of_joints_is_refused():
    with pytest.raises(ValueError, match=r"command: expected 6 joints, got \(5,\)"):
        step(HOME[:5], Sent.at_rest(HOME))
