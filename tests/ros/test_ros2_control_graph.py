"""The whole graph on an arm behind ros2_control: nothing but the profile differs."""

import importlib.util
import time

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("mbrl_msgs", reason="mbrl_msgs is not built")
pytest.importorskip("mujoco", reason="mujoco is not installed")

from fakes.spun_node import own_context, spun  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from std_msgs.msg import Float64MultiArray  # noqa: E402

from mbrl_core.arm import load_profile  # noqa: E402
from mbrl_core.types import StepFlag  # noqa: E402
from mbrl_ros.delivery import COMMAND, NEWEST  # noqa: E402
from mbrl_ros.graph import DeployGraph, build_graph  # noqa: E402
from mbrl_ros.running_graph import RunningGraph  # noqa: E402
from mbrl_ros.stop_request import StopRequest  # noqa: E402
from mbrl_sim import profile_path  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.realtime]
PROFILE = "so101_ros2_control"
SPEED = 2.0


@pytest.fixture
def outside(unique_domain, monkeypatch):
    """A node beside the graph, spun in the background."""
    monkeypatch.setenv("ROS_DOMAIN_ID", unique_domain)
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    with own_context(unique_domain) as context, spun("outside", context) as node:
        yield node


def wait_for(condition, what, limit_s):
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"waited {limit_s} s for {what}"
        time.sleep(0.02)


def test_episodes_run_and_when_the_controller_goes_down_the_arm_holds_latched(tmp_path, outside):  # case 57
    joints = []
    outside.create_subscription(JointState, "joint_states", joints.append, NEWEST)
    config = DeployGraph(profile=PROFILE, speed=SPEED, actor="random", run_dir=str(tmp_path / "run"))
    with StopRequest() as stop, RunningGraph(build_graph(config), tmp_path / "run", stop) as running:
        episodes, end = [], time.monotonic() + 120
        while len(episodes) < 2:
            assert time.monotonic() < end, f"{len(episodes)} episodes: {running.console.safety}"
            episode = running.next_episode()
            episodes += [episode] if episode else []
        names = [joint.name for joint in load_profile(profile_path(PROFILE)).joints]
        assert {tuple(message.name) for message in joints} == {tuple(sorted(names))}, "the twin's alone"
        moved = np.concatenate([episode.states for episode in episodes])
        assert np.ptp(moved, axis=0)[:3].min() > 0.02, "joints that moved"
        flags = np.concatenate([episode.flags for episode in episodes])
        assert (flags & StepFlag.GAP > 0).mean() < 0.3

        other = outside.create_publisher(Float64MultiArray, "forward_position_controller/commands", COMMAND)
        wait_for(other.get_subscription_count, "the controller to listen", 10)

        def interfere():
            other.publish(Float64MultiArray(data=[0.0]))  # again and again: a good command may overwrite it in time
            return running.console.safety.latched

        wait_for(interfere, "the latch", 30)
        assert running.console.safety.reason == (
            "bus: controller forward_position_controller: expected active, got inactive"
        )
        time.sleep(0.3)
        joints.clear()
        wait_for(lambda: len(joints) > 50, "joint states of a holding arm", 30)
        assert np.ptp(np.array([message.position for message in joints]), axis=0).max() < 0.02
        granted, answer = running.console.call("rearm")
        if importlib.util.find_spec("controller_manager_msgs"):
            assert granted, answer  # the controller is asked for again
        else:
            assert not granted
            assert "expected active, got inactive" in answer
