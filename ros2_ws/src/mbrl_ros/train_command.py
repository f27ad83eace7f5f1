"""`mbrl train` and `mbrl resume`: a learner, an environment and a folder. No ROS.

The folder: config.json (every setting), demonstrations/ (where there are any), episodes/, checkpoint.safetensors,
progress.csv, tensorboard/, policy.mbrl and, at the end, summary.json.
"""

import dataclasses
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from mbrl_core.algorithms.bptt import BpttConfig, bptt
from mbrl_core.algorithms.learner import Learner
from mbrl_core.algorithms.mb_mpo import MbMpoConfig, mb_mpo
from mbrl_core.algorithms.me_ppo import MePpoConfig, me_ppo
from mbrl_core.algorithms.me_trpo import MeTrpoConfig, me_trpo
from mbrl_core.algorithms.vanilla import vanilla
from mbrl_core.config import from_mapping, refuse, setting
from mbrl_core.demonstrations import DEMONSTRATIONS, begin_with, read_demonstrations
from mbrl_core.replay import TEMPORARY, Replay, write_atomically
from mbrl_core.types import Episode
from mbrl_ros.node_configs import DEMONSTRATIONS_DOC
from mbrl_ros.provenance import git_commit, machine, versions
from mbrl_ros.train_view import TrainView
from mbrl_sim.environment import Env, open_environment
from mbrl_sim.gym_task import GymTask
from mbrl_sim.training import SUMMARY, Budget, Schedule, Training, check_budget

CONFIG = "config.json"
ALGORITHMS = ("vanilla", "bptt", "me-trpo", "me-ppo", "mb-mpo")
GROUPS = {"vanilla": "me_ppo", "bptt": "bptt", "me-trpo": "me_trpo", "me-ppo": "me_ppo", "mb-mpo": "mb_mpo"}
SET_BY_VANILLA = ("me_ppo.ensemble.members", "me_ppo.ensemble.elites", "me_ppo.validation.ratio")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Learn a policy for a Gymnasium environment."""

    env: str = setting("", doc="id of the environment, for example Pendulum-v1")
    algorithm: str = setting("me-ppo", doc="method", one_of=ALGORITHMS)
    steps: int = setting(10_000, doc="real steps: all that are learned from", low=1)
    seed: int = setting(0, doc="of everything", low=0)
    out: str = setting("", doc="folder of the run, new")
    episode_steps: int = setting(0, doc="length of an episode; 0 = the environment's own", low=0)
    demonstrations: str = setting("", doc=DEMONSTRATIONS_DOC)
    threads: int = setting(1, doc="threads of torch; the same number gives the same curve", low=1)
    device: str = setting(
        "cpu", doc="where to learn, by torch's name: cpu, cuda, cuda:1; episodes and evaluation stay on the CPU"
    )
    schedule: Schedule = setting(Schedule(), doc="when to collect, to learn and to evaluate")
    me_ppo: MePpoConfig = setting(MePpoConfig(), doc="settings of me-ppo and vanilla")
    me_trpo: MeTrpoConfig = setting(MeTrpoConfig(), doc="settings of me-trpo")
    bptt: BpttConfig = setting(BpttConfig(), doc="settings of bptt")
    mb_mpo: MbMpoConfig = setting(MbMpoConfig(), doc="settings of mb-mpo")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResumeConfig:
    """Go on with a run that was stopped."""

    folder: str = setting(doc="what `mbrl train --out` was given")


def train(config: TrainConfig) -> int:
    """Begin a run and carry it through; return the exit status.

    Raises:
      ValueError: a setting, the environment or the folder will not do.
    """
    refuse_unused(config)
    check_new(config.out)
    out = Path(config.out)
    config = dataclasses.replace(config, demonstrations=absolute(config.demonstrations))
    env, task, learner = _build(config)
    check_budget(config.steps, config.schedule, task)
    demonstrations = _to_copy(config, task, out)
    out.mkdir(parents=True, exist_ok=True)
    made_with = {"versions": versions(), "machine": machine(), "commit": git_commit()}
    content = {"settings": dataclasses.asdict(config), "made_with": made_with}
    write_atomically(out / CONFIG, json.dumps(content, indent=2).encode())  # first: with it the run can be resumed
    with alone_in(out):
        _copy(demonstrations, out)
        return _carry_through(config, Training(env, task, learner, out, _budget(config), config.schedule), out)


def resume(config: ResumeConfig) -> int:
    """Go on exactly where a run was stopped; a run that is complete is shown.

    Raises:
      ValueError: the folder is none of a run, or something in it is damaged.
    """
    out = Path(config.folder)
    if (out / SUMMARY).is_file():
        return show(out)
    settings = read_settings(out)
    env, task, learner = _build(settings)
    with alone_in(out):
        _copy(_to_copy(settings, task, out), out)
        return _carry_through(settings, Training(env, task, learner, out, _budget(settings), settings.schedule), out)


def refuse_unused(config: TrainConfig) -> None:
    """Refuse settings that the method does not use: a flag of another method would change nothing, unseen.

    Raises:
      ValueError: one of another method's group, or one that the method sets itself, is not its default.
    """
    used, changes = GROUPS[config.algorithm], _changes(config, TrainConfig())
    others = tuple(f"{group}." for group in set(GROUPS.values()) - {used})
    for name, (default, got) in changes.items():
        if name.startswith(others):
            raise refuse(name, f"its default, {default!r}: {config.algorithm} has its settings in {used}", got)
        if config.algorithm == "vanilla" and name in SET_BY_VANILLA:
            raise refuse(name, f"its default, {default!r}: vanilla has one model and nothing to validate with", got)


def _changes(config: Any, default: Any, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Every leaf that differs, by its dotted name: its default and what it is."""
    changes: dict[str, tuple[Any, Any]] = {}
    for field in dataclasses.fields(config):
        name, mine, theirs = f"{prefix}{field.name}", getattr(config, field.name), getattr(default, field.name)
        if dataclasses.is_dataclass(mine):
            changes |= _changes(mine, theirs, f"{name}.")
        elif mine != theirs:
            changes[name] = (theirs, mine)
    return changes


