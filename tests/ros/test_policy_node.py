"""The policy node survives what it is sent: a malformed observation, a bad policy, a policy before it is configured."""

import time

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="rclpy is not installed")
from builtin_interfaces.msg import Time  # noqa: E402
from lifecycle_msgs.msg import State  # noqa: E402

from mbrl_core.actor import ZeroActor  # noqa: E402
from mbrl_core.adaptation_config import Turn  # noqa: E402
from mbrl_core.types import Observation  # noqa: E402
from mbrl_msgs import msg  # noqa: E402
from mbrl_ros import conversions  # noqa: E402
from mbrl_ros.delivery import LATCHED, NEWEST  # noqa: E402
from mbrl_ros.policy import PolicyNode  # noqa: E402


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


class Bold:
    """Draws more than there is."""

    version = 4

    def draw(self, obs, rng=None):
        return np.full(5, 3.0 if rng is None else -3.0)


@pytest.mark.parametrize(("exploring", "values"), [(False, 3.0), (True, -3.0)])
def test_an_action_is_published_as_drawn_and_says_who_acted_and_how(rig, monkeypatch, exploring, values):
    node, _, _ = rig
    published = []
    assert node.trigger_configure()
    assert node.trigger_activate()
    monkeypatch.setattr(node._actions, "publish", published.append)
    node._actor, node._turn = Bold(), Turn(bundle=None, inner_steps=2, exploring=exploring)
    node._answer(observation())
    node._actor, node._turn = ZeroActor(5), None
    node._answer(observation())
    assert list(published[0].action) == [values] * 5
    assert published[0].policy_version == 4
    assert [message.exploring for message in published] == [exploring, False]
    assert [message.inner_steps for message in published] == [2, 0]


def test_a_damaged_policy_that_came_before_configure_changes_nothing(rig):
    node, peer, executor = rig
    publisher = peer.create_publisher(msg.PolicyUpdate, "policy_update", LATCHED)
    publisher.publish(conversions.to_policy_update_msg(b"no bundle", 1, Time()))
    assert spin_until(executor, lambda: node._checked is not None)
    assert node.trigger_configure()
    assert node.trigger_activate()
    node._answer(observation())
    assert node._state_machine.current_state[0] == State.PRIMARY_STATE_ACTIVE
    assert node._actor.version == 0
