"""Inner steps on imagined rollouts: their length, where they lead, what they refuse, and that they need no torch."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fakes.adapting_bundle import adapting_bundle, imagining
from fakes.blocked import WITHOUT_LEARNING
from fakes.point_task import STEP, PointTask, point_episode

from mbrl_core.actor import Actor
from mbrl_core.adapter import Adapter
from mbrl_core.imagined_config import GapConfig, ImaginedStepsConfig
from mbrl_core.imagined_steps import ImaginedSteps
from mbrl_core.replay import write_episode
from mbrl_core.routes import begin_steps
from mbrl_core.types import StepFlag
from mbrl_sim import gym_collect
from mbrl_sim.environment import open_environment
from mbrl_sim.gym_task import GymTask

ROOT = Path(__file__).parents[2]
TASK = PointTask()
QUICK = ImaginedStepsConfig(rollouts=40, horizon=10)
NOTHING_IS_BELIEVED = dataclasses.replace(QUICK, gap=GapConfig(ridge=1e12))
MIRRORED = -STEP  # what action 1 does on the robot: the opposite of what the ensemble was fitted to


def episodes(count, step=STEP, seed=0):
    rng = np.random.default_rng(seed)
    goals = TASK.sample_goal(rng, count)
    return [point_episode(rng, index=index, goal=goal, step=step) for index, goal in enumerate(goals)]


@pytest.fixture(scope="module")
def bundle():
    return imagining(adapting_bundle(TASK), TASK, episodes(5, seed=1))


def steps(bundle, real, config=QUICK):
    return ImaginedSteps(bundle, TASK, Adapter(bundle, TASK), real, config)


def taken(bundle, real, config=QUICK, count=25):
    """Parameters after so many steps."""
    route, theta = steps(bundle, real, config), bundle.theta
    for _ in range(count):
        theta = route(theta).theta
    return theta


def mean_return(bundle, theta, step):
    """Of the policy's mean, in a world where action 1 does `step`."""
    actor, rng = Actor(dataclasses.replace(bundle, theta=theta)), np.random.default_rng(5)
    goals = TASK.sample_goal(rng, 20)
    played = [point_episode(rng, actor.draw, goal=goal, step=step) for goal in goals]
    return np.mean([episode.episode_return for episode in played])


@pytest.mark.parametrize("step_kl", [0.001, 0.01, 0.05])
def test_a_step_is_as_long_as_it_was_asked_to_be(step_kl, bundle):
    config = dataclasses.replace(QUICK, step_kl=step_kl, half_after=4.0)
    route, theta = steps(bundle, episodes(2), config), bundle.theta
    for taken in range(8):
        step, asked = route(theta), step_kl / (1 + taken / 4) ** 2
        assert asked / 2 < step.kl < 2 * asked
        assert step.loss_after <= step.loss
        theta = step.theta
    assert theta.dtype == np.float32


def test_in_a_world_set_right_a_policy_gets_better_and_else_it_gets_worse(bundle):
    real = episodes(2, step=MIRRORED)
    before = mean_return(bundle, bundle.theta, MIRRORED)
    assert mean_return(bundle, taken(bundle, real), MIRRORED) > before + 0.5
    assert mean_return(bundle, taken(bundle, real, NOTHING_IS_BELIEVED), MIRRORED) < before - 0.5


def test_a_policy_is_judged_by_what_its_mean_earns_in_the_world_set_right(bundle):
    """In the mirrored world the policy that was adapted to it earns more; without the correction, less."""
    real = episodes(2, step=MIRRORED)
    route, adapted = steps(bundle, real), taken(bundle, real)
    before, after = route.earned(bundle.theta), route.earned(adapted)
    assert before.shape == after.shape == (2,)
    assert (after > before + 0.5).all()
    assert np.array_equal(route.earned(bundle.theta), before), "the same trials every time"
    unbelieving = steps(bundle, real, NOTHING_IS_BELIEVED)
    assert (unbelieving.earned(adapted) < unbelieving.earned(bundle.theta) - 0.5).all()


def test_trials_begin_where_the_episodes_began(bundle):
    real = episodes(3)
    gap = np.zeros(TASK.steps, dtype=np.uint8)
    gap[0] = StepFlag.GAP
    route = steps(bundle, [dataclasses.replace(real[0], flags=gap), *real[1:]])
    starts = route._real.states[route._trials]
    expected = [real[0].states[1], real[1].states[0], real[2].states[0]]
    assert np.array_equal(np.unique(starts, axis=0), np.unique(expected, axis=0))