def absolute(path: str) -> str:
    """So that a run can be resumed from anywhere; what is not given stays so."""
    return str(Path(path).absolute()) if path else path


def check_new(out: str) -> None:
    """Refuse a folder that holds something already.

    Raises:
      ValueError: none is named, or it is a file, or not empty.
    """
    if not out:
        raise refuse("out", "a new folder", out)
    if Path(out).exists() and (not Path(out).is_dir() or _whole(Path(out))):
        raise refuse("out", "a new or empty folder, or `mbrl resume` with it", out)


def _whole(folder: Path) -> list[Path]:
    """What a folder holds, without what a process that was killed has not written to its end."""
    return [path for path in folder.iterdir() if not path.name.endswith(TEMPORARY)]


@contextmanager
def alone_in(out: Path) -> Iterator[None]:
    """Hold a run's folder: two processes in one would write the same files.

    Raises:
      ValueError: another process holds it.
    """
    descriptor = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise refuse("folder", "one that no other process is training in", str(out)) from error
        yield
    finally:
        os.close(descriptor)


def show(out: Path) -> int:
    """Print the summary of a run that is complete; return the exit status that it had.

    Raises:
      ValueError: it is damaged.
    """
    try:
        summary: Any = json.loads((out / SUMMARY).read_text())
    except ValueError as error:
        raise refuse(SUMMARY, "JSON", str(error)) from error
    if not isinstance(summary, dict) or "policy_version" not in summary:
        raise refuse(f"{SUMMARY}: policy_version", "a number", summary)
    with TrainView(out, total=0) as view:
        view.summary(summary)
    return 0 if summary["policy_version"] else 1


def read_settings(out: Path) -> TrainConfig:
    """Settings of the run in a folder.

    Raises:
      ValueError: there are none, or they are damaged.
    """
    if not (out / CONFIG).is_file():
        raise refuse("folder", f"one of `mbrl train`, with {CONFIG}", str(out))
    try:
        content: Any = json.loads((out / CONFIG).read_text())
    except ValueError as error:
        raise refuse(CONFIG, "JSON", str(error)) from error
    settings = content.get("settings") if isinstance(content, dict) else content
    return from_mapping(TrainConfig, settings, CONFIG)


def _to_copy(config: TrainConfig, task: GymTask, out: Path) -> tuple[Episode, ...]:
    """Demonstrations that the run has no whole copy of."""
    if not config.demonstrations or (out / DEMONSTRATIONS).exists():
        return ()
    return read_demonstrations(Path(config.demonstrations), task)


def _copy(demonstrations: tuple[Episode, ...], out: Path) -> None:
    """Into the run's folder, all or none: they get their name when the last is there."""
    if demonstrations:
        partial = out / f"{DEMONSTRATIONS}{TEMPORARY}"
        begin_with(Replay(out / "episodes", demonstrations=partial), demonstrations)
        partial.rename(out / DEMONSTRATIONS)


def _carry_through(config: TrainConfig, training: Training, out: Path) -> int:
    with TrainView(out, config.steps) as view:
        view.begin(training.rows)
        summary = training.run(view)
        view.summary(summary)
    return 0 if summary["policy_version"] else 1


def _build(config: TrainConfig) -> tuple[Env, GymTask, Learner]:
    """Environment, task and learner, before anything is written."""
    torch.set_num_threads(config.threads)  # before the first draw: another number rounds otherwise
    if not config.env:
        raise refuse("env", "the id of a Gymnasium environment", config.env)
    env = open_environment(config.env, episode_steps=config.episode_steps)
    task = GymTask(env)
    return env, task, make_learner(task, config)


def make_learner(task: GymTask, config: TrainConfig) -> Learner:
    """A fresh learner of the method that the settings name.

    Raises:
      ValueError: a setting is out of bounds, or the device is not there.
    """
    check_device(config.device)
    given = {"seed": config.seed, "device": config.device}
    makers: dict[str, Callable[[], Learner]] = {
        "vanilla": lambda: vanilla(task, config.me_ppo, **given),
        "bptt": lambda: bptt(task, config.bptt, **given),
        "me-trpo": lambda: me_trpo(task, config.me_trpo, **given),
        "me-ppo": lambda: me_ppo(task, config.me_ppo, **given),
        "mb-mpo": lambda: mb_mpo(task, config.mb_mpo, **given),
    }
    return makers[config.algorithm]()


def check_device(name: str) -> None:
    """Refuse a device that torch does not have here.

    Raises:
      ValueError: it has no such device.
    """
    gpus = torch.cuda.device_count()
    there = ("cpu", *(["cuda"] if gpus else []), *(f"cuda:{index}" for index in range(gpus)))
    if name not in there:
        raise refuse("device", f"one that torch has here: {', '.join(there)}", name)


def _budget(config: TrainConfig) -> Budget:
    return Budget(env=config.env, algorithm=config.algorithm, steps=config.steps, seed=config.seed)
