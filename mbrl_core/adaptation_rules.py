"""Which real episodes count, and which inner steps on them stay: pure functions."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mbrl_core.adaptation_config import Turn
from mbrl_core.adapter import AdaptedStep, Adapter
from mbrl_core.types import TIME_LIMIT, Episode, Vector

Theta = NDArray[np.float32]  # (P,)
JUDGED_EVERY = 10  # steps
AGREEING = 0.7  # share of the members that must find better what is found better: the 70 % rule, as in training
NOTHING_WON = "no policy of these steps earns more in imagination than the one before"


class Route(NamedTuple):
    """How inner steps are taken, and what the policies that they lead to are judged by, where there is anything."""

    step: Callable[[Theta], AdaptedStep]  # from some parameters
    earned: Callable[[Theta], Vector] | None = None  # (P,) to (K,): mean return of the policy's mean under each member


class Attempt(NamedTuple):
    """What came of trying inner steps."""

    theta: NDArray[np.float32]  # (P,), of the policy that stays
    taken: int  # good steps that led there
    episodes: tuple[int, ...]  # numbers of those that were used
    refusal: str = ""  # why the step after the good ones was not taken, or none led to a better policy
    kl: float = 0.0  # nats, of the last step that was tried
    surrogate: float = 0.0  # improvement that the steps tried were to make
    gradient_norm: float = 0.0  # at the last step that was tried


def episode_objection(episode: Episode, turn: Turn | None, version: int) -> str:
    """Why an episode does not count for who began it; empty where it does."""
    if turn is None:
        return "this node did not see it begin"
    if not episode.terminated and episode.end_reason != TIME_LIMIT:
        return f"it ended early ({episode.end_reason})"
    if not episode.whole.any():
        return "every step has a gap"
    if (episode.policy_versions[episode.whole] != version).any():
        return f"another version than {version} acted in it"
    if (episode.inner_steps, episode.exploring) != (turn.inner_steps, turn.exploring):
        return "other parameters acted in it"
    return ""


def attempt(
    begin: Callable[[], Route],
    adapter: Adapter,
    theta: Theta,
    episodes: Sequence[Episode],
    steps: int,
    *,
    max_kl: float,
    on_step: Callable[[AdaptedStep], None] = lambda step: None,
) -> Attempt:
    """Take inner steps one after the other, until one must not be taken; the best policy on the way stays.

    Which is best is judged every `JUDGED_EVERY` steps and at the end, where the route has anything to judge by: the
    noise of a gradient leads away, too. The policy before is one of them.

    Args:
      begin: returns what takes them.
      adapter: judges them.
      theta: (P,), where they begin.
      episodes: what they are taken on.
      steps: how many to take.
      max_kl: the furthest that a step may move the policy, nats; 0 = the bundle's own bound.
      on_step: told of each, good or not.
    """
    tried = best = Attempt(theta, 0, tuple(episode.episode for episode in episodes))
    try:
        route = begin()
        earned = route.earned(theta) if route.earned else None
        while tried.taken < steps and not tried.refusal:
            step = route.step(tried.theta)
            on_step(step)
            surrogate = tried.surrogate + step.loss - step.loss_after
            tried = tried._replace(kl=step.kl, surrogate=surrogate, gradient_norm=step.gradient_norm)
            tried = _followed(tried, step, adapter.why_refused(step, max_kl=max_kl))
            if route.earned is None or earned is None:
                best = tried
            elif tried.taken % JUDGED_EVERY == 0 or tried.taken == steps or tried.refusal:
                now = route.earned(tried.theta)
                if is_better(now, earned):
                    best, earned = tried, now
    except ValueError as error:
        tried = tried._replace(refusal=str(error))
    refusal = tried.refusal or ("" if best.taken else NOTHING_WON)
    return tried._replace(theta=best.theta, taken=best.taken, refusal=refusal)


def is_better(returns: Vector, best: Vector) -> bool:
    """Whether returns (K,) are higher in the mean over members and for enough of them."""
    return bool(returns.mean() > best.mean() and (returns > best).mean() >= AGREEING)


def _followed(tried: Attempt, step: AdaptedStep, refusal: str) -> Attempt:
    if refusal:
        return tried._replace(refusal=refusal)
    return tried._replace(theta=step.theta, taken=tried.taken + 1)
