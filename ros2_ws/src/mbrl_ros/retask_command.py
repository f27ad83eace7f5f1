"""`mbrl retask`: the ensemble of a training run teaches a policy another task, without a new real step. No ROS.

The folder: config.json, checkpoint.safetensors, progress.csv, tensorboard/, policy.mbrl and, at the end, summary.json.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch

from mbrl_core.bundle import Bundle, check_fits
from mbrl_core.checkpoint import Checkpoint, read_checkpoint
from mbrl_core.config import from_mapping, refuse, setting
from mbrl_core.replay import write_atomically
from mbrl_ros.provenance import git_commit, machine, versions
from mbrl_ros.reward_file import check_reward, load_reward, reward_sha256
from mbrl_ros.train_command import (
    CONFIG,
    GROUPS,
    ResumeConfig,
    TrainConfig,
    absolute,
    alone_in,
    check_new,
    make_learner,
    read_settings,
    show,
)
from mbrl_ros.train_view import TrainView
from mbrl_sim.environment import open_environment
from mbrl_sim.retask import Retask, RetaskPlan
from mbrl_sim.rewarded import rewarded_task
from mbrl_sim.training import BUNDLE, CHECKPOINT, SUMMARY, run_replay

COMMAND = "retask"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetaskConfig:
    """Learn a policy for another reward in the ensemble of an earlier run: no new real step, no new model.

    The reward is a function of yours, over raw observations and environment actions with any leading axes, for numpy
    and torch alike, for example, in spin.py, for Pendulum-v1:

    def reward(obs, action, next_obs): return -((next_obs[..., 2] - 4.0) ** 2) - 0.001 * action[..., 0] ** 2
    """

    run: str = setting("", doc="folder of `mbrl train`, whose ensemble, real states and settings are used")
    reward: str = setting("", doc="FILE.py:function; the file is executed, with your rights, when the command runs")
    out: str = setting("", doc="folder for the new policy, new")
    rounds: int = setting(10, doc="rounds of improving and validating", low=1)
    seed: int = setting(0, doc="of the fresh policy and of imagination", low=0)
    device: str = setting("cpu", doc="where to learn, by torch's name: cpu, cuda, cuda:1")


def retask(config: RetaskConfig) -> int:
    """Begin a retask and carry it through; return the exit status.

    Raises:
      ValueError: a setting, the run, the reward or the folder will not do.
    """
    check_new(config.out)
    out = Path(config.out)
    config = dataclasses.replace(config, run=absolute(config.run), reward=absolute(config.reward))
    prepared = _prepare(config, out)
    out.mkdir(parents=True, exist_ok=True)
    made_with = {"versions": versions(), "machine": machine(), "commit": git_commit()}
    content = {"command": COMMAND, "settings": dataclasses.asdict(config), "made_with": made_with}
    content["reward_sha256"] = reward_sha256(config.reward)
    write_atomically(out / CONFIG, json.dumps(content, indent=2).encode())
    with alone_in(out):
        return _carry_through(config, prepared, out)


def is_retask(folder: Path) -> bool:
    """Whether a folder is one of `mbrl retask`."""
    try:
        content: Any = json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("command") == COMMAND


def resume_retask(config: ResumeConfig) -> int:
    """Go on exactly where a retask was stopped; one that is complete is shown.

    Raises:
      ValueError: something in the folder is damaged, or the earlier run or the reward is not what it was.
    """
    out = Path(config.folder)
    if (out / SUMMARY).is_file():
        return show(out)
    content = json.loads((out / CONFIG).read_text())
    settings = from_mapping(RetaskConfig, content.get("settings"), CONFIG)
    now = reward_sha256(settings.reward)
    if content.get("reward_sha256", now) != now:  # earlier versions had it in the checkpoint alone
        raise refuse(f"reward: {settings.reward}: sha256", content["reward_sha256"], now)
    with alone_in(out):
        return _carry_through(settings, _prepare(settings, out), out)


def _carry_through(config: RetaskConfig, prepared: Retask, out: Path) -> int:
    with TrainView(out, config.rounds, count="round") as view:
        view.begin(prepared.rows)
        summary = prepared.run(view)
        view.summary(summary)
    return 0 if summary["policy_version"] else 1


def _prepare(config: RetaskConfig, out: Path) -> Retask:
    """Everything that a retask needs, read and checked before anything is written."""
    run = Path(config.run)
    settings, checkpoint = _earlier(config.run)
    torch.set_num_threads(settings.threads)
    reward = load_reward(config.reward)
    env, task = rewarded_task(open_environment(settings.env, episode_steps=settings.episode_steps), reward)
    learner = make_learner(task, dataclasses.replace(settings, seed=config.seed, device=config.device))
    replay = run_replay(run, settings.schedule)
    _check_method(settings, replay.real_steps)
    for episode in replay.episodes:
        check_reward(config.reward, reward, task, episode, config.device)
    learner.adopt_ensemble(checkpoint)
    old = Bundle.load(run / BUNDLE) if (run / BUNDLE).is_file() else None
    if old is not None:
        check_fits(old, None, task)
    plan = RetaskPlan(
        run=config.run,
        env=settings.env,
        algorithm=settings.algorithm,
        reward=config.reward,
        reward_sha256=reward_sha256(config.reward),
        model_real_steps=checkpoint.facts["run"]["learned_steps"],
        rounds=config.rounds,
        seed=config.seed,
        curve_episodes=settings.schedule.curve_episodes,
        eval_episodes=settings.schedule.eval_episodes,
    )
    return Retask(env, task, learner, replay, old, out, plan)


def _earlier(folder: str) -> tuple[TrainConfig, Checkpoint]:
    """Settings and state of the earlier run.

    Raises:
      ValueError: the folder is none of `mbrl train`, or the run has not ended a round, or something is damaged.
    """
    run = Path(folder)
    if not folder or not (run / CONFIG).is_file() or is_retask(run):
        raise refuse("run", f"a folder of `mbrl train`, with {CONFIG}", folder)
    settings = read_settings(run)
    for name in (CHECKPOINT, "episodes"):
        if not (run / name).exists():
            raise refuse("run", f"a folder with {name}, which is there after a run's first round", folder)
    return settings, read_checkpoint(run / CHECKPOINT)


def _check_method(settings: TrainConfig, real_steps: int) -> None:
    """Refuse settings of the earlier run that would mean something else here.

    Raises:
      ValueError: a bonus is still paid, and no real step would come of it.
    """
    group = GROUPS[settings.algorithm]
    method = getattr(settings, group)
    bonus = method.imagination.bonus
    if bonus.weight_at(real_steps):
        steps = f"a run of at least {bonus.anneal_steps} real steps, where its bonus has ended"
        raise refuse(f"run: {group}.imagination.bonus", steps, real_steps)
