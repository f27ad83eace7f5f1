"""The recorder: what was sent follows from the targets, and irregular steps are flagged."""

import numpy as np
import pytest

from mbrl_core.arm import load_profile
from mbrl_core.episode_recorder import EpisodeRecorder
from mbrl_core.tasks.reach import ReachConfig, ReachTask
from mbrl_core.types import Action, StepFlag
from mbrl_sim import profile_path

PROFILE = load_profile(profile_path("so101"))
TASK = ReachTask(PROFILE, ReachConfig(duration_s=0.1))  # two steps
JOINTS = TASK.joints


def state(target_step):
    home = TASK.home
    return np.concatenate([home, np.zeros(JOINTS), home + PROFILE.action_scale_rad * target_step])


def ask(value, **fields):
    return Action(seq=1, episode=0, action=np.full(JOINTS, value), **{"policy_version": 2, **fields})


def recorder(goal=None):
    goal = TASK.chain.tip(TASK.home) if goal is None else goal
    return EpisodeRecorder(TASK, episode=4, goal=goal, state=state(0.0), stamp_s=10.0)


def test_action_sent_is_the_change_of_targets():
    record = recorder()
    record.add(ask(0.5), StepFlag(0), state(0.5), 10.05)
    record.add(ask(-0.5), StepFlag(0), state(0.0), 10.10)
    episode = record.finish("time limit", reset_s=1.0)
    np.testing.assert_allclose(episode.actions_sent, [[0.5] * JOINTS, [-0.5] * JOINTS])
    assert episode.flags.tolist() == [0, 0]
    assert episode.truncated
    assert not episode.terminated
    assert episode.success
    assert episode.episode == 4


def test_reward_by_hand():
    goal = TASK.chain.tip(TASK.home) + [0.04, 0.0, 0.0]
    record = recorder(goal)
    record.add(ask(0.0), StepFlag(0), state(0.0), 10.05)
    expected = 0.5 * np.exp(-1) - 2 * 0.04
    np.testing.assert_allclose(record.finish("stopped", reset_s=0).rewards, [expected], atol=1e-9)


def test_a_command_that_was_changed_is_flagged():
    record = recorder()
    record.add(ask(1.0), StepFlag(0), state(0.2), 10.05)
    assert record.finish("stopped", reset_s=0).flags[0] == StepFlag.CLAMPED


def test_a_step_of_wrong_length_is_a_gap():
    record = recorder()
    record.add(ask(0.0), StepFlag(0), state(0.0), 10.08)
    assert record.finish("stopped", reset_s=0).flags[0] == StepFlag.GAP


def test_an_episode_that_was_cut_short_is_no_success():
    record = recorder()
    record.add(ask(0.0), StepFlag(0), state(0.0), 10.05)
    assert not record.finish("stopped", reset_s=0).success


@pytest.mark.parametrize(("drawn", "sent"), [(3.0, 1.0), (-1.2, -1.0)])
def test_an_action_is_recorded_as_drawn_and_a_draw_beyond_the_limits_alone_is_no_clamp(drawn, sent):
    record = recorder()
    record.add(ask(drawn), StepFlag(0), state(sent), 10.05)
    episode = record.finish("stopped", reset_s=0)
    assert (episode.actions_asked == drawn).all()
    np.testing.assert_allclose(episode.actions_sent, [[sent] * JOINTS])
    assert episode.flags[0] == 0


def test_a_draw_beyond_the_limits_that_a_limit_then_cut_is_flagged():
    record = recorder()
    record.add(ask(3.0), StepFlag(0), state(0.9), 10.05)
    assert record.finish("stopped", reset_s=0).flags[0] == StepFlag.CLAMPED


@pytest.mark.parametrize(
    ("share", "sent", "flags"),
    [
        (0.5, 0.5, StepFlag.SLOWED),
        (0.0, 0.0, StepFlag.SLOWED),
        (0.5, 0.2, StepFlag.SLOWED | StepFlag.CLAMPED),
        (1.0, 0.5, StepFlag.CLAMPED),
    ],
)
def test_slowed_and_clamped_each_name_their_own_cause(share, sent, flags):
    record = recorder()
    record.add(ask(3.0), StepFlag(0), state(sent), 10.05, share=share)
    episode = record.finish("stopped", reset_s=0)
    assert episode.flags[0] == flags
    assert (episode.actions_asked == 3.0).all()
    np.testing.assert_allclose(episode.actions_sent, [[sent] * JOINTS], atol=1e-12)


def told(*actions):
    record = recorder()
    for index, action in enumerate(actions):
        record.add(action, StepFlag(0), state(0.0), 10.05 + 0.05 * index)
    return record.finish("stopped", reset_s=0)


def test_who_acted_comes_from_the_actions_and_a_step_without_one_changes_nothing():
    episode = told(ask(0, member=2, inner_steps=3), ask(0, member=2, inner_steps=3), None)
    assert (episode.member, episode.inner_steps, episode.exploring) == (2, 3, False)
    assert episode.end_reason == "stopped"
    assert episode.policy_versions.tolist() == [2, 2, 0]


def test_an_episode_without_any_action_has_nobody_who_acted():
    episode = told(None, None)
    assert (episode.member, episode.inner_steps, episode.exploring) == (-1, 0, False)


@pytest.mark.parametrize("drawn", [(True, False), (False, True), (True, True)])
def test_an_episode_is_exploring_if_any_action_was_drawn(drawn):
    assert told(*(ask(0, exploring=exploring) for exploring in drawn)).exploring


def test_a_change_of_policy_within_an_episode_stays_visible():
    episode = told(ask(0), None, ask(0, member=1, inner_steps=2), ask(0, member=1, inner_steps=2, exploring=True))
    assert (episode.member, episode.inner_steps, episode.exploring) == (1, 2, True)
    assert episode.end_reason == (
        "stopped; acted: member -1 inner steps 0 mean from step 0, member 1 inner steps 2 mean from step 2, "
        "member 1 inner steps 2 drawn from step 3"
    )


def test_a_change_of_version_alone_is_told_by_the_versions():
    episode = told(ask(0, policy_version=2), ask(0, policy_version=3))
    assert episode.policy_versions.tolist() == [2, 3]
    assert episode.end_reason == "stopped"
