"""The policy node adapts: episodes in, who acts next out; between episodes only, and held up by nothing."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("mbrl_msgs", reason="mbrl_msgs is not built")
from builtin_interfaces.msg import Time  # noqa: E402
from fakes.adapting_bundle import adapting_bundle, imagining  # noqa: E402

from mbrl_core.adaptation_rules import JUDGED_EVERY  # noqa: E402
from mbrl_core.arm import load_profile  # noqa: E402
from mbrl_core.episode_recorder import EpisodeRecorder  # noqa: E402
from mbrl_core.tasks.reach import ReachTask  # noqa: E402
from mbrl_core.types import TIME_LIMIT, Action, Observation, StepFlag  # noqa: E402
from mbrl_msgs import msg, srv  # noqa: E402
from mbrl_ros import conversions  # noqa: E402
from mbrl_ros.delivery import LATCHED, NEWEST, WHOLE  # noqa: E402
from mbrl_ros.policy import PolicyNode  # noqa: E402
from mbrl_sim import profile_path  # noqa: E402

pytestmark = pytest.mark.realtime

TASK = ReachTask(load_profile(profile_path("so101")))


@pytest.fixture(scope="module")
def bundle():
    return adapting_bundle(TASK)


def moved(rng):
    """An episode of random actions that the joints follow as joints do: late, and not quite."""
    state = TASK.state(TASK.home, np.zeros(5), TASK.home)
    recorder = EpisodeRecorder(TASK, episode=0, goal=TASK.sample_goal(rng, 1)[0], state=state, stamp_s=0.0)
    for step in range(TASK.steps):
        action = Action(seq=step, episode=0, action=rng.uniform(-1, 1, 5))
        target = TASK.increment.next_target(state[10:], action.action)
        change = 0.7 * (target - state[:5]) + 0.002 * rng.standard_normal(5)
        state = TASK.state(state[:5] + change, change / TASK.profile.step_s, target)
        recorder.add(action, StepFlag(0), state, (step + 1) * TASK.profile.step_s)
    return recorder.finish(TIME_LIMIT, reset_s=0.0)


class Rig:
    """The policy node with a peer that plays the arm, the operator and the learner; the arm's joints obey at once."""

    def __init__(self, folder, bundle, domain, *, deterministic=True, **changes):
        self.folder = folder
        bundle.save(folder / "policy.mbrl")
        parameters = {
            "bundle": folder / "policy.mbrl",
            "adapted": folder / "adapted",
            "deterministic": str(deterministic).lower(),
            "adaptation.evaluate_episodes": 2,
            "adaptation.explore_episodes": 2,
            "adaptation.route": "real",
            "adaptation.inner_steps": 1,
        } | {name.replace("__", "."): value for name, value in changes.items()}
        arguments = [part for name, value in parameters.items() for part in ("-p", f"{name}:={value}")]
        rclpy.init(args=["--ros-args", *arguments], domain_id=int(domain))
        self.node, self.peer = PolicyNode(), rclpy.create_node("peer")
        self.executor = rclpy.executors.SingleThreadedExecutor()
        self.actions, self.statuses, self.count, self.seq = [], [], 0, 0
        self.peer.create_subscription(msg.Action, "action", self.actions.append, NEWEST)
        self.peer.create_subscription(msg.AdaptationStatus, "adaptation_status", self.statuses.append, LATCHED)
        self.observations = self.peer.create_publisher(msg.Observation, "observation", NEWEST)
        self.episodes = self.peer.create_publisher(msg.Episode, "episode", WHOLE)
        self.updates = self.peer.create_publisher(msg.PolicyUpdate, "policy_update", LATCHED)
        for node in (self.node, self.peer):
            self.executor.add_node(node)
        assert self.node.trigger_configure()
        assert self.node.trigger_activate()
        counts = (self.observations.get_subscription_count, self.episodes.get_subscription_count)
        self.until(lambda: all(count() for count in counts) and self.node.count_subscribers("action"))

    def close(self):
        if not rclpy.ok():
            return
        self.node.shut_down()
        self.executor.shutdown()
        rclpy.shutdown()

    def until(self, condition, timeout_s=15.0):
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end
            self.executor.spin_once(timeout_sec=0.02)

    def answer(self, state, goal, *, first):
        """What the node answers to an observation."""
        self.seq += 1
        observation = Observation(seq=self.seq, episode=self.count, state=state, goal=goal, first=first)
        self.observations.publish(conversions.to_observation_msg(observation, Time()))
        self.until(lambda: self.actions and self.actions[-1].seq == self.seq)
        return conversions.from_action_msg(self.actions[-1])

    def play(self, halfway=lambda: None):
        """An episode, from its first observation until the node has counted it."""
        rng = np.random.default_rng(self.count)
        goal, state = TASK.sample_goal(rng, 1)[0], TASK.state(TASK.home, np.zeros(5), TASK.home)
        recorder = EpisodeRecorder(TASK, episode=self.count, goal=goal, state=state, stamp_s=0.0)
        for step in range(TASK.steps):
            action = self.answer(state, goal, first=step == 0)
            target = TASK.increment.next_target(state[10:], np.clip(action.action, -1, 1))
            state = TASK.state(target, np.zeros(5), target)
            recorder.add(action, StepFlag(0), state, (step + 1) * TASK.profile.step_s)
            if step == TASK.steps // 2:
                halfway()
        self.tell(recorder.finish(TIME_LIMIT, reset_s=0.0))
        return self.statuses[-1]

    def tell(self, episode):
        told = len(self.statuses)
        self.episodes.publish(conversions.to_episode_msg(episode, [], Time()))
        self.until(lambda: len(self.statuses) > told)
        self.count += 1

    def call(self, kind, name, request=None):
        client = self.peer.create_client(kind, name)
        self.until(client.service_is_ready)
        answer = client.call_async(request or kind.Request())
        self.until(answer.done)
        return answer.result()

    def adapt(self, steps=0):
        return self.call(srv.Adapt, "adapt", srv.Adapt.Request(inner_steps=steps))


