"""A reward function from a file of the user's: loaded, which runs the file, and tried on real steps before use."""

import hashlib
import importlib.util
import sys
from pathlib import Path

import numpy as np
import torch

from mbrl_core.config import refuse
from mbrl_core.types import Array, Episode
from mbrl_sim.gym_task import GymTask
from mbrl_sim.rewarded import Reward

MODULE = "mbrl_reward_file"  # in sys.modules; a name that no file of a user's imports
TOLERANCE = 1e-5  # between numpy and torch, relative, both with 64 bits


def load_reward(where: str) -> Reward:
    """Run a Python file and return one of its functions.

    Args:
      where: FILE.py:function.

    Raises:
      ValueError: not of that form, no such file, the file does not run, or it has no such function.
    """
    path, name = _parts(where)
    spec = importlib.util.spec_from_file_location(MODULE, path)
    if spec is None or spec.loader is None:
        raise refuse("reward", "a Python file", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE] = module  # a dataclass looks there for its annotations
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever the user's code raises; an exit would pass for success
        raise refuse(f"reward: {path}", "Python that runs", _text(error)) from error
    function = getattr(module, name, None)
    if not callable(function):
        functions = sorted(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        raise refuse(f"reward: {path}", f"a function {name}", functions)
    reward: Reward = function
    return reward


def reward_sha256(where: str) -> str:
    """What a reward's file holds, as a hash; it is not executed.

    Raises:
      ValueError: not of that form, or no such file.
    """
    return hashlib.sha256(Path(_parts(where)[0]).read_bytes()).hexdigest()


def check_reward(where: str, reward: Reward, task: GymTask, episode: Episode, device: str = "cpu") -> None:
    """Try a function on an episode, by numpy and by torch.

    Args:
      where: its name in messages.
      reward: the function.
      task: of the environment.
      episode: real steps.
      device: torch's name of where it will be called.

    Raises:
      ValueError: it raises, gives another shape than one number a step, no finite real numbers, or numpy and torch
        disagree.
    """
    goals = np.broadcast_to(episode.goal, (episode.steps, task.goal_dim))
    obs, next_obs = task.observe(episode.states[:-1], goals), task.observe(episode.states[1:], goals)
    steps = (obs, np.asarray(task.env_action(episode.actions_sent)), next_obs)
    expected = np.asarray(_paid(where, reward, steps, "numpy"))
    _paid(where, reward, tuple(array[0] for array in steps), "numpy")
    tensors = [torch.as_tensor(array, device=device).requires_grad_() for array in steps]  # may be differentiated
    _paid(where, reward, tuple(tensor[None] for tensor in tensors), "torch")
    got = np.asarray(_paid(where, reward, tuple(tensors), "torch").detach().cpu())
    if not np.allclose(got, expected, rtol=TOLERANCE, atol=TOLERANCE):
        worst = int(np.abs(got - expected).argmax())
        raise refuse(f"reward: {where}: by torch", f"{float(expected[worst])}, as by numpy", float(got[worst]))


def _paid(where: str, reward: Reward, steps: tuple[Array, ...], kind: str) -> Array:
    """What the function says of some steps, checked: (...)."""
    name, shape = f"reward: {where}: by {kind}", tuple(steps[0].shape[:-1])
    try:
        with np.errstate(all="ignore"):  # what comes of it is refused below
            value = reward(*steps)
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        raise refuse(name, f"a value for obs, action, next_obs of shapes {_shapes(steps)}", _text(error)) from error
    wanted = torch.Tensor if kind == "torch" else np.ndarray | np.floating
    if not isinstance(value, wanted) or tuple(value.shape) != shape:
        got = tuple(value.shape) if isinstance(value, torch.Tensor | np.ndarray) else type(value).__name__
        raise refuse(name, f"shape {shape} for obs, action, next_obs of shapes {_shapes(steps)}", got)
    plain = np.asarray(value.detach().cpu() if isinstance(value, torch.Tensor) else value)
    if plain.dtype.kind != "f":
        raise refuse(name, "floating-point numbers", str(plain.dtype))
    if not np.isfinite(plain).all():
        raise refuse(name, "finite numbers", float(plain[~np.isfinite(plain)].flat[0]))
    return value


def _parts(where: str) -> tuple[str, str]:
    """File and function."""
    path, _, name = where.rpartition(":")
    if not path.endswith(".py") or not name.isidentifier():
        raise refuse("reward", "FILE.py:function", where)
    if not Path(path).is_file():
        raise refuse("reward", "a Python file", path)
    return path, name


def _shapes(steps: tuple[Array, ...]) -> str:
    return ", ".join(str(tuple(array.shape)) for array in steps)


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
