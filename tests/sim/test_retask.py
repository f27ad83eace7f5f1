"""Another reward in the models of an earlier run: what it needs, what it leaves, and that it can be resumed."""

import csv
import dataclasses
import json

import numpy as np
import pytest

from mbrl_core.actor import RandomActor
from mbrl_core.algorithms.me_ppo import MePpoConfig, me_ppo
from mbrl_core.algorithms.ppo import PpoConfig
from mbrl_core.algorithms.validation import ValidationConfig
from mbrl_core.bundle import Bundle
from mbrl_core.checkpoint import read_checkpoint
from mbrl_core.models.ensemble import EnsembleConfig
from mbrl_core.models.imagination import ImaginationConfig
from mbrl_core.replay import Replay
from mbrl_sim import retask as retask_module
from mbrl_sim.environment import open_environment
from mbrl_sim.gym_collect import run_episode
from mbrl_sim.gym_task import GymTask
from mbrl_sim.retask import Retask, RetaskPlan
from mbrl_sim.rewarded import rewarded_task
from mbrl_sim.training import BUNDLE, CHECKPOINT, PROGRESS, SUMMARY, Budget, Schedule, Training

STEPS = 60
SMALL = MePpoConfig(
    iterations=10,
    ensemble=EnsembleConfig(hidden=(16,), max_steps=50),
    imagination=ImaginationConfig(rollouts=50, horizon=10),
    ppo=PpoConfig(minibatch=250, learning_rate=3e-3),
    validation=ValidationConfig(goals=5, horizon=20, ratio=0.4),
)


def push(obs, action, next_obs):
    """Best at a torque of 1 N m; 0 N m costs 1 a step, whatever the pendulum does."""
    return -((action[..., 0] - 1.0) ** 2)


class KilledError(Exception):
    """As if the process had been."""


class Silent:
    """Watches; may end the retask at a round."""

    def __init__(self, kill=0):
        self.kill = kill

    def episode(self, episode, real_steps):
        pass

    def round(self, row):
        if row.get("round") == self.kill:
            raise KilledError


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """A run on Pendulum of two rounds."""
    out, env = tmp_path_factory.mktemp("earlier"), open_environment("Pendulum-v1", episode_steps=STEPS)
    task = GymTask(env)
    schedule = Schedule(random_steps=60, round_steps=60, holdout_block=10, eval_episodes=1, curve_episodes=1)
    budget = Budget(env="Pendulum-v1", algorithm="me-ppo", steps=120, seed=0)
    Training(env, task, me_ppo(task, SMALL, seed=0), out, budget, schedule).run(Silent())
    return out


def learner_on(task, earlier, seed=0):
    learner = me_ppo(task, SMALL, seed=seed)
    learner.adopt_ensemble(read_checkpoint(earlier / CHECKPOINT))
    return learner


PLAN = RetaskPlan(
    run="",
    env="Pendulum-v1",
    algorithm="me-ppo",
    reward="push.py:push",
    reward_sha256="one",
    model_real_steps=120,
    rounds=3,
    seed=0,
    curve_episodes=1,
    eval_episodes=2,
)


def retask(earlier, out, *, sha="one", seed=0):
    env, task = rewarded_task(open_environment("Pendulum-v1", episode_steps=STEPS), push)
    plan = dataclasses.replace(PLAN, run=str(earlier), reward_sha256=sha, seed=seed)
    out.mkdir(exist_ok=True)
    replay = Replay(earlier / "episodes", holdout_block=10)
    return Retask(env, task, learner_on(task, earlier, seed), replay, Bundle.load(earlier / BUNDLE), out, plan)


def without_times(out):
    summary = json.loads((out / SUMMARY).read_text())
    with (out / PROGRESS).open() as file:
        rows = list(csv.DictReader(file))
    for row in (summary, *rows):
        for name in [name for name in row if name.endswith("_s")]:
            del row[name]
    return summary, rows, (out / BUNDLE).read_bytes()


def test_a_policy_learns_the_new_reward_without_a_real_step(earlier, tmp_path):
    before = {path: path.read_bytes() for path in earlier.rglob("*") if path.is_file()}
    summary = retask(earlier, tmp_path).run(Silent())
    assert summary == json.loads((tmp_path / SUMMARY).read_text())
    assert (summary["real_steps"], summary["model_real_steps"]) == (0, 120)
    assert summary["zero_return"] == -STEPS
    assert summary["eval_return_mean"] > -0.5 * STEPS
    assert summary["eval_return_mean"] > summary["old_policy_return_mean"]
    bundle = Bundle.load(tmp_path / BUNDLE)
    assert bundle.version == summary["policy_version"] > 0
    assert bundle.metadata.reward == "push.py:push, sha256 one"
    assert {path: path.read_bytes() for path in earlier.rglob("*") if path.is_file()} == before


