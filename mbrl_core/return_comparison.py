"""Whether an adapted policy is worse than the one before it: Welch's one-sided t-test on a few real returns.

Goals differ from episode to episode and nobody repeats them on a robot, so returns are two independent samples with
spreads of their own. A mean that is lower by chance must not throw a good policy away; one that is clearly lower must.
The test looks when as many episodes came after as a block has, and twice and four times as many, each time at a third
of the level: the chance of a false alarm in all three looks together stays at the level (Bonferroni).

What it can see, at a level of 0.05, with 5 episodes before, in multiples of the returns' standard deviation (normal
returns, by simulation): a loss of 2 is noticed in 69 % of cases after 5 episodes and in 88 % after 20, a loss of 3 in
96 % and 99 %; a loss of 1 in 20 % and 38 %. With 10 before, a loss of 1 is noticed in 50 % after 10 and 73 % after 40.
Of exponentially skewed returns the false alarms are up to 7 % instead of 5 %. It says nothing on whether a policy is
better.
"""

from collections.abc import Sequence

import numpy as np

LOOKS = (1, 2, 4)  # in blocks of episodes after the step
NODES = 4001  # of the integral over Student's density
SAME = 1e-9  # relative difference of means that is rounding


def chance_of_loss(before: Sequence[float], after: Sequence[float]) -> float:
    """How likely a mean so much lower is where nothing has changed: the p-value of Welch's one-sided t-test.

    Args:
      before: returns of at least two episodes.
      after: likewise.

    Returns:
      Below 0.5 where the mean has fallen, above where it has risen. Of samples without any spread 0 or 1.
    """
    first, second = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    loss = float(first.mean() - second.mean())
    parts = np.array([first.var(ddof=1) / len(first), second.var(ddof=1) / len(second)])
    error = float(np.sqrt(parts.sum()))
    smallest = SAME * float(max(np.abs(first).max(), np.abs(second).max()))
    if error <= smallest:
        return 0.0 if loss > smallest else 1.0
    freedom = float(parts.sum() ** 2 / (parts**2 / (len(first) - 1, len(second) - 1)).sum())
    return student_tail(loss / error, freedom)


def student_tail(t: float, freedom: float) -> float:
    """P(T > t) of Student's distribution, freedom >= 1.

    With t = sqrt(freedom) tan(x) its density is proportional to cos(x)^(freedom - 1) on (-pi/2, pi/2), which needs no
    gamma function: the tail is the share of the integral beyond x.
    """
    x = float(np.arctan(t / np.sqrt(freedom)))
    return _integral(x, freedom) / _integral(-np.pi / 2, freedom)


class Comparison:
    """Returns of evaluation episodes before a step and, as they come, after it."""

    def __init__(self, before: Sequence[float], after: Sequence[float] = (), *, block: int, level: float) -> None:
        """Begin, or go on after a restart.

        Args:
          before: returns under the parameters before the step, at least two.
          after: returns that came since.
          block: episodes after which to look for the first time.
          level: chance of a false alarm, over all looks.
        """
        self.before, self.after = tuple(before), tuple(after)
        self._block, self._level = block, level

    @property
    def is_open(self) -> bool:
        """Whether the first look is still to come."""
        return len(self.after) < self._block

    @property
    def is_over(self) -> bool:
        """Whether no look is left."""
        return len(self.after) >= self._block * LOOKS[-1]

    def add(self, episode_return: float) -> bool:
        """Count an episode after the step; whether the returns are now significantly worse than before."""
        if self.is_over:
            return False
        self.after = (*self.after, episode_return)
        due = len(self.after) in [self._block * look for look in LOOKS]
        return due and chance_of_loss(self.before, self.after) < self._level / len(LOOKS)


def _integral(low: float, freedom: float) -> float:
    """Of cos(x)^(freedom - 1) from low to pi/2, by the trapezoid rule."""
    x = np.linspace(low, np.pi / 2, NODES)
    y = np.clip(np.cos(x), 0.0, None) ** (freedom - 1)
    return float((y.sum() - (y[0] + y[-1]) / 2) * (x[1] - x[0]))
