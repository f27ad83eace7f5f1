import mujoco
import numpy as np
import pytest

from mbrl_core.actor import RandomActor
from mbrl_sim.environment import open_environment
from mbrl_sim.gym_collect import run_episode
from mbrl_sim.gym_task import GymTask
from mbrl_sim.known_environments import cheetah_control_cost, known, nowhere

NAMES = ("Pendulum-v1", "Reacher-v5", "Pusher-v5", "InvertedPendulum-v5", "HalfCheetah-v5")


def random_episodes(name, count=3):
    env = open_environment(name, episode_steps=100)
    task, rng = GymTask(env), np.random.default_rng(0)
    actor = RandomActor(task.action_dim, hold_steps=5, take_back=False)
    return env, task, [run_episode(env, task, actor, seed=seed, rng=rng) for seed in range(count)]


@pytest.mark.parametrize("name", NAMES)
def test_rewards_are_the_environments_own(name):
    _, task, episodes = random_episodes(name)
    assert known(name).reward is not None
    for episode in episodes:
        goals = np.broadcast_to(episode.goal, (episode.steps, task.goal_dim))
        rewards = task.reward(episode.states[:-1], episode.actions_sent, episode.states[1:], goals)
        assert np.abs(rewards - episode.rewards).max() < 1e-6


@pytest.mark.parametrize("name", (*NAMES, "Swimmer-v5"))
def test_episodes_end_where_the_environment_says(name):
    _, task, episodes = random_episodes(name)
    assert any(episode.terminated for episode in episodes) == (known(name).terminates is not nowhere)
    for episode in episodes:
        goals = np.broadcast_to(episode.goal, (episode.steps, task.goal_dim))
        ends = task.terminates(episode.states[1:], goals)
        assert not ends[:-1].any()
        assert ends[-1] == episode.terminated


def test_what_is_learned_of_the_cheetahs_reward_is_its_mean_forward_speed():
    env = open_environment("HalfCheetah-v5")
    task, rng = GymTask(env), np.random.default_rng(0)
    obs, _ = env.reset(seed=0)
    for _ in range(20):
        action = rng.uniform(-1, 1, 6)
        next_obs, reward, _, _, info = env.step(action)
        assert task.state_after(obs, action, next_obs, reward, False)[-1] == pytest.approx(info["x_velocity"], abs=1e-6)
        assert cheetah_control_cost(obs, action, next_obs) == pytest.approx(info["reward_ctrl"], abs=1e-6)
        obs = next_obs


@pytest.mark.parametrize(("name", "entry"), [("HalfCheetah-v5", 1), ("Swimmer-v5", 0)])
def test_angles_without_bounds_are_those_of_hinges_without_limits(name, entry):
    env = open_environment(name)
    model, data = env.unwrapped.model, env.unwrapped.data
    obs, _ = env.reset(seed=0)
    free = [
        joint
        for joint in range(model.njnt)
        if model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_HINGE and not model.jnt_limited[joint]
    ]
    assert known(name).angles == (entry,)
    assert [data.qpos[model.jnt_qposadr[joint]] for joint in free] == [obs[entry]]


@pytest.mark.parametrize("name", ["Reacher-v5", "Pusher-v5"])
def test_goals_are_drawn_as_the_environment_draws_them(name):
    env = open_environment(name)
    task = GymTask(env)
    real = np.array([task.goal(env.reset(seed=seed)[0]) for seed in range(300)])
    drawn = task.sample_goal(np.random.default_rng(0), 3000)
    assert np.allclose(drawn.mean(0), real.mean(0), atol=0.02)
    assert np.allclose(drawn.std(0), real.std(0), atol=0.01)
    assert np.linalg.norm(drawn, axis=1).max() <= np.linalg.norm(real, axis=1).max() + 0.01
