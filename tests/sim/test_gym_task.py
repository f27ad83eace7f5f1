import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Sequence

from mbrl_core.actor import RandomActor, ZeroActor
from mbrl_sim.environment import open_environment
from mbrl_sim.gym_collect import EVALUATION_SEED, baselines, evaluate, run_episode
from mbrl_sim.gym_task import GymTask
from mbrl_sim.known_environments import Known

NAMES = ("Pendulum-v1", "Reacher-v5", "HalfCheetah-v5", "Swimmer-v5", "Hopper-v5")


class Slope(gymnasium.Env):
    """x moves by the action, which lies in [-1, 3]; the reward is x; the episode ends beyond 5."""

    observation_space = Dict({"x": Box(-10, 10, (1,), np.float64), "constant": Box(0, 1, (2, 1), np.float64)})
    action_space = Box(-1, 3, (1, 1), np.float32)
    bad_reward = ()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = float(self.np_random.uniform(-0.1, 0.1))
        return self._obs(), {}

    def step(self, action):
        assert action.shape == (1, 1)
        self.x += float(action[0, 0])
        return self._obs(), self.bad_reward[0] if self.bad_reward else self.x, self.x > 5, False, {}

    def _obs(self):
        return {"x": np.array([self.x]), "constant": np.full((2, 1), 0.5)}


class Flat(gymnasium.Env):
    """Whatever is done, the observation is 0; its width may be another than the space says."""

    observation_space, action_space = Box(-1, 1, (3,), np.float64), Box(-1, 1, (1,), np.float32)
    width = 3

    def reset(self, *, seed=None, options=None):
        return np.zeros(self.width), {}

    def step(self, action):
        return np.zeros(self.width), 0.0, False, False, {}


class Listed(Flat):
    observation_space = Sequence(Box(-1, 1, (3,), np.float64))


class Headless(Flat):
    def __init__(self):
        raise RuntimeError("no display")


for made in (Flat, Listed, Headless):
    gymnasium.register(f"{made.__name__}-v0", entry_point=made, max_episode_steps=50)
gymnasium.register("Slope-v0", entry_point=Slope, max_episode_steps=50)
gymnasium.register("Unending-v0", entry_point=Slope)


def collected(name, seed=0, **facts):
    env = open_environment(name)
    task = GymTask(env, Known(**facts)) if facts else GymTask(env)
    actor = RandomActor(task.action_dim, hold_steps=2, take_back=False)
    return task, run_episode(env, task, actor, seed=seed, rng=np.random.default_rng(seed))


class Bold:
    """Asks for more than there is."""

    version = 1

    def draw(self, obs, rng=None):
        return np.array([3.0])


def test_an_episode_holds_what_was_asked_and_what_was_sent():
    env = open_environment("Slope-v0")
    episode = run_episode(env, GymTask(env), Bold(), seed=0)
    assert (episode.actions_asked == 3.0).all()
    assert (episode.actions_sent == 1.0).all()
    assert not episode.flags.any(), "a draw that is cut to [-1, 1] is no clamp, here as on an arm"
    assert not episode.exploring
    assert np.diff(episode.states[:, 2]) == pytest.approx([3.0] * episode.steps)  # x; action 1 is the upper bound, 3


@pytest.mark.parametrize("name", NAMES)
def test_numpy_and_torch_agree(name):
    task, episode = collected(name)
    states, actions = episode.states, episode.actions_sent
    goals = np.broadcast_to(episode.goal, (episode.steps, task.goal_dim)).copy()
    change = task.model_target(states[:-1], states[1:])
    cases = [
        (task.observe, (states[:-1], goals)),
        (task.reward, (states[:-1], actions, states[1:], goals)),
        (task.terminates, (states[1:], goals)),
        (task.success, (states[1:], goals)),
        (task.model_input, (states[:-1], actions)),
        (task.model_target, (states[:-1], states[1:])),
        (task.next_state, (states[:-1], actions, change)),
        (task.admissible, (states[:-1], 2 * actions)),
    ]
    for function, arrays in cases:
        expected = np.asarray(function(*arrays))
        for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
            got = function(*(torch.as_tensor(array, dtype=dtype) for array in arrays))
            assert got.dtype in (dtype, torch.bool)
            assert np.allclose(got.numpy(), expected, rtol=tolerance, atol=tolerance), function


@pytest.mark.parametrize("name", NAMES)
def test_a_state_gives_back_the_observation_and_a_true_prediction_the_next_state(name):
    task, episode = collected(name)
    env = open_environment(name)
    obs, _ = env.reset(seed=0)
    assert np.allclose(task.observe(task.first_state(obs), task.goal(obs)), obs, atol=1e-12)
    assert task.model_input(episode.states[:-1], episode.actions_sent).shape[-1] == task.input_dim
    change = task.model_target(episode.states[:-1], episode.states[1:])
    assert change.shape[-1] == task.learned_dim
    following = task.next_state(episode.states[:-1], episode.actions_sent, change)
    assert np.allclose(following, episode.states[1:], atol=1e-6)


def test_a_prediction_beyond_the_observations_bounds_is_brought_back():
    task, _ = collected("Pendulum-v1")
    state = task.next_state(np.array([0.6, 0.8, 7.0]), np.zeros(1), np.array([0.0, 0.1, 3.0]))
    assert np.allclose(state, [0.6 / np.hypot(0.6, 0.9), 0.9 / np.hypot(0.6, 0.9), 8.0])


