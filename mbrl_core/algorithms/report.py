"""What one round of learning did, for people and for messages; no torch."""

from dataclasses import dataclass


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
    imagined_return: float = 0.0  # of one imagined episode under the last good policy
    imagined_success: float = 0.0  # share of imagined episodes that end in success
    validation_ratio: float = 0.0  # share of members under which the last update improved
    updates_accepted: int = 0  # since the learner started
    updates_rejected: int = 0
    problem: str = ""  # what went wrong, if anything; the last good policy was kept

    @property
    def busy_s(self) -> float:
        """Wall-clock time of the round in s."""
        return self.fit_s + self.improve_s + self.validate_s
