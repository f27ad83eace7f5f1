"""The adaptation of a real bundle's policy on a task that is a point in a plane; steps by ONNX Runtime."""

import dataclasses

import numpy as np
import pytest
from fakes.adapting_bundle import adapting_bundle, imagining
from fakes.point_task import PointTask, point_episode

from mbrl_core.actor import Actor
from mbrl_core.adaptation_config import AdaptationConfig
from mbrl_core.adapter import Adapter
from mbrl_core.imagined_config import ImaginedStepsConfig
from mbrl_core.imagined_steps import ImaginedSteps
from mbrl_core.robot_adaptation import RobotAdaptation
from mbrl_core.types import TIME_LIMIT, StepFlag

TASK = PointTask()
QUICK = AdaptationConfig(evaluate_episodes=2, explore_episodes=2, route="real", inner_steps=3)


@pytest.fixture(scope="module")
def bundle():
    return adapting_bundle(TASK)


class Robot:
    """Plays episodes with whoever has the turn; `shift` is added to the return, by inner steps."""

    def __init__(self, bundle, config=QUICK, **arguments):
        self.adapter = Adapter(bundle, TASK) if bundle.adapt_onnx else None
        self.adaptation = RobotAdaptation(bundle, self.adapter, config, **arguments)
        self.rng = np.random.default_rng(0)
        self.shift = {}
        self.played = []

    def episode(self, **changes):
        """One that is not told of yet."""
        turn, drawn = self.adaptation.turn, []
        actor = Actor(turn.bundle)

        def act(obs):
            drawn.append(actor.draw(obs, self.rng if turn.exploring else None))
            return drawn[-1]

        episode = point_episode(self.rng, act, index=len(self.played), goal=TASK.sample_goal(self.rng, 1)[0])
        facts = {
            "actions_asked": np.array(drawn),
            "rewards": episode.rewards + self.shift.get(turn.inner_steps, 0.0) / episode.steps,
            "policy_versions": np.full(episode.steps, turn.bundle.version, dtype=np.uint32),
            "end_reason": TIME_LIMIT,
            "inner_steps": turn.inner_steps,
            "exploring": turn.exploring,
        }
        self.played.append(dataclasses.replace(episode, **(facts | changes)))
        return self.played[-1]

    def play(self, count=1, **changes):
        """Some episodes, and what there is to tell after the last."""
        for _ in range(count):
            turn = self.adaptation.turn
            outcome = self.adaptation.add(self.episode(**changes), turn)
        return outcome

    @property
    def theta(self):
        return self.adaptation.turn.bundle.theta


def test_by_itself_it_evaluates_explores_adapts_and_evaluates_again(bundle):
    robot = Robot(bundle, dataclasses.replace(QUICK, after_episodes=3))
    phases = [robot.adaptation.outcome.phase] + [robot.play().phase for _ in range(8)]
    assert phases == ["evaluating"] * 2 + ["exploring"] * 3 + ["adapted"] * 4
    assert [episode.exploring for episode in robot.played] == [False] * 2 + [True] * 3 + [False] * 3
    outcome = robot.adaptation.outcome
    assert (outcome.exploration_episodes, outcome.evaluation_episodes, outcome.episodes_used) == (3, 5, 3)
    assert (outcome.accepted, outcome.inner_steps) == (True, 3)
    assert outcome.reason == "accepted: 3 inner steps on 3 episodes"
    assert outcome.kl > 0
    assert outcome.surrogate > 0
    returns = [episode.episode_return for episode in robot.played]
    assert outcome.return_before == pytest.approx(np.mean(returns[:2]))
    assert outcome.return_after == pytest.approx(np.mean(returns[5:]))


def test_the_step_is_the_adapters_own_on_exactly_the_exploring_episodes(bundle):
    robot = Robot(bundle, dataclasses.replace(QUICK, after_episodes=2, inner_steps=2))
    robot.play(4)
    batch = robot.adapter.batch(robot.played[2:4], [bundle.theta] * 2)
    first = robot.adapter.step(bundle.theta, batch)
    second = robot.adapter.step(first.theta, batch)
    assert np.array_equal(robot.theta, second.theta)
    outcome = robot.adaptation.outcome
    assert (outcome.kl, outcome.gradient_norm) == (second.kl, second.gradient_norm)
    assert outcome.surrogate == pytest.approx(first.loss - second.loss_after)


IMAGINED = dataclasses.replace(
    QUICK, after_episodes=2, route="imagined", imagined=ImaginedStepsConfig(rollouts=20, horizon=5)
)


