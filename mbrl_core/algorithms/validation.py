"""Policy validation across members: a policy is kept only if most members find it good (arXiv 1802.10592, section 4.2).

The old and the new policy act from the same real starts to the same goals, without noise, for a whole episode or, where
episodes are long, for `horizon` steps in every member. Departures: half of the starts are states from anywhere
in the real episodes, since few episodes have few beginnings; and good is what is as good as the best (`referee.py`).
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from mbrl_core.config import setting
from mbrl_core.models.ensemble import Ensemble
from mbrl_core.models.normaliser import Normaliser
from mbrl_core.models.roll_out import Rules, roll_out
from mbrl_core.models.state_range import StateRange
from mbrl_core.policies.gaussian_mlp import GaussianMlp, Parameters
from mbrl_core.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """The 70 % rule."""

    every: int = setting(5, doc="policy iterations between validations", low=1)
    ratio: float = setting(0.7, doc="share of members that must agree", low=0.0, high=1.0)
    tolerance: float = setting(
        0.03, doc="a policy may be worse than the round's best by this share of the spread over starts", low=0.0
    )
    patience: int = setting(8, doc="failed validations in a row before a round ends", low=1)
    horizon: int = setting(200, doc="steps of a trial at most: errors of a model add up", low=1)
    goals: int = setting(40, doc="fixed goals, each tried in every member", low=1)


@dataclass(frozen=True)
class Trial:
    """Where policies are tried."""

    starts: Tensor  # (B, S)
    goals: Tensor  # (B, G)
    within: StateRange  # where imagined states are kept
    horizon: int  # H, steps


@dataclass(frozen=True)
class Score:
    """How a policy does in every member that is asked."""

    returns: Tensor  # (K,), mean sum of rewards of a trial
    spread: Tensor  # (K,), standard deviation of that sum over the starts
    success: Tensor  # (K,), share of episodes that end in success


def score(
    task: Task,
    ensemble: Ensemble,
    policy: GaussianMlp,
    parameters: Parameters,
    obs_norm: Normaliser,
    trial: Trial,
) -> Score:
    """Try a policy's mean action in every member, from the same starts to the same goals.

    Raises:
      FloatingPointError: an imagined number is not finite.
    """
    members = ensemble.asked
    starts, goals = trial.starts.repeat(members, 1), trial.goals.repeat(members, 1)
    act, rules = partial(policy.distribution, parameters), Rules(within=trial.within)
    with torch.no_grad():
        rollouts = roll_out(task, ensemble, act, obs_norm, starts, goals, trial.horizon, None, rules)
    success = task.success(rollouts.last_states, goals).to(torch.float32)
    returns = rollouts.rewards.sum(0).reshape(members, -1)
    return Score(returns.mean(1), returns.std(1, correction=0), success.reshape(members, -1).mean(1))


def improved_share(old: Score, new: Score, tolerance: float = 0.0) -> float:
    """Share of members under which the new policy's return is higher, or lower by less than `tolerance` spreads."""
    better = new.returns > old.returns - tolerance * old.spread
    return int(better.sum()) / len(better)  # in 64 bits: 7 of 10 are 70 %
