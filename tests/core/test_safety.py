import dataclasses

import numpy as np
import pytest
from hypothesis import given
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


def at(index, value):
    """Home with one joint elsewhere."""
    return np.where(np.arange(6) == index, value, HOME)


@pytest.mark.parametrize(
    "reason, command, changed",
    [
        (Reason.NOT_FINITE, at(2, np.nan), {}),
        (Reason.POSITION, at(0, 9.0), {}),
        (Reason.VELOCITY, at(5, 1.6), {}),
        (Reason.ACCELERATION, at(5, 1.6), {}),
        (Reason.JERK, at(5, 1e-3), {"jerk": np.full(6, 500.0)}),
        (Reason.TCP_SPEED, at(0, 0.002), {"tcp_speed_m_s": 0.01}),
        (Reason.WORKSPACE, at(0, -0.002), {"workspace_high": tip(HOME[None])[0] + [1.0, 1e-5, 1.0]}),
        (Reason.WORKSPACE, at(0, 0.002), {"workspace_low": tip(HOME[None])[0] - [1.0, 1e-5, 1.0]}),
    ],
)
def test_each_reason_is_named(reason, command, changed):
    sent = limit(command, Sent.at_rest(HOME), DT_S, dataclasses.replace(LIMITS, **changed), tip)
    assert reason in sent.reason
    if reason is not Reason.ACCELERATION and reason is not Reason.VELOCITY:
        assert sent.reason in (reason, reason | Reason.VELOCITY | Reason.ACCELERATION)


def test_links_that_would_come_too_near_are_the_reason():
    def clear(poses):
        return HOME[1] + 1e-4 - poses[:, 1]  # whatever lifts the shoulder is too near

    last = Sent.at_rest(HOME)
    for _ in range(10):
        last = limit(last.position + np.array([0.002, 0.002, 0, 0, 0, 0]), last, DT_S, LIMITS, tip, clear)
        assert Reason.SELF_COLLISION in last.reason
        assert clear(last.position[None])[0] >= 0
    assert last.position[0] - HOME[0] > 0.01  # and the others go on


def test_a_joint_that_is_held_stays_where_it_is_when_the_arm_slides_along_a_wall():
    wall = dataclasses.replace(LIMITS, workspace_high=tip(HOME[None])[0] + [1.0, 0.01, 1.0])
    last = Sent.at_rest(HOME)
    for _ in range(100):
        last = limit(last.position + np.array([-0.004, 0.0, 0.002, 0, 0, 0]), last, DT_S, wall, tip)
    assert Reason.WORKSPACE in last.reason
    assert (last.position[[1, 3, 4, 5]] == HOME[[1, 3, 4, 5]]).all()


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
