"""The whole graph, real nodes in processes of their own, on the twin faster than real time."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("mbrl_msgs", reason="mbrl_msgs is not built")
pytest.importorskip("mujoco", reason="mujoco is not installed")

from fakes.adapting_bundle import adapting_bundle  # noqa: E402
from fakes.spun_node import own_context, spun  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402

from mbrl_core.arm import load_profile  # noqa: E402
from mbrl_core.replay import Replay  # noqa: E402
from mbrl_core.tasks.reach import ReachTask  # noqa: E402
from mbrl_ros.delivery import NEWEST  # noqa: E402
from mbrl_ros.graph import DeployGraph, SimGraph, build_graph  # noqa: E402
from mbrl_ros.operator_loop import OperatorLoop  # noqa: E402
from mbrl_ros.running_graph import GraphError, RunningGraph  # noqa: E402
from mbrl_ros.stop_request import StopRequest  # noqa: E402
from mbrl_sim import ASSETS, profile_path  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.realtime]
SPEED = 3.0
# a policy soon matters here, a good one does not: short fits and rounds, and every policy is accepted
QUICK = """model_learning:
  min_steps: 100
  me_ppo.iterations: 2
  me_ppo.ensemble.max_steps: 200
  me_ppo.validation.ratio: 0.0
"""
FEW_EPISODES = """policy:
  adaptation.evaluate_episodes: 2
  adaptation.explore_episodes: 2
  adaptation.route: real
  adaptation.inner_steps: 1
"""
WATCHDOG_S, POLICY_HZ = 0.15, 20
STILL_RAD = 0.02  # two counts of each servo and its noise


@pytest.fixture(autouse=True)
def private_domain(unique_domain, monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", unique_domain)
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")


@pytest.fixture
def joints(private_domain):
    """Positions of all joints as they come: a list that grows."""
    heard = []
    with own_context(os.environ["ROS_DOMAIN_ID"]) as context, spun("joint_listener", context) as node:
        node.create_subscription(JointState, "joint_states", lambda message: heard.append(message.position), NEWEST)
        yield heard


def wait_for(condition, what, limit_s):
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"waited {limit_s} s for {what}"
        time.sleep(0.02)


def processes_of(folder):
    """Process ids by node name of what runs with this run folder."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
        except OSError:
            continue
        for word in words:
            path = Path(os.fsdecode(word))
            if path.parent == folder / "params":
                found[path.stem] = int(entry.name)
    return found


def quick_parameters(folder):
    path = folder / "quick.yaml"
    path.write_text(QUICK)
    return str(path)


def test_a_policy_arrives_is_used_and_when_its_node_is_killed_the_arm_holds(tmp_path, joints):
    config = SimGraph(speed=SPEED, run_dir=str(tmp_path / "run"), params=quick_parameters(tmp_path))
    with StopRequest() as stop, RunningGraph(build_graph(config), tmp_path / "run", stop) as running:
        loop, episodes, end = OperatorLoop(running), [], time.monotonic() + 150
        while not any(episode.policy_versions.any() for episode in episodes):
            assert time.monotonic() < end, f"no policy acted in {len(episodes)} episodes"
            episode = loop.next_episode()
            episodes += [episode] if episode else []
        assert (tmp_path / "run/policy.mbrl").is_file()

        trips = running.console.safety.watchdog_trips
        os.kill(running.supervisor.pid("policy"), signal.SIGKILL)
        # nothing of the supervisor's is called here: the robot interface is on its own
        wait_for(lambda: running.console.safety.latched, "the latch", 30)
        assert running.console.safety.watchdog_trips == trips + 1
        assert running.console.safety.reason == "watchdog: no fresh action for 0.15 s"
        steps = running.console.safety.real_steps
        time.sleep(0.5)
        joints.clear()
        wait_for(lambda: len(joints) > 50, "joint states of a holding arm", 30)
        assert np.ptp(np.array(joints), axis=0).max() < STILL_RAD
        assert running.console.safety.real_steps == steps

        with pytest.raises(GraphError, match=r"^policy died \(signal 9\) at real step \d+$"):
            running.next_episode()
        cut = running.remaining_episodes()[-1]
        assert cut.end_reason == "watchdog: no fresh action for 0.15 s"
        answered = np.flatnonzero(cut.actions_asked.any(axis=1))
        unanswered = cut.steps - (answered[-1] + 1 if len(answered) else 0)
        assert unanswered <= WATCHDOG_S * SPEED * POLICY_HZ + 2, "steps that went on without an action"
        assert np.abs(cut.actions_sent[-1]).max() < 0.05, "the target stands still at the end"
    assert not processes_of(tmp_path / "run")