def test_with_an_ensemble_the_steps_are_imagined_in_what_exactly_the_exploring_episodes_set_right(bundle):
    given = imagining(bundle, TASK, [point_episode(np.random.default_rng(seed)) for seed in range(3)])
    robot = Robot(given, IMAGINED)
    assert robot.play(4).reason == "accepted: 3 inner steps on 2 episodes"
    route, theta = ImaginedSteps(given, TASK, robot.adapter, robot.played[2:4], IMAGINED.imagined), given.theta
    for _ in range(3):
        step = route(theta)
        theta = step.theta
    assert np.array_equal(robot.theta, theta)
    assert (robot.adaptation.outcome.kl, robot.adaptation.outcome.inner_steps) == (step.kl, 3)
    usual = Robot(given, dataclasses.replace(IMAGINED, inner_steps=0))
    assert usual.adaptation.adapt(0).reason.startswith("begun: 80 inner steps after ")


def test_without_an_ensemble_the_steps_are_real_ones(bundle):
    by_name = Robot(bundle, dataclasses.replace(QUICK, after_episodes=2))
    robot = Robot(bundle, IMAGINED)
    for one in (by_name, robot):
        assert one.play(4).inner_steps == 3
    assert np.array_equal(robot.theta, by_name.theta)
    usual = Robot(bundle, dataclasses.replace(IMAGINED, inner_steps=0))
    assert usual.adaptation.adapt(0).reason.startswith("begun: 1 inner step after ")


def test_an_imagination_that_is_not_finite_is_refused_and_the_policy_goes_on(bundle):
    broken = imagining(bundle, TASK, [point_episode(np.random.default_rng(0))], break_with=np.nan)
    outcome = Robot(broken, IMAGINED).play(4)
    assert (outcome.accepted, outcome.inner_steps) == (False, 0)
    refusal = "refused: imagination: expected finite rewards and states, got 'NaN or infinity'; the meta-policy acts"
    assert outcome.reason == refusal


def test_nothing_happens_until_it_is_asked_and_then_what_was_evaluated_counts(bundle):
    robot = Robot(bundle)
    assert robot.play(3).phase == "evaluating"
    asked = robot.adaptation.adapt(1)
    assert (asked.granted, asked.phase) == (True, "exploring")
    assert asked.reason == "begun: 1 inner step after 0 evaluating and 2 exploring episodes"
    assert robot.play(2).inner_steps == 1
    assert robot.play().episodes_used == 2


def test_asked_for_no_number_it_takes_as_many_as_usual(bundle):
    robot = Robot(bundle)
    assert robot.adaptation.adapt(0).reason == "begun: 3 inner steps after 2 evaluating and 2 exploring episodes"
    usual = Robot(bundle, dataclasses.replace(QUICK, inner_steps=0))
    assert usual.adaptation.adapt(0).reason.startswith("begun: 1 inner step after ")
    assert "expected 1 to 1 (adaptation.inner_steps), or 0" in usual.adaptation.adapt(2).reason


def test_asked_while_it_explores_anyway_it_uses_the_episodes_there_are(bundle):
    robot = Robot(bundle, deterministic=False)
    assert robot.play(3).phase == "exploring"
    assert robot.adaptation.adapt(1).reason == "begun: 1 inner step after 2 evaluating and 0 exploring episodes"
    assert robot.play(2).reason == "accepted: 1 inner step on 3 episodes"
    robot.play(2)
    assert [episode.exploring for episode in robot.played] == [True] * 3 + [False] * 4
    assert robot.adaptation.turn.exploring, "after the comparison it explores as before"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"end_reason": "stopped"}, "it ended early (stopped)"),
        ({"end_reason": f"{TIME_LIMIT}; acted: member -1"}, f"it ended early ({TIME_LIMIT}; acted: member -1)"),
        ({"flags": np.full(TASK.steps, StepFlag.GAP, dtype=np.uint8)}, "every step has a gap"),
        ({"policy_versions": np.arange(TASK.steps, dtype=np.uint32)}, "another version than 1 acted in it"),
        ({"inner_steps": 1}, "other parameters acted in it"),
        ({"exploring": True}, "other parameters acted in it"),
    ],
)
def test_an_episode_that_was_cut_or_is_not_ones_own_does_not_count(bundle, changes, complaint):
    robot = Robot(bundle)
    outcome = robot.play(**changes)
    assert outcome.reason == f"episode 0 does not count: {complaint}"
    assert (outcome.evaluation_episodes, outcome.exploration_episodes) == (0, 0)
    assert np.isnan(outcome.return_before)


