"""No sequence of commands breaks a limit, found by a checker that knows nothing of how the safety function works."""

import dataclasses
import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mbrl_core.arm import load_profile
from mbrl_core.safety import Reason, Sent, approach, limit
from mbrl_sim import profile_path
from mbrl_sim.self_collision import SelfCollision

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))  # they are programs, not a package
command_sequences, limit_checker = (importlib.import_module(name) for name in ("command_sequences", "limit_checker"))

NAMES = ("koch", "open_manipulator_x", "so100", "so101", "so101_ros2_control")
PROFILES = {name: load_profile(profile_path(name)) for name in NAMES}
ARMS = {name: command_sequences.Arm.of(profile, SelfCollision(profile)) for name, profile in PROFILES.items()}
CHECKERS = {name: limit_checker.Checker(profile) for name, profile in PROFILES.items()}
SLOWEST_REST = 5000  # cycles; with a jerk of 20 rad/s^3 a joint takes long

names = st.sampled_from(NAMES)
starts = st.tuples(*[st.floats(-1, 1)] * command_sequences.JOINTS)
other_limits = st.fixed_dictionaries(
    {
        "velocity": st.floats(0.1, 6.0),
        "acceleration": st.floats(1.0, 200.0),
        "jerk": st.floats(20.0, 30000.0),
        "tcp_speed_m_s": st.floats(0.03, 1.5),
        "spread": st.floats(0.1, 1.0),
    }
)
plenty = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))


def with_limits(arm, drawn):
    """The arm with other limits, which differ from joint to joint."""
    unequal = np.linspace(1.0, drawn["spread"], len(arm.home))
    changed = {name: drawn[name] * unequal for name in ("velocity", "acceleration", "jerk")}
    return dataclasses.replace(
        arm, limits=dataclasses.replace(arm.limits, tcp_speed_m_s=drawn["tcp_speed_m_s"], **changed)
    )


def send(command, last, arm) -> Sent:
    return limit(command, last, arm.dt_s, arm.limits, arm.tip, arm.clear)


def to_rest(last, arm) -> list[Sent]:
    sent = []
    while last.velocity.any() or last.acceleration.any():
        last = send(last.position, last, arm)
        sent.append(last)
        assert len(sent) < SLOWEST_REST
    return sent


def run(start, sequence, arm) -> np.ndarray:
    """Positions of a start, a sequence and the way to rest after it: (T, J_all) rad."""
    sent = [Sent.at_rest(start)]
    for command in command_sequences.commands(sequence, arm):
        sent.append(send(command(sent[-1]), sent[-1], arm))
    return np.array([each.position for each in [*sent, *to_rest(sent[-1], arm)]])


@plenty
@given(names, starts, command_sequences.sequences)
def test_no_sequence_breaks_a_limit_of_an_arm_that_comes_with_us(name, start, sequence):
    arm = ARMS[name]
    excess = CHECKERS[name].excess(run(arm.start(np.array(start)), sequence, arm), arm.dt_s, arm.limits)
    assert not limit_checker.broken(excess), excess


@plenty
@given(names, starts, command_sequences.sequences, other_limits)
def test_no_sequence_breaks_any_other_limits(name, start, sequence, drawn):
    arm = with_limits(ARMS[name], drawn)
    excess = CHECKERS[name].excess(run(arm.start(np.array(start)), sequence, arm), arm.dt_s, arm.limits)
    assert not limit_checker.broken(excess), excess


@plenty
@given(names, starts, command_sequences.sequences, command_sequences.sequences, st.floats(0.25, 1.0))
def test_speed_limits_that_shrink_in_motion_hold_once_the_arm_could_brake_and_all_others_always(
    name, start, before, after, share
):
    arm = ARMS[name]
    slowed = dataclasses.replace(arm, limits=arm.limits.slowed(share))
    sent = [Sent.at_rest(arm.start(np.array(start)))]
    for command in command_sequences.commands(before, arm):
        sent.append(send(command(sent[-1]), sent[-1], arm))
    slow_from = len(sent) + len(to_rest(sent[-1], arm))
    for command in command_sequences.commands(after, arm):
        sent.append(send(command(sent[-1]), sent[-1], slowed))
    positions = np.array([each.position for each in sent])
    excess = CHECKERS[name].excess(positions, arm.dt_s, arm.limits)
    assert not limit_checker.broken(excess), excess
    speeds = np.abs(np.diff(positions, axis=0))[slow_from:] / arm.dt_s
    assert (speeds <= slowed.limits.velocity + 1e-6).all()
    tip_speeds = np.linalg.norm(np.diff(arm.tip(positions), axis=0), axis=1)[slow_from:] / arm.dt_s
    assert (tip_speeds <= slowed.limits.tcp_speed_m_s + 1e-6).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_checker_that_is_shown_a_broken_limit_names_it(name):
    arm, checker = ARMS[name], CHECKERS[name]
    still = np.repeat(arm.home[None], 30, axis=0)

    def found(positions, **changed):
        limits = dataclasses.replace(arm.limits, **changed)
        return limit_checker.broken(checker.excess(positions, arm.dt_s, limits))

    assert found(still) == []
    assert found(np.where(np.arange(30)[:, None] == 12, np.nan, still)) == list(limit_checker.ALLOWED)
    assert found(still, upper=arm.home - 1e-7) == ["position_rad"]
    ramp = still + np.minimum(np.arange(30), 20)[:, None] * 1e-4
    assert set(found(ramp)) == set()
    assert found(ramp, velocity=np.full(len(arm.home), 0.0099)) == ["velocity_rad_s"]
    assert found(ramp, acceleration=np.full(len(arm.home), 0.99)) == ["acceleration_rad_s2"]
    assert found(ramp, jerk=np.full(len(arm.home), 99.0)) == ["jerk_rad_s3"]
    assert found(ramp, tcp_speed_m_s=1e-5) == ["tcp_speed_m_s"]
    tip = arm.tip(arm.home[None])[0]
    assert found(still, workspace_low=tip + [0, 0, 1e-7]) == ["workspace_m"]
    rng = np.random.default_rng(0)
    poses = (arm.pose(rng.uniform(-1, 1, len(arm.home))) for _ in range(500))
    touching = next(pose for pose in poses if arm.clear(pose[None])[0] < -1e-3)
    assert "clearance_m" in found(np.repeat(touching[None], 3, axis=0))


