"""`mbrl inspect`, `mbrl adapt` and `mbrl export` on files; the first two where there is no torch."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.adapting_bundle import imagining

from mbrl_core.actor import Actor
from mbrl_core.adaptation_config import ROUTES, AdaptationConfig
from mbrl_core.adapter import Adapter
from mbrl_core.algorithms.accepted import Accepted, BundleMaker, Trained
from mbrl_core.algorithms.inner_step import uniform_step_sizes
from mbrl_core.algorithms.value import ValueMlp
from mbrl_core.arm import load_profile
from mbrl_core.bundle import AdaptationMetadata, Bundle
from mbrl_core.models.normaliser import Normaliser
from mbrl_core.policies.gaussian_mlp import GaussianMlp, PolicyConfig
from mbrl_core.replay import read_episode, write_episode
from mbrl_core.robot_adaptation import RobotAdaptation
from mbrl_core.tasks.reach import ReachConfig, ReachTask
from mbrl_core.types import TIME_LIMIT
from mbrl_ros import cli
from mbrl_sim import gym_collect, profile_path, reach_env
from mbrl_sim.environment import open_environment
from mbrl_sim.gym_task import GymTask

torch.set_num_threads(1)

WITHOUT = """
import sys
forbidden = sys.argv.pop(1).split(",")
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in forbidden:
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Block())
from mbrl_ros.cli import main
main()
"""
FORBIDDEN = ("torch", "onnx", "onnxscript", "mujoco", "rclpy", "mbrl_msgs")


def mbrl(*arguments, without=FORBIDDEN):
    command = [sys.executable, "-c", WITHOUT, ",".join(without), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def bundle_for(task, *, max_kl=0.5, step_size=0.01) -> Bundle:
    """A policy that nobody trained."""
    generator = torch.Generator().manual_seed(0)
    policy = GaussianMlp(task.obs_dim, task.action_dim, PolicyConfig(hidden=(8,)))
    theta, value = policy.initial(generator), ValueMlp((task.obs_dim, 8, 1)).initial(generator)
    facts = AdaptationMetadata(form="lvc", discount=0.98, trace=0.95, max_kl=max_kl, value_layers=2)
    norm = Normaliser(torch.zeros(task.obs_dim), torch.ones(task.obs_dim))
    given = Accepted(
        version=3, trained=Trained(theta, value, uniform_step_sizes(theta, step_size)), obs_norm=norm, real_steps=1200
    )
    return BundleMaker(task, policy, adaptation=facts).make(given)


def reach_episode(acting: Bundle, index: int, rng):
    env = reach_env.ReachEnv(load_profile(profile_path("so101")), ReachConfig(duration_s=1.0))
    env.reset(seed=index)
    return reach_env.run_episode(env, Actor(acting), index=index, rng=rng)


def pendulum_episode(acting: Bundle, index: int, rng):
    env = open_environment("Pendulum-v1", episode_steps=30)
    return gym_collect.run_episode(env, GymTask(env), Actor(acting), seed=index, index=index, rng=rng)


WORLDS = {
    "reach": (lambda: ReachTask(load_profile(profile_path("so101"))), reach_episode, (*FORBIDDEN, "gymnasium")),
    "pendulum": (lambda: GymTask(open_environment("Pendulum-v1")), pendulum_episode, FORBIDDEN),
}


@pytest.fixture(params=WORLDS)
def world(request, tmp_path):
    """A bundle, a folder of three episodes that it explored in and three others, its task, what is not installed."""
    make_task, run_episode, without = WORLDS[request.param]
    task = make_task()
    bundle = bundle_for(task)
    bundle.save(tmp_path / "policy.mbrl")
    folder = tmp_path / "run/episodes"
    folder.mkdir(parents=True)
    episodes = [run_episode(bundle, index, np.random.default_rng(index)) for index in range(3)]
    other = dataclasses.replace(episodes[0], policy_versions=episodes[0].policy_versions + 1)
    others = [run_episode(bundle, 4, None), dataclasses.replace(episodes[0], inner_steps=1), other]
    for index, episode in enumerate([*episodes, *others]):
        write_episode(folder / f"episode-{index:06d}.safetensors", episode)
    return bundle, tmp_path, task, without


def test_an_offline_step_is_the_robots_to_the_bit_and_takes_no_torch(world):
    bundle, folder, task, without = world
    files = ["--bundle", folder / "policy.mbrl", "--episodes", folder / "run", "--out", folder / "adapted.mbrl"]
    ended = mbrl("adapt", *files, "--inner-steps", 3, without=without)
    assert ended.returncode == 0, ended.stderr
    left_out = "1 by another version than 3, 1 by a policy that was adapted, 1 without exploration"
    assert f"3 of 6 episodes used; left out: {left_out}" in ended.stdout
    assert "version 3 after 3 of 3 steps, real, on 3 episodes" in ended.stdout
    robot, theta = Adapter(bundle, task), bundle.theta
    used = [read_episode(path) for path in sorted((folder / "run/episodes").iterdir())[:3]]
    assert all(episode.exploring for episode in used)
    batch = robot.batch(used, [theta] * 3)
    for _ in range(3):
        theta = robot.step(theta, batch).theta
    adapted = Bundle.load(folder / "adapted.mbrl")
    assert np.array_equal(adapted.theta, theta)
    assert not np.array_equal(adapted.theta, bundle.theta)
    assert dataclasses.replace(adapted.metadata, files=(), parameters=0) == bundle.metadata


@pytest.mark.parametrize("route", ROUTES)
def test_offline_and_on_the_robot_the_same_episodes_give_the_same_policy_to_the_bit(route, world):
    bundle, folder, task, without = world
    read = [read_episode(path) for path in sorted((folder / "run/episodes").iterdir())]
    bundle = imagining(bundle, task, read)
    bundle.save(folder / "imagining.mbrl")
    files = ["--bundle", folder / "imagining.mbrl", "--episodes", folder / "run", "--out", folder / "adapted.mbrl"]
    ended = mbrl("adapt", *files, "--route", route, "--inner-steps", 3, without=without)
    assert ended.returncode == 0, ended.stderr
    assert f"version 3 after 3 of 3 steps, {route}, on 3 episodes" in ended.stdout
    config = AdaptationConfig(after_episodes=3, evaluate_episodes=2, route=route, inner_steps=3)
    robot = RobotAdaptation(bundle, Adapter(bundle, task), config)
    for episode in (read[3], read[3], *read[:3]):
        whole = dataclasses.replace(episode, end_reason=TIME_LIMIT)
        outcome = robot.add(whole, robot.turn)
    assert outcome.reason == "accepted: 3 inner steps on 3 episodes"
    assert np.array_equal(Bundle.load(folder / "adapted.mbrl").theta, robot.turn.bundle.theta)
    assert not np.array_equal(robot.turn.bundle.theta, bundle.theta)


def adapt_here(folder, bundle, *more):
    bundle.save(folder / "policy.mbrl")
    files = ["--bundle", folder / "policy.mbrl", "--episodes", folder / "run", "--out", folder / "adapted.mbrl"]
    return cli.run(["adapt", *map(str, files), *more])


@pytest.fixture
def pendulum(tmp_path):
    """A folder with two episodes of a policy, and that policy."""
    bundle = bundle_for(GymTask(open_environment("Pendulum-v1")))
    (tmp_path / "run").mkdir()
    for index in range(2):
        episode = pendulum_episode(bundle, index, np.random.default_rng(index))
        write_episode(tmp_path / f"run/episode-{index:06d}.safetensors", episode)
    return tmp_path, bundle


def test_a_step_that_goes_too_far_is_not_taken(pendulum, capsys):
    folder, bundle = pendulum
    tight = dataclasses.replace(bundle.metadata.adaptation, max_kl=1e-9)
    bundle = dataclasses.replace(bundle, metadata=dataclasses.replace(bundle.metadata, adaptation=tight))
    assert adapt_here(folder, bundle) == 1
    assert "ended: KL of the step: expected at most 1e-09 nats" in capsys.readouterr().out
    assert not (folder / "adapted.mbrl").exists()


def test_the_last_good_step_is_kept(pendulum, capsys):
    """Ten times the step sizes: on the same episodes again and again, the steps grow."""
    folder, bundle = pendulum
    task = GymTask(open_environment("Pendulum-v1"))
    bundle = bundle_for(task, max_kl=0.05, step_size=0.1)
    assert adapt_here(folder, bundle, "--inner-steps", "20") == 0
    shown = capsys.readouterr().out
    robot, theta, taken = Adapter(bundle, task), bundle.theta, 0
    batch = robot.batch([read_episode(path) for path in sorted((folder / "run").iterdir())], [theta] * 2)
    while not robot.why_refused(step := robot.step(theta, batch)):
        theta, taken = step.theta, taken + 1
    assert 1 < taken < 20
    assert "ended: KL of the step: expected at most 0.05 nats" in shown
    assert shown.count("step: loss ") == taken + 1
    assert f"version 3 after {taken} of 20 steps" in shown
    assert np.array_equal(Bundle.load(folder / "adapted.mbrl").theta, theta)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"policy_versions": np.zeros(30, dtype=np.uint32)}, "episodes: expected some that version 3 explored in"),
        ({"exploring": False}, "episodes: expected some that version 3 explored in, got '1 without exploration'"),
        ({"task": "Acrobot"}, "episode-000000.safetensors: task: expected 'Pendulum-v1', got 'Acrobot'"),
        ({"arm": "so101"}, "episode-000000.safetensors: arm: expected '', got 'so101'"),
        ({"states": np.zeros((31, 5))}, "episode.states: expected width 3, got (31, 5)"),
        (None, "episodes: expected a folder with episode-*.safetensors, or of a run, got"),
    ],
)
def test_episodes_that_say_nothing_of_the_policy_are_refused(change, complaint, pendulum, capsys):
    folder, bundle = pendulum
    episode = read_episode(folder / "run/episode-000000.safetensors")
    for path in (folder / "run").iterdir():
        path.unlink()
    if change is not None:
        write_episode(folder / "run/episode-000000.safetensors", dataclasses.replace(episode, **change))
    assert adapt_here(folder, bundle) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1
    assert not (folder / "adapted.mbrl").exists()


def test_a_file_that_is_there_is_not_written_over(pendulum, capsys):
    folder, bundle = pendulum
    (folder / "adapted.mbrl").write_bytes(b"mine")
    assert adapt_here(folder, bundle) == 2
    assert "out: expected a new policy file (.mbrl) in a folder that exists" in capsys.readouterr().err
    assert (folder / "adapted.mbrl").read_bytes() == b"mine"


def test_a_policy_without_an_inner_step_is_refused(trained, tmp_path, capsys):
    command = f"adapt --bundle {trained}/policy.mbrl --episodes {trained} --out {tmp_path}/adapted.mbrl"
    assert cli.run(command.split()) == 2
    assert "bundle.adaptation: expected a policy of a method with an inner step, got None" in capsys.readouterr().err


def test_inspect_shows_what_a_bundle_is_where_there_is_no_torch(tmp_path):
    bundle = bundle_for(ReachTask(load_profile(profile_path("so101"))))
    bundle.save(tmp_path / "policy.mbrl")
    ended = mbrl("inspect", tmp_path / "policy.mbrl", "--profile", "so101", without=(*FORBIDDEN, "gymnasium"))
    assert ended.returncode == 0, ended.stderr
    shown = ended.stdout
    for file in Bundle.load(tmp_path / "policy.mbrl").metadata.files:
        assert f"{file.name}: " in shown
        assert file.sha256 in shown
    for words in (
        "real_steps",
        "1,200",
        "20 Hz",
        "adaptation.max_kl",
        "0.5 nats",
        "step sizes",
        "goal_minus_tip 21:24",
    ):
        assert words in shown, words
    assert "fits the arm so101, task reach; so101 checked; it has an inner step" in shown


def test_inspect_refuses_what_does_not_fit_or_is_damaged(tmp_path, trained, capsys):
    assert cli.run(["inspect", f"{trained}/policy.mbrl"]) == 0
    assert "fits the environment Pendulum-v1; it has an ensemble to watch it" in capsys.readouterr().out
    assert cli.run(["inspect", f"{trained}/policy.mbrl", "--profile", "so101"]) == 2
    assert "mbrl: bundle.arm: expected so101, got ''" in capsys.readouterr().err
    data = bytearray((trained / "policy.mbrl").read_bytes())
    data[len(data) // 2] ^= 0x55
    (tmp_path / "broken.mbrl").write_bytes(data)
    assert cli.run(["inspect", f"{tmp_path}/broken.mbrl"]) == 2
    assert "mbrl: bundle" in capsys.readouterr().err


def test_export_gives_the_policy_of_a_run(trained, tmp_path, capsys):
    assert cli.run(f"export --run {trained} --out {tmp_path}/again.mbrl".split()) == 0
    assert "for Pendulum-v1; no inner step, ensemble" in capsys.readouterr().out
    assert (tmp_path / "again.mbrl").read_bytes() == (trained / "policy.mbrl").read_bytes()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/policy.mbrl").write_bytes((trained / "policy.mbrl").read_bytes())
    assert cli.run(f"export --run {tmp_path}/other --out {tmp_path}/copied.mbrl".split()) == 0
    assert (tmp_path / "copied.mbrl").read_bytes() == (trained / "policy.mbrl").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("--out new.mbrl", "run: expected a folder of a run, got ''"),
        (
            "--run . --out new.mbrl",
            "run: expected a folder with config.json and checkpoint.safetensors, or with policy",
        ),
        (
            "--run . --out taken.mbrl",
            "out: expected a new policy file (.mbrl) in a folder that exists, got 'taken.mbrl'",
        ),
        ("--run . --out no/where.mbrl", "out: expected a new policy file (.mbrl) in a folder that exists"),
    ],
)
def test_export_refuses_what_it_cannot_read_or_write(arguments, complaint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("taken.mbrl").write_bytes(b"mine")
    assert cli.run(f"export {arguments}".split()) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"mbrl: {complaint}")
    assert os.listdir(tmp_path) == ["taken.mbrl"]