def test_the_same_seed_takes_the_same_steps_to_the_bit(bundle):
    real = episodes(2)
    one, same = (taken(bundle, real, count=3) for _ in range(2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, taken(bundle, real, dataclasses.replace(QUICK, seed=1), count=3))


def test_every_step_has_rollouts_of_its_own(bundle):
    route = steps(bundle, episodes(2))
    assert not np.array_equal(route(bundle.theta).theta, route(bundle.theta).theta)


def test_rollouts_are_rounded_up_to_as_many_for_every_member(bundle):
    three = steps(bundle, episodes(1), dataclasses.replace(QUICK, rollouts=3, horizon=4))
    assert len(three._imagine(bundle.theta).obs) == 4 * 4


def test_nothing_begins_without_an_ensemble_or_a_step_that_counts(bundle):
    with pytest.raises(ValueError, match="bundle.ensemble: expected a policy with an ensemble, got None"):
        steps(adapting_bundle(TASK), episodes(1))
    gaps = [dataclasses.replace(one, flags=np.full(TASK.steps, StepFlag.GAP, dtype=np.uint8)) for one in episodes(2)]
    with pytest.raises(ValueError, match="episodes: expected at least one step without a gap, got '2 episodes'"):
        steps(bundle, gaps)
    with pytest.raises(ValueError, match="step_kl: expected at most 1.0, got 2.0"):
        steps(bundle, episodes(1), dataclasses.replace(QUICK, step_kl=2.0))
    with pytest.raises(ValueError, match="ridge: expected at least 0, got -1.0"):
        steps(bundle, episodes(1), dataclasses.replace(QUICK, gap=GapConfig(ridge=-1.0)))


def test_what_is_not_finite_is_refused(bundle):
    broken = imagining(adapting_bundle(TASK), TASK, episodes(5, seed=1), break_with=np.nan)
    with pytest.raises(ValueError, match="imagination: expected finite rewards and states"):
        steps(broken, episodes(1))(bundle.theta)
    with pytest.raises(ValueError, match=r"theta: expected \(\d+,\), finite"):
        steps(bundle, episodes(1))(bundle.theta * np.float32(np.nan))


def test_a_policy_that_no_gradient_moves_stays_where_it_is(bundle):
    """Step sizes of 0: the trial has a KL of 0, from which no length can be told."""
    still = dataclasses.replace(bundle, step_sizes=np.zeros_like(bundle.theta))
    step = steps(still, episodes(1))(bundle.theta)
    assert np.array_equal(step.theta, bundle.theta)
    assert abs(step.kl) < 1e-6


def test_either_route_begins_by_its_name(bundle):
    real, adapter = episodes(2), Adapter(bundle, TASK)
    imagined = begin_steps("imagined", bundle, adapter, bundle.theta, real, QUICK)
    assert np.array_equal(imagined.step(bundle.theta).theta, taken(bundle, real, count=1))
    assert imagined.earned(bundle.theta).shape == (2,)
    plain = begin_steps("real", bundle, adapter, bundle.theta, real, QUICK)
    batch = adapter.batch(real, [bundle.theta] * 2)
    first = plain.step(bundle.theta)
    assert np.array_equal(first.theta, adapter.step(bundle.theta, batch).theta)
    assert np.array_equal(plain.step(first.theta).theta, adapter.step(first.theta, batch).theta)
    assert plain.earned is None


def test_a_task_of_gymnasium_without_a_goal_has_imagined_steps_too():
    env = open_environment("Pendulum-v1", episode_steps=30)
    task, rng = GymTask(env), np.random.default_rng(0)
    meta = adapting_bundle(task)
    real = [gym_collect.run_episode(env, task, Actor(meta), seed=seed, index=seed, rng=rng) for seed in range(3)]
    meta = imagining(meta, task, real)
    route = ImaginedSteps(meta, task, Adapter(meta, task), real, QUICK)
    step = route(meta.theta)
    assert route.gap.goal_offset.shape == (0,)
    assert 0.01 < step.kl < 0.04
    assert step.loss_after < step.loss


WITHOUT_TORCH = WITHOUT_LEARNING + """
from pathlib import Path
from fakes.point_task import PointTask
from mbrl_core.adapter import Adapter
from mbrl_core.bundle import Bundle
from mbrl_core.imagined_config import ImaginedStepsConfig
from mbrl_core.replay import read_episode
from mbrl_core.routes import begin_steps
bundle, task = Bundle.load(Path(sys.argv[1])), PointTask()
real = [read_episode(Path(path)) for path in sys.argv[2:]]
config = ImaginedStepsConfig(rollouts=40, horizon=10)
route = begin_steps("imagined", bundle, Adapter(bundle, task), bundle.theta, real, config)
print(route.step(bundle.theta).theta.tobytes().hex())
"""


def test_the_robot_imagines_without_torch(bundle, tmp_path):
    real = episodes(2)
    bundle.save(tmp_path / "policy.mbrl")
    paths = [tmp_path / f"episode-{index:06d}.safetensors" for index in range(2)]
    for path, episode in zip(paths, real, strict=True):
        write_episode(path, episode)
    output = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, tmp_path / "policy.mbrl", *paths],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
    ).stdout
    there = np.frombuffer(bytes.fromhex(output.strip()), dtype=np.float32)
    assert np.array_equal(there, taken(bundle, real, count=1))
