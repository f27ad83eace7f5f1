"""Who is better, over a round: each policy against the best of the round, and against the last good one."""

from typing import NamedTuple

from mbrl_core.algorithms.validation import Score, ValidationConfig, improved_share


class Verdict(NamedTuple):
    """What a validation found."""

    ratio: float  # share of members under which the policy is better than the round's best before it
    good: bool  # keep it: to most members it is as good as the last good policy, and as any better one since


class Referee:
    """Applies the 70 % rule to a round's policies, one after the other.

    A policy that is as good as the best that may act, but for chance, replaces it: it has learned from newer data. Were
    it to be better, one that is nearly perfect where validation looks would never be replaced, whatever it lacks
    elsewhere. That best itself is only replaced by a better one, so that tolerances do not add up within a round. From
    round to round they may: a round begins from the last good policy, or goes on from another, in members that have
    learned more.
    """

    def __init__(self, rule: ValidationConfig, first: Score, to_beat: Score | None = None) -> None:
        """Begin a round.

        Args:
          rule: what counts as an improvement.
          first: of the policy that the round begins with: what progress is measured from.
          to_beat: of the last good policy under the same ensemble, where the round begins with another one. What is
            as good as this is good even if the round began with a better one: that one does not act.
        """
        self._rule, self._best, self._to_beat = rule, first, first if to_beat is None else to_beat
        self.failures = 0  # validations without progress in a row
        self.progress = False  # whether any policy was better than the one that the round began with

    def judge(self, fresh: Score) -> Verdict:
        """Judge the next policy; progress counts within the round even where the policy is not good yet."""
        ratio = improved_share(self._best, fresh)
        good = improved_share(self._to_beat, fresh, self._rule.tolerance) >= self._rule.ratio
        if improved_share(self._to_beat, fresh) >= self._rule.ratio:
            self._to_beat = fresh
        if ratio >= self._rule.ratio:
            self._best, self.failures, self.progress = fresh, 0, True
        else:
            self.failures += 1
        return Verdict(ratio, good)
