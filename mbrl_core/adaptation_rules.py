"""Which real episodes count, and which inner steps on them stay: pure functions."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mbrl_core.adaptation_config import Turn
from mbrl_core.adapter import AdaptedStep, Adapter
from mbrl_core.types import TIME_LIMIT, Episode

Theta = NDArray[np.float32]  # (P,)
Route = Callable[[Theta], AdaptedStep]  # the inner step from some parameters, on real or on imagined experience


class Attempt(NamedTuple):
    """What came of trying inner steps."""

    theta: NDArray[np.float32]  # (P,), after the last step that is good
    taken: int  # good steps
    episodes: tuple[int, ...]  # numbers of those that were used
    refusal: str = ""  # why the step after the good ones was not taken
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
    """Take inner steps one after the other, until one must not be taken.

    Args:
      begin: returns what takes them.
      adapter: judges them.
      theta: (P,), where they begin.
      episodes: what they are taken on.
      steps: how many to take.
      max_kl: the furthest that a step may move the policy, nats; 0 = the bundle's own bound.
      on_step: told of each, good or not.
    """
    tried = Attempt(theta, 0, tuple(episode.episode for episode in episodes))
    try:
        route = begin()
        while tried.taken < steps:
            step = route(tried.theta)
            on_step(step)
            surrogate = tried.surrogate + step.loss - step.loss_after
            tried = tried._replace(kl=step.kl, surrogate=surrogate, gradient_norm=step.gradient_norm)
            refusal = adapter.why_refused(step, max_kl=max_kl)
            if refusal:
                return tried._replace(refusal=refusal)
            tried = tried._replace(theta=step.theta, taken=tried.taken + 1)
    except ValueError as error:
        return tried._replace(refusal=str(error))
    return tried
