"""The policy node survives what it is sent: a malformed observation, a bad policy, a policy before it is configured."""

import dataclasses
import time

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="rclpy is not installed")
from builtin_interfaces.msg import Time  # noqa: E402
from fakes.adapting_bundle import adapting_bundle  # noqa: E402
from lifecycle_msgs.msg import State  # noqa: E402

from mbrl_core.actor import ZeroActor  # noqa: E402
from mbrl_core.adaptation_config import AdaptationConfig  # noqa: E402
from mbrl_core.arm import load_profile  # noqa: E402
from mbrl_core.learned_policy import LearnedPolicy, UnlearnedPolicy  # noqa: E402
from mbrl_core.tasks.reach import ReachTask  # noqa: E402
from mbrl_core.types import Observation  # noqa: E402
from mbrl_msgs import msg  # noqa: E402
from mbrl_ros import conversions  # noqa: E402
from mbrl_ros.delivery import LATCHED, NEWEST  # noqa: E402
from mbrl_ros.policy import PolicyNode  # noqa: E402
from mbrl_sim import profile_path  # noqa: E402

TASK = ReachTask(load_profile(profile_path("so101")))


@pytest.fixture
def rig(unique_domain):
    rclpy.init(args=["--ros-args", "-p", "actor:=learned"], domain_id=int(unique_domain))
    node, peer = PolicyNode(), rclpy.create_node("peer")
    executor = rclpy.executors.SingleThreadedExecutor()
    executor.add_node(node)
    executor.add_node(peer)
    yield node, peer, executor
    node.shut_down()
    executor.shutdown()
    rclpy.shutdown()


def observation(width=15, goal=(0.2, 0.0, 0.1), seq=1):
    core = Observation(seq=seq, episode=0, state=np.zeros(width), goal=np.array(goal), first=True)
    return conversions.to_observation_msg(core, Time())


def spin_until(executor, condition, timeout_s=10.0):
    end = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < end:
        executor.spin_once(timeout_sec=0.02)
    return condition()


def test_a_bad_observation_is_not_answered_and_the_next_one_is(rig):
    node, peer, executor = rig
    actions = []
    peer.create_subscription(msg.Action, "action", actions.append, NEWEST)
    publisher = peer.create_publisher(msg.Observation, "observation", NEWEST)
    assert node.trigger_configure()
    assert node.trigger_activate()
    assert spin_until(executor, lambda: publisher.get_subscription_count() and node.count_subscribers("action"))
    for bad in (observation(width=14), observation(goal=(0.2, np.nan, 0.1)), observation(goal=(0.2,))):
        publisher.publish(bad)
        executor.spin_once(timeout_sec=0.2)
    assert not actions

    def answered():
        publisher.publish(observation(seq=7))
        return bool(actions)

    assert spin_until(executor, answered)
    assert actions[0].seq == 7
    assert np.abs(np.array(actions[0].action)).max() <= 1.0


@pytest.fixture(scope="module")
def bold():
    """A bundle whose policy asks for 3 of every joint."""
    bundle = adapting_bundle(TASK, version=4)
    theta = bundle.theta.copy()
    theta[-2 * TASK.action_dim : -TASK.action_dim] = 3.0  # the last layer's bias, before log_std
    return dataclasses.replace(bundle, theta=theta)


@pytest.mark.parametrize("deterministic", [True, False])
def test_an_action_is_published_as_drawn_and_says_who_acted_and_how(rig, bold, monkeypatch, deterministic):
    node, _, _ = rig
    published = []
    assert node.trigger_configure()
    assert node.trigger_activate()
    monkeypatch.setattr(node._actions, "publish", published.append)
    node._install(LearnedPolicy(bold, TASK, AdaptationConfig(), deterministic=deterministic))
    for _ in range(2):
        node._answer(observation())
    node._policy = UnlearnedPolicy(ZeroActor(5))
    node._answer(observation())
    first, second, zero = published
    assert np.abs(np.array(first.action) - 3.0).max() < 2.0
    assert (np.array(first.action) > 1.0).any(), "it may lie outside the limits"
    assert (first.action == second.action) == deterministic
    assert [(message.policy_version, message.exploring) for message in published] == [
        (4, not deterministic),
        (4, not deterministic),
        (0, False),
    ]
    assert list(zero.action) == [0.0] * 5


def test_a_damaged_policy_that_came_before_configure_changes_nothing(rig):
    node, peer, executor = rig
    publisher = peer.create_publisher(msg.PolicyUpdate, "policy_update", LATCHED)
    publisher.publish(conversions.to_policy_update_msg(b"no bundle", 1, Time()))
    assert spin_until(executor, lambda: node._checked is not None)
    assert node.trigger_configure()
    assert node.trigger_activate()
    node._answer(observation())
    assert node._state_machine.current_state[0] == State.PRIMARY_STATE_ACTIVE
    assert node._policy.version == 0