@pytest.fixture
def rig(tmp_path, bundle, unique_domain):
    rig = Rig(tmp_path, bundle, unique_domain)
    yield rig
    rig.close()


def test_it_explores_adapts_and_rolls_back_when_it_is_asked(rig):
    assert rig.play().phase == "evaluating"
    answer = rig.adapt()
    assert answer.success
    assert answer.message == "begun: 1 inner step after 1 evaluating and 2 exploring episodes"
    phases = [rig.play().phase for _ in range(3)]
    assert phases == ["exploring", "exploring", "adapted"]
    status = rig.statuses[-1]
    assert (status.inner_steps, status.episodes_used, status.accepted) == (1, 2, True)
    assert status.kl > 0
    assert rig.answer(TASK.state(TASK.home, np.zeros(5), TASK.home), np.zeros(3), first=True).inner_steps == 1
    assert (rig.folder / "adapted").is_file()
    answer = rig.call(srv.Rollback, "rollback")
    assert (answer.success, answer.message) == (True, "rolled back from inner step 1 to the meta-policy")
    assert not (rig.folder / "adapted").exists()
    assert rig.play().inner_steps == 0


def test_with_an_ensemble_it_imagines_its_inner_steps_and_tells_the_gate_where_it_is_asked(
    tmp_path, bundle, unique_domain
):
    seen = [moved(np.random.default_rng(seed)) for seed in range(2)]
    given = imagining(bundle, TASK, seen)
    changes = {"adaptation__route": "imagined", "adaptation__inner_steps": 60}
    rig = Rig(tmp_path, given, unique_domain, gate="true", **changes)
    try:
        rig.play()
        assert rig.adapt().message == "begun: 60 inner steps after 1 evaluating and 2 exploring episodes"
        for _ in range(3):
            status = rig.play()
        assert (status.phase, status.episodes_used) == ("adapted", 2)
        assert status.inner_steps % JUDGED_EVERY == 0, "the best on the way"
        shortened = 0.02 / (1 + 59 / 40) ** 2
        assert shortened / 2 < status.kl < 2 * shortened, "the last is as long as a sixtieth imagined step is"
        assert rig.actions[-1].disagreement > 0
        assert rig.actions[-1].hold_above == pytest.approx(given.metadata.disagreement.hold_above)
    finally:
        rig.close()