def test_an_episode_that_nobody_saw_begin_does_not_count(bundle):
    robot = Robot(bundle)
    outcome = robot.adaptation.add(robot.episode(), None)
    assert outcome.reason == "episode 0 does not count: this node did not see it begin"


def test_a_step_without_an_answer_is_no_other_version(bundle):
    """Where no action came, version 0 is recorded, and a gap."""
    flags, versions = np.zeros(TASK.steps, dtype=np.uint8), np.ones(TASK.steps, dtype=np.uint32)
    flags[3], versions[3] = StepFlag.GAP, 0
    assert Robot(bundle).play(flags=flags, policy_versions=versions).evaluation_episodes == 1


def test_an_episode_of_the_parameters_before_is_counted_and_not_used(bundle):
    robot = Robot(bundle, dataclasses.replace(QUICK, after_episodes=2))
    evaluating, early = robot.adaptation.turn, robot.episode()
    robot.play(2)
    exploring, late = robot.adaptation.turn, robot.episode()
    robot.play(2)
    assert np.isnan(robot.adaptation.add(early, evaluating).return_after)
    outcome = robot.adaptation.add(late, exploring)
    assert (outcome.exploration_episodes, outcome.evaluation_episodes, outcome.episodes_used) == (3, 3, 2)
    robot.adaptation.adapt(1)
    assert robot.play(2).phase == "exploring", "it has to collect two of its own"


def step_sizes(bundle, size):
    return dataclasses.replace(bundle, step_sizes=np.full_like(bundle.theta, size))


@pytest.mark.parametrize(
    ("size", "max_kl", "complaint"),
    [
        (0.1, 1e-9, "KL of the step: expected at most 1e-09 nats"),
        (3e38, 1e9, "finite"),
    ],
)
def test_a_bad_step_is_refused_and_the_last_good_parameters_go_on(bundle, size, max_kl, complaint):
    bad = step_sizes(bundle, size)
    robot = Robot(bad, dataclasses.replace(QUICK, after_episodes=2, max_kl=max_kl))
    outcome = robot.play(4)
    assert not outcome.accepted
    assert not outcome.granted
    assert outcome.reason.startswith("refused: ")
    assert complaint in outcome.reason
    assert outcome.reason.endswith("; the meta-policy acts")
    assert robot.theta is robot.adaptation.turn.bundle.theta
    assert np.array_equal(robot.theta, bundle.theta)
    assert (outcome.phase, outcome.inner_steps) == ("evaluating", 0)
    assert robot.play(2).episodes_used == 2, "it does not try again by itself"
    again = robot.adaptation.adapt(1)
    assert again.reason == "begun: 1 inner step after 0 evaluating and 2 exploring episodes", "on others, if at all"


def test_a_clearly_worse_policy_is_taken_back_and_not_tried_again_by_itself(bundle):
    robot = Robot(bundle, dataclasses.replace(QUICK, after_episodes=2, evaluate_episodes=4))
    robot.shift = {3: -1000.0}
    assert robot.play(6).phase == "adapted"
    outcome = robot.play(4)
    assert (outcome.phase, outcome.inner_steps, outcome.accepted) == ("fallen_back", 0, False)
    assert outcome.reason.startswith("taken back: the mean return fell significantly, from ")
    assert outcome.return_after < outcome.return_before - 900
    assert np.array_equal(robot.theta, bundle.theta)
    assert robot.play(4).phase == "fallen_back"
    assert not any(episode.exploring for episode in robot.played[6:])
    assert robot.adaptation.adapt(1).phase == "exploring"


def test_noise_alone_takes_nothing_back(bundle):
    robot = Robot(bundle, dataclasses.replace(QUICK, after_episodes=2, evaluate_episodes=4))
    assert robot.play(6 + 20).phase == "adapted"


def test_it_falls_back_to_the_parameters_before_and_rolls_back_to_the_first(bundle, tmp_path):
    robot = Robot(bundle, dataclasses.replace(QUICK, after_episodes=2, evaluate_episodes=4), path=tmp_path / "one")
    robot.shift = {5: -1000.0}
    robot.play(6)
    third = robot.theta
    robot.play(4)
    robot.adaptation.adapt(2)
    assert robot.play(2).inner_steps == 5
    assert robot.play(4).reason.endswith("; inner step 3 acts")
    assert np.array_equal(robot.theta, third)
    again = Robot(bundle, path=tmp_path / "one")
    assert (again.adaptation.turn.inner_steps, again.adaptation.outcome.phase) == (3, "adapted")
    assert np.array_equal(again.theta, third)
    outcome = robot.adaptation.rollback()
    assert outcome.reason == "rolled back from inner step 3 to the meta-policy"
    assert (outcome.phase, outcome.inner_steps, outcome.accepted) == ("evaluating", 0, False)
    assert np.array_equal(robot.theta, bundle.theta)
    assert not (tmp_path / "one").exists()