def test_the_ensemble_is_that_of_the_earlier_run_and_stays(earlier, tmp_path):
    run = retask(earlier, tmp_path)
    run.run(Silent())
    old, new = read_checkpoint(earlier / CHECKPOINT).arrays, read_checkpoint(tmp_path / CHECKPOINT).arrays
    names = [name for name in old if name.startswith("ensemble.") and not name.endswith("generator")]
    assert names, "generators are a device's own; only a fit draws from them"
    assert all((old[name] == new[name]).all() for name in names)
    assert all((row["fit_steps"], row["holdout_loss"]) == (0, None) for row in run.rows)
    assert all(row["disagreement"] > 0 for row in run.rows), "measured, though nothing was fitted"


@pytest.mark.parametrize("kill", [1, 2])
def test_a_killed_retask_that_is_resumed_ends_like_one_that_was_not(earlier, tmp_path, kill):
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    retask(earlier, straight).run(Silent())
    with pytest.raises(KilledError):
        retask(earlier, broken).run(Silent(kill))
    retask(earlier, broken).run(Silent())
    assert without_times(broken) == without_times(straight)


@pytest.mark.parametrize("part", ["write_rows", "Bundle.save"])
def test_a_retask_that_was_killed_after_its_last_checkpoint_leaves_what_it_holds(earlier, tmp_path, monkeypatch, part):
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    retask(earlier, straight).run(Silent())
    where, name = (retask_module, part) if part == "write_rows" else (Bundle, "save")
    write, calls = getattr(where, name), []

    def killed(*given):
        calls.append(given)
        if len(calls) == 3:
            raise KilledError
        return write(*given)

    with monkeypatch.context() as patch:
        patch.setattr(where, name, killed)
        with pytest.raises(KilledError):
            retask(earlier, broken).run(Silent())
    assert len(read_checkpoint(broken / CHECKPOINT).facts["retask"]["rows"]) == 3
    retask(earlier, broken).run(Silent())
    assert without_times(broken) == without_times(straight)


def test_a_retask_does_not_go_on_with_another_reward(earlier, tmp_path):
    with pytest.raises(KilledError):
        retask(earlier, tmp_path).run(Silent(2))
    with pytest.raises(ValueError, match="reward_sha256: expected one, got 'two'"):
        retask(earlier, tmp_path, sha="two")


def test_a_step_is_paid_by_the_new_reward_over_raw_observations_and_actions():
    env, task = rewarded_task(
        open_environment("Pendulum-v1"), lambda obs, action, next_obs: 10 * (next_obs - obs)[..., 2] + action[..., 0]
    )

    class Half:
        version = 0

        def draw(self, obs, rng=None):
            return np.array([0.5])

    episode = run_episode(env, task, Half(), seed=0, budget=5)
    speed = episode.states[:, 2]
    assert episode.rewards == pytest.approx(10 * (speed[1:] - speed[:-1]) + 1.0, abs=1e-4)
    none = episode.states[:-1, :0]
    assert task.reward(episode.states[:-1], episode.actions_sent, episode.states[1:], none) == pytest.approx(
        episode.rewards, abs=1e-4
    )


@pytest.mark.parametrize("name", ["HalfCheetah-v5", "Hopper-v5"])  # the reward is learned in part, as a whole
def test_where_the_reward_was_learned_states_stay_what_they_were_and_the_new_one_alone_counts(name):
    own = GymTask(open_environment(name))
    env, task = rewarded_task(open_environment(name), push)
    assert (task.state_dim, task.learned_dim, task.input_dim) == (own.state_dim, own.learned_dim, own.input_dim)
    actor = RandomActor(task.action_dim, hold_steps=1, take_back=False)
    episode = run_episode(env, task, actor, seed=0, rng=np.random.default_rng(0), budget=5)
    states, actions, none = episode.states[:-1], episode.actions_sent, episode.states[:-1, :0]
    assert episode.rewards == pytest.approx(-((task.env_action(actions)[:, 0] - 1.0) ** 2), abs=1e-4)
    for learned in (0.0, 7.0):
        following = episode.states[1:].copy()
        following[:, task.obs_dim] = learned  # the part that was for the earlier reward
        assert task.reward(states, actions, following, none) == pytest.approx(episode.rewards, abs=1e-4)
        assert not np.allclose(own.reward(states, actions, following, none), episode.rewards)


def test_a_policy_learns_another_reward_in_models_that_had_to_learn_their_own(tmp_path):
    run, out = tmp_path / "run", tmp_path / "new"
    own = open_environment("Hopper-v5", episode_steps=STEPS)
    schedule = Schedule(random_steps=60, round_steps=60, holdout_block=10, eval_episodes=1, curve_episodes=1)
    budget = Budget(env="Hopper-v5", algorithm="me-ppo", steps=120, seed=0)
    Training(own, GymTask(own), me_ppo(GymTask(own), SMALL, seed=0), run, budget, schedule).run(Silent())
    env, task = rewarded_task(open_environment("Hopper-v5", episode_steps=STEPS), push)
    plan = dataclasses.replace(PLAN, run=str(run), env="Hopper-v5")
    out.mkdir()
    replay = Replay(run / "episodes", holdout_block=10)
    learner = learner_on(task, run)
    summary = Retask(env, task, learner, replay, None, out, plan).run(Silent())
    assert summary["eval_return_mean"] / summary["zero_return"] < 0.8, "a cost"