def test_who_acts_changes_at_the_first_step_of_an_episode_only(rig):
    for _ in range(2):
        rig.play()
    rig.adapt()
    rig.play()
    rig.play()
    begun = len(rig.actions)
    rig.play(halfway=lambda: rig.call(srv.Rollback, "rollback"))
    assert {action.inner_steps for action in rig.actions[begun:]} == {1}
    begun = len(rig.actions)
    rig.play()
    assert {action.inner_steps for action in rig.actions[begun:]} == {0}


def test_exploring_actions_are_drawn_and_the_others_are_the_mean(rig):
    state, goal = TASK.state(TASK.home, np.zeros(5), TASK.home), np.array([0.2, 0.0, 0.1])
    means = [rig.answer(state, goal, first=True) for _ in range(2)]
    assert np.array_equal(means[0].action, means[1].action)
    for _ in range(2):
        rig.play()
    rig.adapt()
    drawn = [rig.answer(state, goal, first=True) for _ in range(2)]
    assert [action.exploring for action in (*means, *drawn)] == [False, False, True, True]
    assert not np.array_equal(drawn[0].action, drawn[1].action)


def test_a_request_out_of_bounds_is_refused_with_a_sentence(rig):
    answer = rig.adapt(9)
    assert not answer.success
    assert answer.message == "refused: inner_steps: expected 1 to 1 (adaptation.inner_steps), or 0 for as many, got 9"


def test_a_published_policy_begins_anew(rig):
    for _ in range(2):
        rig.play()
    rig.adapt()
    for _ in range(2):
        rig.play()
    assert rig.statuses[-1].inner_steps == 1
    update = adapting_bundle(TASK, version=2).to_bytes()
    rig.updates.publish(conversions.to_policy_update_msg(update, 2, Time()))
    state, goal = TASK.state(TASK.home, np.zeros(5), TASK.home), np.array([0.2, 0.0, 0.1])
    rig.until(lambda: rig.answer(state, goal, first=False).policy_version == 2)
    assert rig.actions[-1].inner_steps == 0
    status = rig.play()
    assert (status.policy_version, status.evaluation_episodes, status.inner_steps) == (2, 1, 0)


def test_after_a_restart_the_adapted_policy_acts(rig, bundle, unique_domain):
    for _ in range(2):
        rig.play()
    rig.adapt()
    for _ in range(2):
        rig.play()
    rig.close()
    again = Rig(rig.folder, bundle, unique_domain)
    try:
        again.until(lambda: again.statuses)
        assert again.statuses[0].inner_steps == 1
        assert again.statuses[0].reason.startswith("inner step 1 acts, saved at ")
        assert again.play().evaluation_episodes == 1
        assert again.actions[-1].inner_steps == 1
    finally:
        again.close()


WITHOUT_TORCH = """
import sys

class Blocker:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "onnx", "onnxscript", "mujoco"):
            raise ModuleNotFoundError(name + " must not be imported on a robot", name=name)

sys.meta_path.insert(0, Blocker)
import rclpy
from mbrl_ros.policy import PolicyNode

rclpy.init(args=sys.argv[1:])
node = PolicyNode()
node.trigger_configure()
node.trigger_activate()
print(node._state_machine.current_state[1], node._policy.version)
future = node._adaptation._submit(lambda adaptation: adaptation.adapt(1))
rclpy.spin_until_future_complete(node, future)
print(future.result().reason)
node.shut_down()
rclpy.shutdown()
"""


def test_it_starts_with_a_bundle_that_adapts_where_torch_is_not_installed(tmp_path, bundle, unique_domain):
    bundle.save(tmp_path / "policy.mbrl")
    command = [sys.executable, "-c", WITHOUT_TORCH, "--ros-args", "-p", f"bundle:={tmp_path / 'policy.mbrl'}"]
    environment = os.environ | {"ROS_DOMAIN_ID": unique_domain}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    begun = "begun: 1 inner step after 5 evaluating and 5 exploring episodes"
    assert run.stdout.splitlines()[-2:] == ["active 1", begun]
