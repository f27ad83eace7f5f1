"""A reward function of the user's is tried before it is used, and a bad one refused by name."""

import numpy as np
import pytest

from mbrl_core.actor import RandomActor
from mbrl_ros.reward_file import check_reward, load_reward
from mbrl_sim.environment import open_environment
from mbrl_sim.gym_collect import run_episode
from mbrl_sim.gym_task import GymTask

HEAD = "import math\nimport sys\nimport numpy as np\nimport torch\n\n"


@pytest.fixture(scope="module")
def pendulum():
    env = open_environment("Pendulum-v1")
    task = GymTask(env)
    actor = RandomActor(1, hold_steps=5, take_back=False)
    return task, run_episode(env, task, actor, seed=0, rng=np.random.default_rng(0), budget=20)


def write(folder, body):
    (folder / "mine.py").write_text(f"{HEAD}def reward(obs, action, next_obs):\n    return {body}\n")
    return f"{folder / 'mine.py'}:reward"


def test_a_function_is_loaded_from_its_file(tmp_path):
    where = write(tmp_path, "obs[..., 0] + action[..., 0]")
    assert load_reward(where)(np.array([1.0, 2.0]), np.array([3.0]), None) == 4.0


def test_a_file_may_have_dataclasses_whose_annotations_are_text(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from __future__ import annotations\nimport dataclasses\n\n"
        "@dataclasses.dataclass\nclass Weights:\n    speed: float = 2.0\n\n"
        "def reward(obs, action, next_obs):\n    return Weights().speed * obs\n"
    )
    assert load_reward(f"{tmp_path / 'mine.py'}:reward")(3.0, None, None) == 6.0


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("", "reward: expected FILE.py:function, got ''"),
        ("mine.py", "reward: expected FILE.py:function, got 'mine.py'"),
        ("none.py:reward", "reward: expected a Python file, got 'none.py'"),
        ("mine.py:spin", "reward: mine.py: expected a function spin, got ['reward']"),
        ("bad.py:reward", "reward: bad.py: expected Python that runs, got 'SyntaxError"),
        ("raises.py:reward", 'reward: raises.py: expected Python that runs, got "KeyError'),
        ("leaves.py:reward", "reward: leaves.py: expected Python that runs, got 'SystemExit: 0'"),
    ],
)
def test_what_is_no_function_in_a_file_is_refused(name, complaint, tmp_path, monkeypatch):
    write(tmp_path, "obs[..., 0]")
    (tmp_path / "bad.py").write_text("def reward(:")
    (tmp_path / "raises.py").write_text("{}['missing']")
    (tmp_path / "leaves.py").write_text("raise SystemExit(0)")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="expected") as refusal:
        load_reward(name)
    assert str(refusal.value).startswith(complaint)


@pytest.mark.parametrize("body", ["-(next_obs[..., 2] ** 2)", "action[..., 0] * obs[..., 0]", "1.0 + 0 * obs[..., 0]"])
def test_a_function_for_numpy_and_torch_alike_is_taken(body, tmp_path, pendulum):
    check_reward("mine", load_reward(write(tmp_path, body)), *pendulum)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("obs", r"mine: by numpy: expected shape \(20,\) for obs, .* \(20, 3\), \(20, 1\), \(20, 3\), got \(20, 3\)"),
        ("obs[:, 0]", "mine: by numpy: expected a value for obs, .* 'IndexError"),
        ("obs[..., 7]", "mine: by numpy: expected a value for obs, .* 'IndexError"),
        ("sys.exit()", r"mine: by numpy: expected a value for obs, .* got 'SystemExit"),
        ("1.0", r"mine: by numpy: expected shape \(20,\) .* got 'float'"),
        ("obs[..., 0] > 0", "mine: by numpy: expected floating-point numbers, got 'bool'"),
        ("obs[..., 0] + math.nan", "mine: by numpy: expected finite numbers, got nan"),
        ("obs[..., 0] + math.inf", "mine: by numpy: expected finite numbers, got inf"),
        ("np.abs(obs[..., 0])", "mine: by torch: expected a value for obs, .* .RuntimeError"),
        ("torch.abs(obs[..., 0])", "mine: by numpy: expected a value for obs, .* .TypeError"),
        ("obs[..., 0] + isinstance(obs, torch.Tensor)", "mine: by torch: expected .*, as by numpy, got"),
    ],
)
def test_a_function_that_will_not_do_is_refused_with_field_expected_and_got(body, complaint, tmp_path, pendulum):
    with pytest.raises(ValueError, match=complaint):
        check_reward("mine", load_reward(write(tmp_path, body)), *pendulum)
