import math

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from mbrl_core.actor import RandomActor, ZeroActor
from mbrl_core.arm import load_profile
from mbrl_core.kinematics import Chain
from mbrl_core.types import StepFlag
from mbrl_sim import profile_path
from mbrl_sim.physics import ArmPhysics
from mbrl_sim.reach_env import ReachEnv, run_episode

PROFILE = load_profile(profile_path("so101"))
COUNT = 2 * math.pi / 4096


def test_kinematics_agree_with_mujoco_at_random_joint_angles():
    physics, chain, rng = ArmPhysics(PROFILE), Chain(PROFILE), np.random.default_rng(0)
    joints = physics.model.jnt_range[:, 0] + rng.random((200, 6)) * np.ptp(physics.model.jnt_range, axis=1)
    joints[:, 5] = PROFILE.joints[5].home_rad
    for angles in joints:
        physics.reset(angles)
        mujoco.mj_forward(physics.model, physics.data)
        assert np.abs(chain.tip(angles[PROFILE.controlled]) - physics.tip).max() < 1e-9


def test_it_is_a_gymnasium_environment():
    check_env(ReachEnv(PROFILE), skip_render_check=True)
    assert isinstance(ReachEnv(PROFILE), gymnasium.Env)


def test_an_episode_starts_at_home_at_rest():
    env = ReachEnv(PROFILE)
    obs, info = env.reset(seed=0)
    state = info["state"]
    assert np.abs(state[:5] - env.task.home).max() < 0.06  # sag under gravity
    assert np.abs(state[5:10]).max() < 2 * COUNT
    assert np.array_equal(state[10:], env.task.home)
    assert np.array_equal(obs, env.task.observe(state, info["goal"]))


def test_angles_and_speeds_are_whole_encoder_counts():
    env = ReachEnv(PROFILE)
    env.reset(seed=0)
    _, _, _, _, info = env.step(np.full(5, 0.7))
    counts = info["state"][:10] / COUNT
    assert np.allclose(counts, np.round(counts), atol=1e-6)
    assert np.abs(counts[5:]).max() > 10


def test_a_gentle_action_moves_the_target_by_its_scale():
    env = ReachEnv(PROFILE)
    _, before = env.reset(seed=0)
    action = np.array([0.3, 0.1, -0.1, 0.2, 0.0])
    _, _, _, _, info = env.step(action)
    assert np.allclose(info["state"][10:] - before["state"][10:], PROFILE.action_scale_rad * action, atol=1e-9)
    assert np.allclose(info["action_sent"], action)
    assert info["flags"] == 0


def test_what_was_really_sent_is_reported_when_a_command_is_cut():
    env = ReachEnv(PROFILE)
    env.reset(seed=0)
    before = env.step(np.array([1.0, 0, 0, 0, 1.0]))[4]["state"][10:]
    _, _, _, _, info = env.step(np.array([-1.0, 0, 0, 0, -1.0]))  # a reversal beyond the acceleration limit
    assert info["flags"] == StepFlag.CLAMPED
    assert info["action_sent"][4] > -0.5
    assert np.allclose(info["state"][10:] - before, PROFILE.action_scale_rad * info["action_sent"])


def test_an_episode_lasts_five_seconds_and_is_truncated():
    env = ReachEnv(PROFILE)
    env.reset(seed=3)
    episode = run_episode(env, ZeroActor(5), index=4)
    assert episode.steps == 100
    assert episode.stamps_s[-1] == pytest.approx(5.0)
    assert episode.truncated and not episode.terminated
    assert episode.episode == 4
    distance = env.task.distance(episode.states[-1], episode.goal)
    assert episode.final_distance_m == pytest.approx(distance)
    states = episode.states
    assert np.allclose(episode.rewards, env.task.reward(states[:-1], episode.actions_sent, states[1:], episode.goal))


class Bold:
    """Draws more than there is."""

    version = 1

    def draw(self, obs, rng=None):
        return np.array([0.0, 0.0, 0.0, 0.0, 2.5])  # the wrist rolls


def test_actions_are_recorded_as_drawn_and_sent_within_the_limits():
    env = ReachEnv(PROFILE)
    env.reset(seed=3)
    episode = run_episode(env, Bold(), rng=np.random.default_rng(0))
    assert (episode.actions_asked[:, 4] == 2.5).all()
    assert episode.actions_sent.max() <= 1.0 + 1e-9
    assert episode.exploring


def test_the_same_seed_gives_the_same_episode():
    def run():
        env = ReachEnv(PROFILE)
        env.reset(seed=5)
        return run_episode(env, RandomActor(5), rng=np.random.default_rng(1))

    first, again = run(), run()
    assert np.array_equal(first.states, again.states)
    assert np.array_equal(first.goal, again.goal)


@pytest.mark.parametrize("action", [np.zeros(4), np.array([0, 0, np.nan, 0, 0])])
def test_a_bad_action_is_refused(action):
    env = ReachEnv(PROFILE)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action: expected"):
        env.step(action)
