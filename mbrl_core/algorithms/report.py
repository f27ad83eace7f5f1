"""What learning and adapting did, for people and for messages; no torch."""

import math
from dataclasses import dataclass

from mbrl_core.bundle import Bundle


@dataclass(frozen=True, kw_only=True)
class InnerReport:
    """The inner steps of one iteration, in imagination, means over members.

    Returns are of rollouts up to H steps long, a bonus included.
    """

    return_before: float
    return_after: float
    kl: float  # nats


@dataclass(frozen=True, kw_only=True)
class Adaptation:
    """An inner step on real episodes."""

    bundle: Bundle  # the adapted policy
    kl: float  # mean KL(before | after) over the episodes' steps, nats
    gradient_norm: float  # of the inner loss


@dataclass(frozen=True, kw_only=True)
class RoundReport:
    """One round: the ensemble fitted, the policy improved in it, the improvement validated."""

    policy_version: int  # of the last good policy; 0 = none yet
    accepted: bool  # the round ended with a better policy than it began with: publish it
    stopped: bool = False  # the caller asked to stop
    real_steps: int = 0
    episodes: int = 0
    fit_s: float = 0.0
    improve_s: float = 0.0
    validate_s: float = 0.0
    fit_steps: int = 0  # gradient steps of the ensemble
    imagined_steps: int = 0
    holdout_loss: tuple[float, ...] = ()  # (E,) nats per output dimension, normalised targets
    disagreement: float = 0.0  # spread of the members' means over that of the data
    truncated_share: float = 0.0  # share of imagined rollouts that were cut where the members disagree
    bonus_weight: float = 0.0  # worth of typical disagreement in imagined rewards, in spreads of the real ones
    imagined_return: float = math.nan  # of an imagined episode, or its first `validation.horizon` steps, under the
    # last good policy, from where real episodes begin; NaN after a problem
    imagined_success: float = math.nan  # share of those that end in success
    validation_ratio: float = 0.0  # share of members under which the last update improved
    updates_accepted: int = 0  # since the learner started
    updates_rejected: int = 0
    inner_return_before: float | None = None  # mean of the last iteration's rollouts; None where nothing adapts
    inner_return_after: float | None = None  # likewise, by the policies adapted in each member
    inner_kl: float | None = None  # how far those are from the meta-policy, mean over members and steps, nats
    problem: str = ""  # what went wrong, if anything; the last good policy was kept

    @property
    def busy_s(self) -> float:
        """Wall-clock time of the round in s."""
        return self.fit_s + self.improve_s + self.validate_s