def play_until(loop, condition, what, limit_s=120):
    """Episodes until something is so."""
    episodes, end = [], time.monotonic() + limit_s
    while not condition(episodes):
        assert time.monotonic() < end, f"waited {limit_s} s for {what}, {len(episodes)} episodes"
        episode = loop.next_episode()
        episodes += [episode] if episode else []
    return episodes


def deploy_graph(folder):
    adapting_bundle(ReachTask(load_profile(profile_path("so101")))).save(folder / "policy.mbrl")
    (folder / "few.yaml").write_text(FEW_EPISODES)
    paths = {"bundle": "policy.mbrl", "run_dir": "run", "params": "few.yaml"}
    return DeployGraph(speed=SPEED, **{name: str(folder / path) for name, path in paths.items()})


def test_a_deployed_policy_explores_adapts_outlives_kill_9_and_rolls_back(tmp_path):
    config, run_dir = deploy_graph(tmp_path), tmp_path / "run"
    with StopRequest() as stop, RunningGraph(build_graph(config), run_dir, stop) as running:
        loop, console = OperatorLoop(running), running.console
        before = play_until(loop, lambda episodes: episodes, "a first episode")
        granted, answer = console.call("adapt")
        assert granted, answer
        assert answer.startswith("begun: 1 inner step after ")
        played = before + play_until(loop, lambda _: console.adaptation.phase == "adapted", "the inner step")
        status = console.adaptation
        assert (status.inner_steps, status.episodes_used, status.accepted) == (1, 2, True)
        assert status.reason == "accepted: 1 inner step on 2 episodes"
        used = [episode for episode in played if episode.exploring]
        assert len(used) >= 2
        assert all(episode.inner_steps == 0 for episode in played)
        assert not np.array_equal(used[0].actions_asked[0], used[1].actions_asked[0])
        play_until(loop, lambda episodes: any(episode.inner_steps == 1 for episode in episodes), "an adapted episode")
        os.kill(running.supervisor.pid("policy"), signal.SIGKILL)
        with pytest.raises(GraphError, match=r"^policy died \(signal 9\)"):
            play_until(loop, lambda _: False, "the end of the graph")
    with StopRequest() as stop, RunningGraph(build_graph(config), run_dir, stop) as running:
        loop, console = OperatorLoop(running), running.console
        first = play_until(loop, lambda episodes: episodes, "an episode after the restart")[0]
        assert (first.inner_steps, first.exploring) == (1, False)
        assert console.adaptation.return_before == pytest.approx(status.return_before)
        granted, answer = console.call("rollback")
        assert (granted, answer) == (True, "rolled back from inner step 1 to the meta-policy")
        play_until(loop, lambda episodes: any(episode.inner_steps == 0 for episode in episodes), "the meta-policy")
        assert not (run_dir / "policy.adapted.safetensors").exists()
    assert not processes_of(run_dir)


def start_job(folder, *arguments):
    command = [sys.executable, "-m", "mbrl_ros.cli", "sim", "--run-dir", str(folder), "--speed", str(SPEED)]
    return subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for_episodes(job, count):
    """Wait for so many lines of episodes; the real steps that the last one tells."""
    seen = 0
    for line in job.stdout:
        seen += line.startswith("episode")
        if seen == count:
            return int(re.search(r"steps +(\d+)", line)[1])
    pytest.fail(f"the job ended after {seen} episodes")


