"""Imagined rollouts: branched from real states; what is known is computed, not learned.

Branching as in Janner et al. 2019 (arXiv 1906.08253). By default one member per rollout (TS-infinity of arXiv
1805.12114), so that every rollout obeys one consistent world; or a random member for every row and step, as in Kurutach
et al. 2018 (arXiv 1802.10592; TS-1), so that no rollout can trust one member's errors. Members are used evenly either
way, by construction: each is given B / K rows of every step.
"""

from dataclasses import dataclass

from mbrl_core.config import check, refuse, setting
from mbrl_core.models.ensemble import EnsembleConfig

PROPAGATIONS = ("rollout", "step")


@dataclass(frozen=True, kw_only=True)
class BonusConfig:
    """A reward for going where the members disagree, in training rollouts only: there real data teach most.

    An imagined step earns weight * (spread of the real rewards) * disagreement / (its mean on the training data). The
    units are those that a task cannot change by the scale of its rewards, their offset or the size of its model's
    errors: at weight 1, typical disagreement is worth one standard deviation of the rewards that were collected.
    """

    weight: float = setting(0.0, doc="worth of typical disagreement, in spreads of the real rewards; 0 = off", low=0.0)
    anneal_steps: int = setting(10_000, doc="real steps over which the weight falls linearly to 0", low=1)

    def weight_at(self, real_steps: int) -> float:
        """The weight after so many real steps."""
        return self.weight * max(0.0, 1.0 - real_steps / self.anneal_steps)


@dataclass(frozen=True, kw_only=True)
class ImaginationConfig:
    """Amount, length and kind of imagined experience."""

    rollouts: int = setting(500, doc="rollouts per policy iteration; a multiple of the members", low=1)
    horizon: int = setting(40, doc="steps of a rollout, H", low=1, high=1000)
    propagation: str = setting(
        "rollout", doc="one member for a whole rollout, or a random one at every step", one_of=PROPAGATIONS
    )
    truncation: float = setting(
        0.0, doc="rollouts are cut at this multiple of the disagreement's 0.99 quantile on real data; 0 = off", low=0.0
    )
    margin: float = setting(
        1.0, doc="how far imagined states may leave the range of the real ones, in widths of that range", low=0.0
    )
    bonus: BonusConfig = setting(BonusConfig(), doc="reward for disagreement")


def check_imagination(config: ImaginationConfig, ensemble: EnsembleConfig, *, own_members: bool = False) -> None:
    """Refuse what cannot be imagined; `own_members` where every row has to stay in the member that its policy is for.

    Raises:
      ValueError: a setting is out of bounds, or contradicts another one.
    """
    check(config)
    check(config.bonus)
    if own_members and config.propagation != "rollout":
        raise refuse("imagination.propagation", "'rollout': each member has a policy of its own", config.propagation)
    if (config.truncation or config.bonus.weight) and ensemble.asked < 2:
        expected = "0 with one member, which agrees with itself"
        name, got = ("truncation", config.truncation) if config.truncation else ("bonus.weight", config.bonus.weight)
        raise refuse(f"imagination.{name}", expected, got)
