"""What real episodes say of the world, in worlds whose difference from the model is written down here."""

import dataclasses

import numpy as np
import pytest
from fakes.point_task import STEP, PointTask, point_episode

from mbrl_core.imagined_config import GapConfig
from mbrl_core.reality_gap import fit_gap, transitions
from mbrl_core.types import StepFlag
from mbrl_core.world_model import Prediction

GOALS = np.random.default_rng(0).uniform(-0.5, 0.5, (256, 2))
INPUT_MEAN, INPUT_SCALE, SCALE = np.array([0.1, 0.0, -0.2, 0.3]), np.array([0.5, 0.4, 0.6, 0.7]), np.array([0.1, 0.2])
ASKED, BEFORE = (np.random.default_rng(seed).uniform(-1, 1, (2, 30, width)) for seed, width in ((9, 4), (10, 2)))
FREE = GapConfig(ridge=0.0, goal_prior=0.0)


class TwoMembers:
    """Says that the position changes by STEP action, or half as much."""

    members = 2

    def predict_all(self, inputs):
        return self.predict(np.broadcast_to(inputs, (2, *inputs.shape)))

    def predict(self, inputs):
        mean = np.array([STEP, 0.5 * STEP])[:, None, None] * inputs[..., 2:]
        features = (inputs - INPUT_MEAN) / INPUT_SCALE
        return Prediction(mean, np.zeros_like(mean), np.zeros(inputs.shape[1]), features, SCALE)


class Elsewhere(PointTask):
    """The reward is earned beside the goal."""

    def __init__(self, offset):
        super().__init__()
        self._offset = np.array(offset)

    def reward(self, state, action, next_state, goal):
        return super().reward(state, action, next_state, goal + self._offset)


class Aimless(PointTask):
    """There is no goal: the reward is for being at 0."""

    goal_dim = 0

    def reward(self, state, action, next_state, goal):
        return -(next_state**2).sum(-1)

    def sample_goal(self, rng, count):
        return np.zeros((count, 0))


def played(change, goal=(0.3, -0.2), seed=0, task=None):
    """An episode in a world where a state and an action have a given change."""
    task, rng = task or PointTask(), np.random.default_rng(seed)
    actions, states = rng.uniform(-1, 1, (20, 2)), [rng.uniform(-0.5, 0.5, 2)]
    for action in actions:
        states.append(states[-1] + change(states[-1], action))
    states, goal = np.array(states), np.array(goal)
    rewards = task.reward(states[:-1], actions, states[1:], np.broadcast_to(goal, (20, len(goal))))
    return dataclasses.replace(
        point_episode(rng), states=states, actions_asked=actions, actions_sent=actions, rewards=rewards, goal=goal
    )


def plain(state, action):
    return STEP * action


def drifting(state, action):
    """Linear, and no member knows it: a weak x, a pull to the middle, a drift."""
    return np.array([0.6, 1.0]) * STEP * action - 0.05 * state + np.array([0.01, -0.02])


def fitted(episodes, config, task=None, goals=GOALS):
    task = task or PointTask()
    return fit_gap(task, TwoMembers(), transitions(task, episodes), goals, config)


def test_a_linear_world_is_recovered_whatever_each_member_believed():
    gap = fitted([played(drifting, seed=seed) for seed in range(2)], FREE)
    assert gap.weights.shape == (2, 7, 2)
    corrected = gap.corrected(TwoMembers().predict(ASKED), BEFORE)
    assert corrected == pytest.approx(drifting(ASKED[..., :2], ASKED[..., 2:]), abs=1e-6)


class Late:
    """Does what it was told one step before, and nothing at first."""

    def __init__(self):
        self._before = np.zeros(2)

    def __call__(self, state, action):
        change, self._before = STEP * self._before, action
        return change


def test_an_arm_that_answers_one_step_late_is_set_right():
    gap = fitted([played(Late(), seed=seed) for seed in range(2)], FREE)
    assert gap.corrected(TwoMembers().predict(ASKED), BEFORE) == pytest.approx(STEP * BEFORE, abs=1e-6)


def test_the_ridge_is_so_many_steps_of_the_ensembles_own_belief():
    """At the mean input, after no action, only the constant counts: 10 such steps with an error, against 5 of none."""
    other, actions = np.arange(20) % 2, np.tile(INPUT_MEAN[2:], (20, 1))
    actions[other == 1] = 0.0
    still = dataclasses.replace(
        played(plain),
        states=np.tile(INPUT_MEAN[:2], (21, 1)),
        actions_sent=actions,
        flags=np.where(other, StepFlag.GAP, 0).astype(np.uint8),
    )
    gap = fitted([still], GapConfig(ridge=5.0, goal_prior=0.0))
    error = -STEP * INPUT_MEAN[2:] / SCALE  # the first member says STEP action, and nothing moves
    expected = np.zeros((2, 7, 2))
    expected[:, 0] = 10 / (10 + 5) * np.array([error, 0.5 * error])
    assert gap.weights == pytest.approx(expected, abs=1e-12)


