"""The lifecycle manager, in its own process, over two real lifecycle nodes in another."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

TESTS = Path(__file__).parents[1]
UP = ["policy configure", "robot_interface configure", "policy activate", "robot_interface activate"]


@pytest.fixture
def graph(tmp_path, unique_domain):
    """Starts nodes and manager; returns the file of transitions and the manager's process."""
    environment = {
        **os.environ,
        "ROS_DOMAIN_ID": unique_domain,
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]),
    }
    processes = []

    def start(*parameters, fails="", nodes=True):
        events = tmp_path / "events"
        events.touch()
        if nodes:
            command = [sys.executable, "-m", "fakes.lifecycle_pair", str(events), fails]
            processes.append(subprocess.Popen(command, env=environment))
        arguments = [part for parameter in parameters for part in ("-p", parameter)]
        command = [sys.executable, "-m", "mbrl_ros.lifecycle_manager", "--ros-args", *arguments]
        manager = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        processes.append(manager)
        return events, manager

    yield start
    for process in processes:
        process.kill()
        process.wait()
        if process.stderr:
            process.stderr.close()


def wait_for_lines(path, count, limit_s=60.0):
    end = time.monotonic() + limit_s
    while len(path.read_text().splitlines()) < count:
        assert time.monotonic() < end, f"only {path.read_text()!r} after {limit_s} s"
        time.sleep(0.05)
    return path.read_text().splitlines()


def test_both_are_configured_before_one_is_activated_and_the_arm_last(graph):
    events, manager = graph()
    assert wait_for_lines(events, 4) == UP
    assert manager.poll() is None, "it stays"


def test_a_lost_answer_is_asked_for_again_and_no_transition_is_made_twice(graph):  # rmw_fastrtps issue 842
    events, manager = graph(fails="first answers")
    assert wait_for_lines(events, 4) == UP
    time.sleep(1.0)
    assert manager.poll() is None, "it goes on"
    assert events.read_text().splitlines() == UP


def test_a_service_that_is_out_of_sight_for_a_moment_is_asked_again(graph):
    events, manager = graph(fails="comes back")
    assert wait_for_lines(events, 5) == ["policy configure", *UP]
    assert manager.poll() is None, "it goes on"


def test_a_node_that_ended_is_named(graph):
    events, manager = graph(fails="goes")
    wait_for_lines(events, 1)
    _, errors = manager.communicate(timeout=60)
    assert manager.returncode == 1
    assert "lifecycle_manager: policy: configure: it ended before it answered" in errors


def test_it_starts_the_arm_only_when_asked(graph):
    events, _ = graph("auto_start:=true")
    assert wait_for_lines(events, 5) == [*UP, "robot_interface start"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_when_stopped_it_deactivates_in_reverse_order(graph, number):
    events, manager = graph()
    wait_for_lines(events, 4)
    manager.send_signal(number)
    assert manager.wait(30) == 0
    assert events.read_text().splitlines() == [*UP, "robot_interface deactivate", "policy deactivate"]


@pytest.mark.parametrize(
    ("fails", "complaint"),
    [
        ("robot_interface:configure", "lifecycle_manager: robot_interface: configure refused; its log says why"),
        ("policy:activate", "lifecycle_manager: policy: activate refused; its log says why"),
        ("robot_interface:start", "lifecycle_manager: robot_interface: start refused: not today"),
    ],
)
def test_a_refused_transition_ends_it_naming_node_and_transition(graph, fails, complaint):
    _, manager = graph("auto_start:=true", fails=fails)
    _, errors = manager.communicate(timeout=60)
    assert manager.returncode == 1
    assert complaint in errors


def test_a_missing_node_ends_it_in_bounded_time(graph):
    _, manager = graph("timeout_s:=0.5", nodes=False)
    _, errors = manager.communicate(timeout=60)
    assert manager.returncode == 1
    assert "policy: configure: no such service after 0.5 s" in errors


def test_nothing_is_configured_before_the_others_are_there(graph):
    events, manager = graph("timeout_s:=1.0", "wait_for:=['twin']")
    _, errors = manager.communicate(timeout=60)
    assert manager.returncode == 1
    assert "twin: answer: no such service after 1.0 s" in errors
    assert events.read_text() == ""
