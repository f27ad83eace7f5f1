"""Records survive the round trip through messages and their serialised bytes."""

import dataclasses

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="rclpy is not installed")
from builtin_interfaces.msg import Time  # noqa: E402
from rclpy.serialization import deserialize_message, serialize_message  # noqa: E402

from mbrl_core.adaptation_config import Outcome  # noqa: E402
from mbrl_core.control_config import Counters  # noqa: E402
from mbrl_core.types import Action, Episode, Observation  # noqa: E402
from mbrl_ros import conversions  # noqa: E402

STAMP = Time(sec=3, nanosec=4)


def over_the_wire(message):
    return deserialize_message(serialize_message(message), type(message))


def same(left, right):
    for field in dataclasses.fields(left):
        ours, theirs = getattr(left, field.name), getattr(right, field.name)
        np.testing.assert_array_equal(ours, theirs, err_msg=field.name)
        assert np.asarray(ours).dtype == np.asarray(theirs).dtype, field.name


def episode(steps=3):
    rng = np.random.default_rng(0)
    return Episode(
        states=rng.normal(size=(steps + 1, 15)),
        goal=rng.normal(size=3),
        actions_asked=rng.normal(size=(steps, 5)),
        actions_sent=rng.normal(size=(steps, 5)),
        rewards=rng.normal(size=steps),
        stamps_s=np.arange(steps + 1) * 0.05,
        flags=np.array([0, 1, 14], dtype=np.uint8),
        policy_versions=np.array([0, 7, 4_000_000_000], dtype=np.uint32),
        episode=9,
        arm="so101",
        task="reach",
        terminated=False,
        truncated=True,
        end_reason="time limit",
        success=True,
        final_distance_m=0.0125,
        reset_s=1.5,
        member=2,
        inner_steps=1,
        exploring=True,
    )


def test_episode():
    sent = episode()
    message = over_the_wire(conversions.to_episode_msg(sent, ["a", "b"], STAMP))
    same(sent, conversions.from_episode_msg(message))
    assert message.header.stamp == STAMP
    assert message.joint_names == ["a", "b"]


def test_observation():
    sent = Observation(seq=5, episode=1, state=np.arange(15.0), goal=np.ones(3), first=True)
    same(sent, conversions.from_observation_msg(over_the_wire(conversions.to_observation_msg(sent, STAMP))))


def test_action():
    sent = Action(
        seq=5,
        episode=1,
        action=np.array([2.5, -0.25]),
        policy_version=3,
        member=-1,
        inner_steps=2,
        exploring=True,
        disagreement=0.3,
        slow_above=0.2,
        hold_above=0.4,
    )
    same(sent, conversions.from_action_msg(over_the_wire(conversions.to_action_msg(sent, STAMP))))


def test_policy_update_is_checked_by_its_hash():
    message = over_the_wire(conversions.to_policy_update_msg(b"bundle", 2, STAMP))
    assert conversions.from_policy_update_msg(message) == b"bundle"
    message.bundle[0] ^= 1
    with pytest.raises(ValueError, match=r"policy_update 2.sha256: expected [0-9a-f]{64}, got '[0-9a-f]{64}'"):
        conversions.from_policy_update_msg(message)


def test_an_episode_whose_lengths_contradict_each_other_is_refused():
    message = conversions.to_episode_msg(episode(), ["a"], STAMP)
    message.states = message.states[:-1]
    with pytest.raises(ValueError, match=r"episode.states: expected a multiple of 4 numbers, got 59"):
        conversions.from_episode_msg(message)


def test_safety_status_tells_a_reset_as_moving():
    status = conversions.to_safety_status_msg("resetting", "", Counters(real_steps=7, slowed=5, held=2), STAMP)
    assert (status.state, status.latched, status.real_steps) == ("moving", False, 7)
    assert (status.slowed, status.held) == (5, 2)
    assert conversions.to_safety_status_msg("latched", "watchdog", Counters(), STAMP).latched


def test_adaptation_status_holds_all_that_there_is_to_tell():
    outcome = Outcome(
        phase="adapted",
        policy_version=3,
        inner_steps=2,
        exploration_episodes=5,
        evaluation_episodes=7,
        episodes_used=4,
        kl=0.01,
        surrogate=0.2,
        gradient_norm=1.5,
        return_before=-3.0,
        return_after=4.0,
        accepted=True,
        reason="accepted: 2 inner steps on 4 episodes",
    )
    message = over_the_wire(conversions.to_adaptation_status_msg(outcome, STAMP))
    told = {name: getattr(message, name) for name in message.get_fields_and_field_types() if name != "stamp"}
    assert told == {name: value for name, value in dataclasses.asdict(outcome).items() if name != "granted"}