def test_a_large_ridge_leaves_the_ensemble_as_it_is():
    gap = fitted([played(drifting)], GapConfig(ridge=1e9, goal_prior=0.0))
    prediction = TwoMembers().predict(ASKED)
    assert np.abs(gap.corrected(prediction, BEFORE) - prediction.mean).max() < 1e-8


def test_a_goal_that_lies_elsewhere_is_found_from_rewards():
    task = Elsewhere([0.02, -0.03])
    episodes = [played(plain, goal, seed, task) for seed, goal in enumerate(((0.3, -0.2), (-0.1, 0.4)))]
    gap = fitted(episodes, GapConfig(goal_prior=1.0))
    assert gap.goal_offset == pytest.approx([0.02, -0.03], abs=1e-5)
    for episode in episodes:
        believed = PointTask().reward(None, None, episode.states[1:], episode.goal + gap.goal_offset)
        assert believed == pytest.approx(episode.rewards, abs=1e-5)


def test_a_goal_is_where_it_was_said_to_be_where_rewards_say_so_or_are_not_asked():
    assert np.abs(fitted([played(plain)], GapConfig()).goal_offset).max() < 1e-6
    elsewhere = played(plain, task=Elsewhere([0.02, -0.03]))
    assert fitted([elsewhere], FREE).goal_offset.tolist() == [0.0, 0.0]


def test_where_goals_never_differ_in_a_direction_they_are_known_there():
    episodes = [played(plain, seed=seed, task=Elsewhere([0.02, 0.0])) for seed in range(2)]
    gap = fitted(episodes, GapConfig(goal_prior=1.0), goals=GOALS * [1.0, 0.0] + [0.0, 0.45])
    assert gap.goal_offset == pytest.approx([0.02, 0.0], abs=1e-5)
    assert gap.goal_offset[1] == 0.0
    assert fitted(episodes, GapConfig(), goals=0 * GOALS).goal_offset.tolist() == [0.0, 0.0]


def test_a_task_without_goals_has_only_dynamics_to_fit():
    task = Aimless()
    gap = fitted(
        [played(drifting, (), seed, task) for seed in range(2)], GapConfig(ridge=0.0), task, np.zeros((256, 0))
    )
    assert gap.goal_offset.shape == (0,)
    corrected = gap.corrected(TwoMembers().predict(ASKED), BEFORE)
    assert corrected == pytest.approx(drifting(ASKED[..., :2], ASKED[..., 2:]), abs=1e-6)


def test_a_step_with_a_gap_says_nothing():
    whole, flags = played(drifting), np.zeros(20, dtype=np.uint8)
    flags[[3, 19]] = StepFlag.GAP
    broken = dataclasses.replace(whole, flags=flags, rewards=np.where(flags, -99.0, whole.rewards))
    real, kept = transitions(PointTask(), [broken, whole]), np.flatnonzero(flags == 0)
    assert len(real.rewards) == 18 + 20
    assert np.flatnonzero(real.begins).tolist() == [0, 18]
    for column, rows in (
        ("states", whole.states[:-1]),
        ("next_states", whole.states[1:]),
        ("actions", whole.actions_sent),
        ("before", np.concatenate([np.zeros((1, 2)), whole.actions_sent[:-1]])),
        ("goals", np.tile(whole.goal, (20, 1))),
        ("rewards", whole.rewards),
    ):
        assert np.array_equal(getattr(real, column), np.concatenate([rows[kept], rows])), column


def test_what_was_sent_counts_and_not_what_was_asked():
    episode = dataclasses.replace(played(drifting), actions_asked=np.full((20, 2), 7.0))
    assert np.array_equal(transitions(PointTask(), [episode]).actions, episode.actions_sent)


def test_episodes_that_say_nothing_or_are_of_another_task_are_refused():
    silent = dataclasses.replace(played(plain), flags=np.full(20, StepFlag.GAP, dtype=np.uint8))
    for episodes in ([], [silent]):
        with pytest.raises(ValueError, match=rf"at least one step without a gap, got '{len(episodes)} episodes'"):
            transitions(PointTask(), episodes)
    for name, width in (("states", 2), ("actions_sent", 2), ("goal", 2)):
        wide = np.concatenate([getattr(silent, name)] * 2, axis=-1)
        other = dataclasses.replace(played(plain), **{name: wide})
        with pytest.raises(ValueError, match=rf"episode.{name}: expected width {width}, got "):
            transitions(PointTask(), [played(plain), other])
