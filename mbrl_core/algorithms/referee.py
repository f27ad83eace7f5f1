"""Who is better, over a round: each policy against the best of the round, and against one from before if need be."""

from typing import NamedTuple

from mbrl_core.algorithms.validation import Score, ValidationConfig, improved_share


class Verdict(NamedTuple):
    """What a validation found."""

    ratio: float  # share of members under which the policy is better than the round's best before it
    good: bool  # keep it: to most members it is as good as the best, of this round and from before


class Referee:
    """Applies the 70 % rule to a round's policies, one after the other.

    A policy that is as good as the best, but for chance, replaces it: it has learned from newer data. Were it to be
    better, one that is nearly perfect where validation looks would never be replaced, whatever it lacks elsewhere. The
    best itself is only replaced by a better one, so that tolerances do not add up within a round. From round to round
    they may: a round begins from the last good policy, or goes on from another, in members that have learned more.
    """

    def __init__(self, rule: ValidationConfig, first: Score, to_beat: Score | None = None) -> None:
        """Begin a round.

        Args:
          rule: what counts as an improvement.
          first: of the policy that the round begins with.
          to_beat: of the last good policy under the same ensemble, where the round begins with another one. A policy
            is good only if it is as good as this too.
        """
        self._rule, self._best, self._to_beat = rule, first, to_beat
        self.failures = 0  # validations without progress in a row
        self.progress = False  # whether any policy was better than the one that the round began with

    def judge(self, fresh: Score) -> Verdict:
        """Judge the next policy; progress counts within the round even where the policy is not good yet."""
        ratio = improved_share(self._best, fresh)
        progress = ratio >= self._rule.ratio
        rivals = [self._best] if self._to_beat is None else [self._best, self._to_beat]
        good = all(improved_share(rival, fresh, self._rule.tolerance) >= self._rule.ratio for rival in rivals)
        self._best, self.failures = (fresh, 0) if progress else (self._best, self.failures + 1)
        self.progress = self.progress or progress
        return Verdict(ratio, good)
