"""`mbrl eval`: a policy bundle in its environment, beside zero and random actions. No ROS; torch for --reward alone."""

import dataclasses
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mbrl_core.actor import Actor
from mbrl_core.bundle import Bundle, check_fits
from mbrl_core.config import refuse, setting
from mbrl_sim.environment import Env, open_environment
from mbrl_sim.gym_collect import EVALUATION_SEED, baselines, evaluate
from mbrl_sim.gym_task import GymTask


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Try a policy in its environment, without exploration."""

    bundle: str = setting("", doc="policy file (.mbrl)")
    env: str = setting("", doc="id of the environment")
    episodes: int = setting(100, doc="episodes", low=1)
    seed: int = setting(EVALUATION_SEED, doc="of the first episode; each next one counts up", low=0)
    episode_steps: int = setting(0, doc="length of an episode; 0 = the environment's own", low=0)
    reward: str = setting("", doc="FILE.py:function of `mbrl retask`, by which to count; the file is executed")


def evaluate_bundle(config: EvalConfig) -> int:
    """Evaluate and print; return the exit status.

    Raises:
      ValueError: the bundle is damaged or was made for something else, or the environment will not do.
    """
    if not config.bundle:
        raise refuse("bundle", "a policy file (.mbrl)", config.bundle)
    if not config.env:
        raise refuse("env", "the id of a Gymnasium environment", config.env)
    bundle = Bundle.load(Path(config.bundle))
    env, task = _paid(open_environment(config.env, episode_steps=config.episode_steps), config.reward)
    check_fits(bundle, None, task)
    counted = config.reward or "the environment's own reward"
    title = f"{config.env}, {config.episodes} episodes from seed {config.seed}, by {counted}"
    if bundle.metadata.reward and not config.reward:
        title += f"\nThe policy is for another: {bundle.metadata.reward} (--reward)"
    table = Table(title=Text(title))
    for heading in ("policy", "mean", "std", "min"):
        table.add_column(heading, justify="left" if heading == "policy" else "right")
    learned = {
        f"version {bundle.version}": evaluate(env, task, Actor(bundle), episodes=config.episodes, seed=config.seed)
    }
    for name, returns in (learned | baselines(env, task, episodes=config.episodes, seed=config.seed)).items():
        table.add_row(name, *(f"{value:.2f}" for value in (returns.mean, returns.std, returns.min)))
    Console(highlight=False, soft_wrap=True).print(table)
    return 0


def _paid(env: Env, reward: str) -> tuple[Env, GymTask]:
    """The environment and its task under a reward; under its own without one."""
    if not reward:
        return env, GymTask(env)
    from mbrl_ros.reward_file import load_reward  # brings torch
    from mbrl_sim.rewarded import rewarded_task

    return rewarded_task(env, load_reward(reward))
