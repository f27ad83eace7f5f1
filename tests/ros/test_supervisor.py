"""Supervision with real processes: order of stopping, deaths seen at once, nothing left behind."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from mbrl_ros import supervisor as supervisor_module
from mbrl_ros.graph import Graph, NodeSpec
from mbrl_ros.supervisor import Death, Supervisor

TESTS = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
NAMES = ("twin", "robot_interface", "policy", "model_learning", "lifecycle_manager")


def dummy_command(events, behaviours):
    def command(node, parameters, namespace):
        leash = [sys.executable, "-m", "mbrl_ros.leash", str(os.getpid()), "1" if node.settles else "0"]
        return [*leash, "fakes.dummy_node", behaviours.get(node.name, "polite"), str(events), node.name]

    return command


def wait_for(condition, what, limit_s=30.0):
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"waited {limit_s} s for {what}"
        time.sleep(0.02)


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def run(tmp_path):
    """Starts a supervisor over dummies and stops it after the test."""
    started = []

    def start(behaviours=None, names=NAMES, **spec):
        events = tmp_path / "events"
        graph = Graph(kind="test", nodes=tuple(NodeSpec(name=name, parameters={}, **spec) for name in names))
        supervisor = Supervisor(graph, tmp_path, ENVIRONMENT, dummy_command(events, behaviours or {}))
        started.append(supervisor)
        supervisor.start()
        wait_for(lambda: events.exists() and events.read_text().count(" up ") == len(names), "all dummies")
        events.write_text("")
        return supervisor, events

    yield start
    for supervisor in started:
        supervisor.stop()


def test_nodes_are_stopped_in_order_whatever_order_they_were_started_in(run):
    supervisor, events = run()
    pids = [supervisor.pid(name) for name in NAMES]
    supervisor.stop()
    order = ["robot_interface", "lifecycle_manager", "policy", "model_learning", "twin"]
    assert events.read_text().split("\n")[:-1] == [f"{name} SIGINT" for name in order]
    assert list(supervisor.stop_signals.items()) == [(name, "SIGINT") for name in order]
    assert not any(is_alive(pid) for pid in pids)


def test_a_node_that_ignores_sigint_gets_sigterm_and_then_sigkill(run, monkeypatch):
    monkeypatch.setattr(supervisor_module, "TERM_S", 0.2)
    supervisor, _ = run({"policy": "stubborn", "twin": "immortal"}, stop_s=0.2)
    supervisor.stop()
    assert supervisor.stop_signals["policy"] == "SIGTERM"
    assert supervisor.stop_signals["twin"] == "SIGKILL"
    assert supervisor.stop_signals["robot_interface"] == "SIGINT"


def test_a_killed_node_is_reported_with_its_signal(run):
    supervisor, _ = run()
    os.kill(supervisor.pid("model_learning"), signal.SIGKILL)
    death = supervisor.wait(10.0)
    assert str(death) == "model_learning died (signal 9)"


def test_a_node_that_fails_is_reported_with_exit_code_and_last_words(tmp_path):
    graph = Graph(kind="test", nodes=(NodeSpec(name="policy", parameters={"seed": 3}),))
    supervisor = Supervisor(graph, tmp_path, ENVIRONMENT, dummy_command(tmp_path / "events", {"policy": "failing"}))
    supervisor.start()
    assert supervisor.wait(30.0) == Death("policy", 3, ("last words",))
    supervisor.stop()
    assert (tmp_path / "params/policy.yaml").read_text() == "/**:\n  ros__parameters:\n    seed: 3\n"


def test_stopping_reports_no_deaths(run):
    supervisor, _ = run()
    supervisor.stop()
    assert supervisor.wait(0.3) is None


def test_what_a_node_started_ends_with_it(run, tmp_path):
    events = tmp_path / "events"
    graph = Graph(kind="test", nodes=(NodeSpec(name="twin", parameters={}),))
    supervisor = Supervisor(graph, tmp_path, ENVIRONMENT, dummy_command(events, {"twin": "parent"}))
    supervisor.start()
    wait_for(lambda: events.exists() and " up " in events.read_text(), "the dummy and its child")
    child = int(events.read_text().split()[1])
    os.kill(supervisor.pid("twin"), signal.SIGKILL)
    assert supervisor.wait(10.0) is not None
    wait_for(lambda: not is_alive(child), "the end of the child")
    supervisor.stop()


@pytest.mark.parametrize("settles", [False, True])
def test_kill_9_of_the_parent_leaves_no_process(tmp_path, settles):
    events = tmp_path / "events"
    script = textwrap.dedent(f"""
        import sys, time
        sys.path.insert(0, {str(TESTS / "ros")!r})
        from pathlib import Path
        from test_supervisor import ENVIRONMENT, NAMES, dummy_command
        from mbrl_ros.graph import Graph, NodeSpec
        from mbrl_ros.supervisor import Supervisor
        nodes = tuple(NodeSpec(name=name, parameters={{}}, settles={settles}) for name in NAMES)
        behaviours = {{"policy": "immortal"}}
        command = dummy_command(Path({str(events)!r}), behaviours)
        Supervisor(Graph(kind="test", nodes=nodes), Path({str(tmp_path)!r}), ENVIRONMENT, command).start()
        time.sleep(600)
    """)
    parent = subprocess.Popen([sys.executable, "-c", script], env=ENVIRONMENT)
    wait_for(lambda: events.exists() and events.read_text().count(" up ") == len(NAMES), "all dummies")
    pids = [int(line.split()[2]) for line in events.read_text().splitlines()]
    parent.kill()
    parent.wait()
    wait_for(lambda: not any(is_alive(pid) for pid in pids), "the end of all dummies")
    told = {line for line in events.read_text().splitlines() if "SIGTERM" in line}
    assert told == ({f"{name} SIGTERM" for name in NAMES if name != "policy"} if settles else set())