@pytest.mark.parametrize("node", ["model_learning", "policy"])
def test_kill_9_of_a_node_ends_the_job_and_the_summary_says_so(tmp_path, node):
    folder = tmp_path / "run"
    job = start_job(folder)
    steps = wait_for_episodes(job, 2)
    os.kill(processes_of(folder)[node], signal.SIGKILL)
    output, _ = job.communicate(timeout=60)
    assert job.returncode == 1, output
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["ended"].startswith(f"{node} died (signal 9) at real step ")
    assert summary["ended"].endswith("; earlier episodes are in episodes/")
    # not a round number: a busy machine may have cut one of the two short
    assert summary["real_steps"] >= steps
    assert Replay(folder / "episodes").episodes, "the first at least is on disk"
    assert not processes_of(folder)


def test_ctrl_c_stops_everything_and_leaves_a_summary(tmp_path):
    folder = tmp_path / "run"
    job = start_job(folder)
    wait_for_episodes(job, 1)
    job.send_signal(signal.SIGINT)
    output, _ = job.communicate(timeout=60)
    assert job.returncode == 130, output
    assert json.loads((folder / "summary.json").read_text())["ended"].startswith("stopped by SIGINT")
    assert not processes_of(folder)


def test_kill_9_of_the_job_leaves_no_process(tmp_path):
    folder = tmp_path / "run"
    job = start_job(folder)
    wait_for_episodes(job, 1)
    assert len(processes_of(folder)) == 5
    job.kill()
    job.communicate()
    wait_for(lambda: not processes_of(folder), "the end of all nodes", 30)


def test_a_small_job_completes_with_every_file(tmp_path):
    folder = tmp_path / "run"
    few = ("--steps", "300", "--finish-s", "20", "--eval-episodes", "2", "--params", quick_parameters(tmp_path))
    job = start_job(folder, *few)
    output, _ = job.communicate(timeout=240)
    assert job.returncode == 0, output
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["ended"], summary["real_steps"], summary["evaluation_episodes"]) == ("completed", 300, 2)
    assert summary["policies_published"] >= 1
    figures = ("success_rate", "final_distance_m_median", "robot_time_s", "wall_s", "zero_success_rate")
    assert all(isinstance(summary[name], float) for name in (*figures, "random_success_rate", "collection_ratio"))
    files = ("progress.csv", "policy.mbrl", "report.png", "log/twin.log", "params/policy.yaml")
    evaluated = tuple(f"evaluation/{actor}.csv" for actor in ("learned", "zero", "random"))
    assert all((folder / name).stat().st_size for name in (*files, *evaluated))
    assert Replay(folder / "episodes").real_steps == 300
    assert "learned" in output
    assert "95 %" in output


def bad_profile(folder):
    text = (ASSETS / "so101.yaml").read_text().replace("name: elbow_flex", "name: elbow_flexx")
    (folder / "arm.yaml").write_text(text)
    (folder / "so101.xml").write_text((ASSETS / "so101.xml").read_text())
    return ("sim", "--profile", str(folder / "arm.yaml"))


def damaged_bundle(folder):
    (folder / "cut.mbrl").write_bytes(b"PK\x03\x04 and no more")
    return ("deploy", "--bundle", str(folder / "cut.mbrl"))


def unknown_parameter(folder):
    (folder / "mine.yaml").write_text("robot_interface: {comand_timeout_s: 0.3}\n")
    return ("sim", "--params", str(folder / "mine.yaml"))


def wrong_port(folder):
    return ("real", "--port", str(folder / "ttyUSB7"), "--start")


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (unknown_parameter, "refused: robot_interface.comand_timeout_s: expected one of ["),
        (wrong_port, "refused: port: expected a serial device"),
        (bad_profile, "got 'elbow_flexx'"),
        (damaged_bundle, "refused: bundle: expected an undamaged .mbrl file"),
    ],
)
def test_bad_input_is_refused_with_field_expected_and_got_and_nothing_moves(tmp_path, make, complaint):
    command = [sys.executable, "-m", "mbrl_ros.cli", "up", *make(tmp_path), "--run-dir", str(tmp_path / "run")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert ended.returncode == 1, ended.stdout
    assert complaint in ended.stdout
    assert "got" in ended.stdout
    assert "arm: moving" not in ended.stdout
    assert not processes_of(tmp_path / "run")
