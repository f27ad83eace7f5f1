"""The recorder: what was sent follows from the targets, and irregular steps are flagged."""

import numpy as np

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


def ask(value):
    return Action(seq=1, episode=0, action=np.full(JOINTS, value), policy_version=2)


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