def test_a_rollback_ends_what_was_under_way(bundle):
    robot = Robot(bundle, dataclasses.replace(QUICK, after_episodes=2))
    robot.play(3)
    robot.adaptation.rollback()
    assert robot.play(6).phase == "evaluating"
    assert not any(episode.exploring for episode in robot.played[3:])


def test_after_a_restart_the_adapted_policy_acts_and_is_still_compared(bundle, tmp_path):
    config = dataclasses.replace(QUICK, after_episodes=2, evaluate_episodes=4)
    robot = Robot(bundle, config, path=tmp_path / "one")
    robot.play(6 + 2)
    again = Robot(bundle, config, path=tmp_path / "one")
    assert np.array_equal(again.theta, robot.theta)
    before, after = robot.adaptation.outcome, again.adaptation.outcome
    for name in ("phase", "inner_steps", "episodes_used", "kl", "surrogate", "gradient_norm", "return_before"):
        assert getattr(after, name) == getattr(before, name)
    assert after.return_after == before.return_after
    assert after.reason.startswith("inner step 3 acts, saved at 20")
    again.shift = {3: -1000.0}
    assert again.play(2).phase == "adapted", "after two and two the first look shows nothing clear"
    assert again.play(4).phase == "fallen_back"
    assert not (tmp_path / "one").exists()


def test_after_a_restart_it_still_falls_back_to_what_acted_before_the_last_adaptation(bundle, tmp_path):
    config = dataclasses.replace(QUICK, after_episodes=2, evaluate_episodes=4)
    robot = Robot(bundle, config, path=tmp_path / "one")
    robot.play(6 + 4)
    third = robot.theta
    robot.adaptation.adapt(1)
    assert robot.play(2).inner_steps == 4
    again = Robot(bundle, config, path=tmp_path / "one")
    again.shift = {4: -1000.0}
    assert again.play(4).reason.endswith("; inner step 3 acts")
    assert np.array_equal(again.theta, third)


def test_saved_parameters_of_another_bundle_are_refused_and_the_meta_policy_acts(bundle, tmp_path):
    Robot(bundle, dataclasses.replace(QUICK, after_episodes=2), path=tmp_path / "one").play(4)
    other = step_sizes(bundle, 0.2)
    robot = Robot(other, path=tmp_path / "one")
    assert robot.adaptation.turn.inner_steps == 0
    refused = "the meta-policy acts, saved parameters are refused: one: sha256 of the bundle's parameters.safetensors"
    assert robot.adaptation.outcome.reason.startswith(refused)
    (tmp_path / "one").write_bytes(b"damaged")
    assert "refused: one: expected undamaged" in Robot(bundle, path=tmp_path / "one").adaptation.outcome.reason


def test_what_cannot_be_written_is_told_and_acts_all_the_same(bundle, tmp_path):
    path = tmp_path / "missing/one"
    robot = Robot(bundle, dataclasses.replace(QUICK, after_episodes=2), path=path)
    outcome = robot.play(4)
    assert outcome.inner_steps == 3
    assert outcome.reason.endswith("; one could not be written: No such file or directory")
    path.parent.mkdir()
    assert not robot.play().reason.endswith("written: No such file or directory")
    assert path.is_file()


def test_a_request_out_of_bounds_or_to_a_bundle_that_does_not_adapt_is_refused(bundle):
    robot = Robot(bundle)
    for steps in (-1, 4):
        outcome = robot.adaptation.adapt(steps)
        assert not outcome.granted
        expected = "expected 1 to 3 (adaptation.inner_steps), or 0 for as many"
        assert outcome.reason == f"refused: inner_steps: {expected}, got {steps}"
    metadata = dataclasses.replace(bundle.metadata, adaptation=None)
    fixed = dataclasses.replace(bundle, metadata=metadata, adapt_onnx=b"", step_sizes=None, value={})
    robot = Robot(fixed, dataclasses.replace(QUICK, after_episodes=2))
    outcome = robot.adaptation.adapt(1)
    assert (outcome.granted, outcome.phase) == (False, "off")
    assert outcome.reason == "refused: the bundle does not adapt"
    assert (robot.play(3).phase, robot.adaptation.turn.exploring) == ("off", False)
