"""Who comes late still hears the episodes; real nodes and middleware."""

import time

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("mbrl_msgs", reason="mbrl_msgs is not built")

from fakes.point_task import point_episode  # noqa: E402
from fakes.spun_node import own_context, spun  # noqa: E402

from mbrl_msgs.msg import Episode  # noqa: E402
from mbrl_ros.console import Console  # noqa: E402
from mbrl_ros.conversions import to_episode_msg  # noqa: E402
from mbrl_ros.delivery import WHOLE  # noqa: E402


@pytest.fixture
def arm(unique_domain, monkeypatch):
    """A node that spins in the background."""
    monkeypatch.setenv("ROS_DOMAIN_ID", unique_domain)
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    with own_context(unique_domain) as context, spun("arm", context) as node:
        yield node


def test_episodes_that_ended_before_a_console_was_there_are_heard(arm):
    publisher = arm.create_publisher(Episode, "episode", WHOLE)
    rng = np.random.default_rng(0)
    told = [point_episode(rng, index=index) for index in range(3)]
    for episode in told:
        publisher.publish(to_episode_msg(episode, ["joint"], arm.get_clock().now().to_msg()))
    console = Console()
    console.start()
    try:
        end = time.monotonic() + 20
        while console.episodes.qsize() < 3 and time.monotonic() < end:
            time.sleep(0.05)
        heard = [console.episodes.get() for _ in range(console.episodes.qsize())]
    finally:
        console.stop()
    assert [episode.episode for episode in heard] == [episode.episode for episode in told]
    assert np.array_equal(heard[2].states, told[2].states)