@pytest.mark.parametrize("name", NAMES)
def test_an_arm_that_is_sent_into_itself_or_the_table_stops_short_of_it(name):
    arm, rng, reasons = ARMS[name], np.random.default_rng(4), Reason.NONE
    poses = [arm.pose(rng.uniform(-1, 1, len(arm.home))) for _ in range(300)]
    wide = dataclasses.replace(arm.limits, workspace_low=np.full(3, -1.0), workspace_high=np.full(3, 1.0))
    arm = dataclasses.replace(arm, limits=wide)
    for goal in [pose for pose in poses if arm.clear(pose[None])[0] < -0.01][:3]:
        sent = [Sent.at_rest(arm.home)]
        for _ in range(300):
            sent.append(send(approach(goal, sent[-1], arm.dt_s, arm.limits), sent[-1], arm))
            reasons |= sent[-1].reason
        excess = CHECKERS[name].excess(np.array([each.position for each in sent]), arm.dt_s, arm.limits)
        assert not limit_checker.broken(excess), excess
    assert Reason.SELF_COLLISION in reasons


@pytest.mark.parametrize("name", NAMES)
def test_an_arm_that_is_found_too_near_itself_or_out_of_its_box_only_comes_back(name):
    arm, rng = ARMS[name], np.random.default_rng(1)
    came_back = 0
    for _ in range(15):
        start = arm.pose(rng.uniform(-1, 1, len(arm.home)))
        if arm.is_free(start):
            continue
        last, before = Sent.at_rest(start), np.inf
        for tick in range(150):
            wanted = (
                approach(arm.home, last, arm.dt_s, arm.limits)
                if tick % 50
                else arm.pose(rng.uniform(-1, 1, len(arm.home)))
            )
            last = send(wanted, last, arm)
            tip = arm.tip(last.position[None])[0]
            outside = np.maximum(arm.limits.workspace_low - tip, tip - arm.limits.workspace_high)
            beyond = np.maximum(np.append(outside, -arm.clear(last.position[None])[0]), 0.0)
            assert (beyond <= before + 1e-8).all()
            before = beyond
        came_back += not beyond.any()
    assert came_back > 0


@pytest.mark.parametrize("name", NAMES)
def test_every_arm_gets_home_and_to_rest_from_anywhere_it_can_be(name):
    arm, rng = ARMS[name], np.random.default_rng(2)
    for _ in range(6):
        last = Sent.at_rest(arm.start(rng.uniform(-1, 1, len(arm.home))))
        for _ in range(12):  # and on the move
            last = send(last.position + 0.01 * rng.uniform(-1, 1, len(arm.home)), last, arm)
        for _ in range(1500):  # 15 s: what the control loop waits
            last = send(approach(arm.home, last, arm.dt_s, arm.limits), last, arm)
        assert np.abs(last.position - arm.home).max() < 1e-9
        assert not last.velocity.any()


@pytest.mark.parametrize("name", NAMES)
def test_a_motion_within_all_limits_passes_as_it_is(name):
    arm = ARMS[name]
    last, ticks = Sent.at_rest(arm.home), np.arange(400)
    rate = np.linspace(2.0, 5.0, len(arm.home))  # rad/s
    swing = 0.03 * np.sin(rate * ticks[:, None] * arm.dt_s) * np.minimum(1.0, ticks / 200.0)[:, None] ** 3
    inward = np.sign(0.5 * (arm.limits.lower + arm.limits.upper) - arm.home)
    for offset in swing:
        command = arm.home + inward * np.abs(inward) * offset + inward * 0.03 * np.abs(offset)
        command = np.where(arm.home - 0.05 < arm.limits.lower, arm.home, command)
        last = send(command, last, arm)
        assert last.reason is Reason.NONE
        assert np.allclose(last.position, command, atol=1e-12)
