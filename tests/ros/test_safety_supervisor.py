"""The safety supervisor through its topics and services: robot_interface and twin as processes, the test as policy."""

import os
import signal

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("mbrl_msgs", reason="mbrl_msgs is not built")
pytest.importorskip("mujoco", reason="mujoco is not installed")

from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402
from fakes.policy_puppet import Puppet, wait_for  # noqa: E402

from mbrl_core.arm import load_profile  # noqa: E402
from mbrl_ros.graph import TWIN_BUS_ERRORS, Graph, NodeSpec  # noqa: E402
from mbrl_ros.running_graph import GraphError, RunningGraph  # noqa: E402
from mbrl_ros.stop_request import StopRequest  # noqa: E402
from mbrl_sim import ASSETS  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.realtime]
REST = {"shoulder_lift": -1.5, "elbow_flex": 1.3, "shoulder_pan": 0.3}


@pytest.fixture(autouse=True)
def private_domain(unique_domain, monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", unique_domain)
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")


def profile_with(folder, name, change):
    """An SO-101 whose profile was changed."""
    text = yaml.safe_load((ASSETS / "so101.yaml").read_text())
    change(text)
    (folder / name).write_text(yaml.safe_dump(text))
    (folder / "so101.xml").write_text((ASSETS / "so101.xml").read_text())
    return str(folder / name)


def rests(text):
    for joint in text["joints"]:
        if joint["name"] in REST:
            joint["park_rad"] = REST[joint["name"]]


class Arm:
    """Twin, robot_interface, which may be told of another arm, and lifecycle_manager; the console's verbs."""

    def __init__(self, folder, *, told=rests, **settings):
        self.folder = folder
        arm, seen, port = (
            profile_with(folder, "arm.yaml", rests),
            profile_with(folder, "told.yaml", told),
            f"{folder}/port",
        )
        self.profile = load_profile(seen)
        watched = {"max_bus_errors": TWIN_BUS_ERRORS, "command_timeout_s": 1.0, **settings}
        nodes = (
            NodeSpec(name="twin", parameters={"profile": arm, "port": port, "clock_hz": 1.0}, settles=True),
            NodeSpec(
                name="robot_interface",
                parameters={"profile": seen, "port": port, **watched},
                lifecycle=True,
                settles=True,
                stop_s=20.0,
            ),
            NodeSpec(name="lifecycle_manager", parameters={"nodes": ["robot_interface"], "wait_for": ["twin"]}),
        )
        self._graph = Graph(kind="test", nodes=nodes, on_twin=True)
        self._stop = StopRequest()

    def __enter__(self):
        self._stop.__enter__()
        self._running = RunningGraph(self._graph, self.folder, self._stop)
        self._running.__enter__()
        self.call = self._running.console.call
        return self

    def __exit__(self, *_):
        self._running.__exit__(None, None, None)
        self._stop.__exit__(None, None, None)

    @property
    def state(self):
        return self._running.console.safety.state if self._running.console.safety else "none"

    @property
    def reason(self):
        return self._running.console.safety.reason

    @property
    def steps(self):
        return self._running.console.safety.real_steps

    def wait_for(self, state, reason="", limit_s=60):
        def there():
            self._running.next_episode()  # raises when a node died
            return self.state == state and reason in self.reason

        wait_for(there, f"{state} {reason}", limit_s)

    def moves(self):
        self.wait_for("holding")
        granted, answer = self.call("start")
        assert granted, answer
        self.wait_for_steps()

    def wait_for_steps(self):
        before = self.steps
        wait_for(lambda: self.steps > before + 3, "steps")

    def signal(self, number):
        os.kill(self._running.supervisor.pid("robot_interface"), number)

    def assert_ends(self, reason):
        with pytest.raises(GraphError, match=r"^robot_interface died \(exit code 0\)"):
            self.wait_for("never")
        wait_for(lambda: (self.state, self.reason) == ("inactive", reason), f"its last word, {reason}", 5.0)

    def assert_refused(self, verb, *words):
        granted, answer = self.call(verb)
        assert not granted
        assert all(word in answer for word in words), answer


def test_a_button_that_must_be_heard_stops_the_arm_by_silence_and_by_a_press(tmp_path):
    """Fault 59."""
    with Puppet() as puppet, Arm(tmp_path, estop_timeout_s=0.5) as arm:
        puppet.pressed = False
        arm.moves()
        puppet.pressed = None
        arm.wait_for("latched", "emergency stop: expected word of its button every 0.5 s, got silence")
        arm.assert_refused("rearm", "a released emergency stop", "got silence")
        puppet.pressed = False
        wait_for(lambda: arm.call("rearm")[0], "a re-armed arm")
        arm.moves()
        puppet.pressed = True
        arm.wait_for("latched", "emergency stop: pressed")
        arm.assert_refused("rearm", "emergency stop: pressed")


def test_an_arm_whose_button_is_not_there_is_not_activated(tmp_path):
    with Arm(tmp_path, estop_timeout_s=0.5) as arm, pytest.raises(GraphError, match="^lifecycle_manager died") as end:
        arm.wait_for("holding")
    assert any("activate: expected a released emergency stop" in line for line in end.value.details)


def test_the_operator_presses_and_releases_the_stop_and_nothing_moves_before_rearm_and_start(tmp_path):
    with Puppet() as puppet, Arm(tmp_path) as arm:
        arm.moves()
        assert arm.call("estop") == (True, "emergency stop pressed")
        arm.wait_for("latched", "emergency stop: pressed")
        puppet.diagnostics = None
        wait_for(lambda: puppet.diagnostics, "diagnostics")
        assert puppet.diagnostics["/robot_interface"].level == DiagnosticStatus.ERROR
        arm.assert_refused("rearm", "emergency stop: pressed")
        assert arm.call("release")[0]
        arm.assert_refused("start", "a holding arm")
        wait_for(lambda: arm.call("rearm")[0], "a re-armed arm")
        arm.moves()


def test_a_second_policy_latches_the_arm_and_start_is_refused_while_it_is_there(tmp_path):
    """Fault 12."""
    with Puppet() as policy, Arm(tmp_path) as arm:
        arm.moves()
        with Puppet("intruder") as intruder:
            intruder.answers = False
            wait_for(lambda: intruder.last, "an observation")
            wait_for(lambda: intruder.intrude() or arm.state == "latched", "the latch")  # best effort: one may get lost
            arm.wait_for("latched", "actions: expected one publisher, /policy, got a second one, /intruder")
            assert arm.call("rearm")[0]
            arm.assert_refused("start", "publishers of /action: expected one, got ['/intruder', '/policy']")
        wait_for(lambda: arm.call("start")[0], "one publisher")
        arm.wait_for_steps()
        policy.diagnostics = None
        wait_for(lambda: policy.diagnostics, "diagnostics")
        values = {entry.key: entry.value for entry in policy.diagnostics["/robot_interface"].values}
        assert int(values["actions refused: second publisher"]) >= 1


@pytest.mark.parametrize(("offset_s", "why"), [(-3600.0, "stale stamp"), (3600.0, "future stamp")])
def test_answers_with_stamps_of_another_time_are_refused_and_counted(tmp_path, offset_s, why):
    """Faults 10 and 11: nothing moves by them, and the watchdog stops the arm."""
    with Puppet() as policy, Arm(tmp_path) as arm:
        arm.moves()
        policy.offset_s = offset_s
        arm.wait_for("latched", "watchdog: no fresh action")
        policy.diagnostics = None
        wait_for(lambda: policy.diagnostics, "diagnostics")
        values = {entry.key: entry.value for entry in policy.diagnostics["/robot_interface"].values}
        assert int(values[f"actions refused: {why}"]) >= 1


def test_stamps_are_not_looked_at_where_clocks_differ(tmp_path):
    with Puppet() as policy, Arm(tmp_path, check_stamps=False) as arm:
        policy.offset_s = -3600.0
        arm.moves()


def test_park_goes_to_rest_and_every_joint_is_told_of(tmp_path):
    with Puppet() as policy, Arm(tmp_path) as arm:
        arm.moves()
        assert arm.call("park") == (True, "park")
        arm.wait_for("holding", "parked")
        policy.joints.clear()
        wait_for(lambda: policy.joints, "joint states")
        np.testing.assert_allclose(policy.joints[-1], arm.profile.park_rad, atol=0.1)
        policy.diagnostics = None
        wait_for(lambda: policy.diagnostics, "diagnostics")
        joints = [f"/robot_interface: {joint.name}" for joint in arm.profile.joints]
        assert list(policy.diagnostics) == ["/robot_interface", *joints]
        assert {status.level for status in policy.diagnostics.values()} == {DiagnosticStatus.OK}
        elbow = {entry.key: entry.value for entry in policy.diagnostics["/robot_interface: elbow_flex"].values}
        assert 10.0 < float(elbow["temperature [degC]"]) < 60.0
        assert 9.5 < float(elbow["voltage [V]"]) < 13.5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_parks_the_arm_lets_go_and_ends_the_node(tmp_path, number):
    """Fault 55."""
    with Puppet() as policy, Arm(tmp_path, on_shutdown="limp") as arm:
        arm.moves()
        arm.signal(number)
        arm.assert_ends("parked, torque is off")
        np.testing.assert_allclose(policy.joints[-1], arm.profile.park_rad, atol=0.1)


def test_a_second_signal_cuts_parking_short_and_the_arm_holds(tmp_path):
    with Puppet() as policy, Arm(tmp_path, on_shutdown="limp") as arm:
        arm.moves()
        arm.signal(signal.SIGINT)
        arm.wait_for("moving", "deactivating")
        arm.signal(signal.SIGINT)
        arm.assert_ends("deactivated")
        assert np.abs(np.array(policy.joints[-1]) - arm.profile.park_rad).max() > 0.2


def test_the_emergency_stop_is_heard_while_the_arm_parks_for_its_end(tmp_path):
    with Puppet() as policy, Arm(tmp_path, on_shutdown="limp") as arm:
        arm.moves()
        arm.signal(signal.SIGINT)
        arm.wait_for("moving", "deactivating")
        policy.pressed = True
        arm.assert_ends("deactivated")
        assert np.abs(np.array(policy.joints[-1]) - arm.profile.park_rad).max() > 0.2


def test_a_profile_that_contradicts_its_model_is_refused_at_configure(tmp_path):
    def elsewhere(text):
        text["workspace_high_m"] = [0.5, 0.45, 0.1]  # below the tip at home

    with Arm(tmp_path, told=elsewhere) as arm, pytest.raises(GraphError, match="^lifecycle_manager died") as end:
        arm.wait_for("holding")
    assert any("tip at home: expected inside the workspace" in line for line in end.value.details)