@pytest.mark.parametrize(("name", "entry"), [("HalfCheetah-v5", 1), ("Swimmer-v5", 0)])
def test_the_model_sees_no_difference_between_an_angle_and_a_turn_more(name, entry):
    task, episode = collected(name)
    states, actions = episode.states[:-1], episode.actions_sent
    turned = states + 2 * np.pi * np.eye(task.state_dim)[entry]
    assert np.allclose(task.model_input(turned, actions), task.model_input(states, actions), atol=1e-9)
    change = task.model_target(states, episode.states[1:])
    assert change[:, entry] == pytest.approx(np.diff(episode.states[:, entry])), (
        "what is predicted is the angle's change"
    )
    following = task.next_state(turned, actions, change)
    assert np.allclose(following[:, entry], episode.states[1:, entry] + 2 * np.pi, atol=1e-6)


def test_cosine_and_sine_stand_in_place_of_the_angle():
    task, _ = collected("Swimmer-v5")
    state = np.array([np.pi / 6, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])  # the last is the reward
    seen = task.model_input(state, np.array([0.5, -0.5]))
    assert np.allclose(seen, [1, 2, 3, 4, 5, 6, 7, np.sqrt(0.75), 0.5, 0.5, -0.5])


def test_another_goal_changes_only_what_depends_on_it():
    task, episode = collected("Reacher-v5")
    state, goal = episode.states[-1], np.array([0.05, -0.1])
    before, after = task.observe(state, episode.goal), task.observe(state, goal)
    assert np.array_equal(after[4:6], goal)
    assert np.allclose(after[8:10] + goal, before[8:10] + before[4:6])
    assert np.array_equal(np.delete(after, [4, 5, 8, 9]), np.delete(before, [4, 5, 8, 9]))


def test_actions_are_scaled_to_the_environments_bounds_and_odd_spaces_flattened():
    task, episode = collected("Slope-v0")
    assert (task.obs_dim, task.action_dim, task.goal_dim) == (3, 1, 0)
    assert np.allclose(task.env_action(np.array([[-1.0], [0.0], [1.0]])), [[-1.0], [1.0], [3.0]])
    steps = np.diff(episode.states[:, np.ptp(episode.states[:, :3], axis=0).argmax()])
    assert np.allclose(steps, 1 + 2 * episode.actions_sent[:, 0], atol=1e-6)


def test_an_unknown_reward_and_end_are_parts_of_the_state():
    task, episode = collected("Slope-v0")
    assert task.state_dim == 5
    assert episode.terminated and not episode.truncated
    assert np.allclose(episode.states[1:, 3], episode.rewards)
    assert episode.states[:, 4].tolist() == [0.0] * episode.steps + [1.0]
    none = np.zeros((episode.steps, 0))
    assert task.terminates(episode.states[1:], none).tolist() == [False] * (episode.steps - 1) + [True]
    rewards = task.reward(episode.states[:-1], episode.actions_sent, episode.states[1:], none)
    assert np.allclose(rewards, episode.rewards)


def test_a_known_reward_that_is_not_the_environments_is_refused():
    with pytest.raises(ValueError, match="Slope-v0: reward: expected 7.0"):
        collected("Slope-v0", reward=lambda obs, action, next_obs: 7.0 + 0 * obs[..., 0])


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (np.nan, "reward: expected a finite number, got nan"),
        (np.array([1.0]), r"reward: expected a number, got 'an array of shape \(1,\)'"),
        (None, "reward: expected a number, got None"),
    ],
)
def test_a_reward_that_is_not_a_number_is_refused(monkeypatch, bad, complaint):
    monkeypatch.setattr(Slope, "bad_reward", (bad,))
    with pytest.raises(ValueError, match=f"Slope-v0: {complaint}"):
        collected("Slope-v0")


def test_an_observation_of_another_shape_than_its_space_is_refused(monkeypatch):
    monkeypatch.setattr(Flat, "width", 4)
    with pytest.raises(ValueError, match=r"Flat-v0: observation: expected shape \(3,\), as its space says, got \(4,\)"):
        collected("Flat-v0")


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("CartPole-v1", "CartPole-v1: action_space: expected continuous"),
        ("Nowhere-v7", "env: expected an environment that Gymnasium knows"),
        ("no_such_module:Nowhere-v7", "env: expected an environment that is installed, got .*no_such_module"),
        ("Unending-v0", "Unending-v0: max_episode_steps: expected a time limit"),
        ("HalfCheetah-v3", "env: expected an environment that is installed, got 'HalfCheetah-v3"),
        ("Headless-v0", "env: expected an environment that opens, got 'Headless-v0: RuntimeError: no display"),
        ("Listed-v0", "Listed-v0: observation_space: expected one of fixed size, got"),
    ],
)
def test_an_environment_that_will_not_do_is_refused(name, complaint):
    with pytest.raises(ValueError, match=complaint):
        open_environment(name)


def test_an_episode_ends_when_the_budget_is_used_up():
    env = open_environment("Pendulum-v1")
    task = GymTask(env)
    episode = run_episode(env, task, ZeroActor(1), seed=0, budget=30)
    assert (episode.steps, episode.truncated, episode.end_reason) == (30, True, "step budget")
    whole = run_episode(env, task, ZeroActor(1), seed=0)
    assert (whole.steps, whole.truncated, whole.end_reason) == (200, True, "time limit")
    assert np.array_equal(whole.states[:31], episode.states)


def test_everybody_is_evaluated_on_the_same_seeds():
    env = open_environment("Pendulum-v1")
    task = GymTask(env)
    returns = evaluate(env, task, ZeroActor(1), episodes=3)
    single = [run_episode(env, task, ZeroActor(1), seed=EVALUATION_SEED + index).episode_return for index in range(3)]
    assert (returns.mean, returns.min) == (pytest.approx(np.mean(single)), min(single))
    both = baselines(env, task, episodes=3)
    assert both["zero"] == returns
    assert both["random"] == baselines(env, task, episodes=3)["random"] != returns
