import math

import numpy as np
import pytest

from mbrl_core.return_comparison import Comparison, chance_of_loss, student_tail


@pytest.mark.parametrize(
    ("t", "freedom", "tail"),
    [
        (0.0, 7.3, 0.5),
        (1.0, 1.0, 0.25),  # Cauchy: 1/2 - atan(t) / pi
        (2.0, 2.0, 0.5 - 2 / (2 * math.sqrt(6))),  # 1/2 - t / (2 sqrt(2 + t^2))
        (-2.0, 2.0, 0.5 + 2 / (2 * math.sqrt(6))),
        (1.812461, 10.0, 0.05),  # tables
        (2.776445, 4.0, 0.025),
        (1.660391, 99.0, 0.05),
    ],
)
def test_the_tail_is_students(t, freedom, tail):
    assert student_tail(t, freedom) == pytest.approx(tail, abs=2e-6)


def test_welch_by_hand():
    """Means 4 and 1, variances 4 and 1, 3 each: t = 3 / sqrt(5/3), freedom = (5/3)^2 / (16/9/2 + 1/9/2) = 50/17."""
    assert chance_of_loss([2, 4, 6], [0, 1, 2]) == pytest.approx(student_tail(3 / math.sqrt(5 / 3), 50 / 17))
    assert chance_of_loss([0, 1, 2], [2, 4, 6]) == pytest.approx(1 - chance_of_loss([2, 4, 6], [0, 1, 2]), abs=1e-6)


def test_samples_without_spread_are_compared_as_they_are():
    assert chance_of_loss([1.0, 1.0], [0.5, 0.5]) == 0.0
    assert chance_of_loss([0.1] * 5, [0.1] * 10) == 1.0
    assert chance_of_loss([0.1 + 0.2] * 2, [0.3] * 2) == 1.0, "rounding is no loss"


def verdicts(before, after, block=5):
    comparison = Comparison(before, block=block, level=0.05)
    return [comparison.add(value) for value in after]


def test_it_looks_after_one_two_and_four_blocks_only():
    worse = verdicts([10.0, 11.0, 9.0], [0.0, 1.0] * 7, block=3)
    assert [index + 1 for index, verdict in enumerate(worse) if verdict] == [3, 6, 12]
    comparison = Comparison([1.0, 2.0], block=2, level=0.05)
    states = []
    for _ in range(9):
        states.append((comparison.is_open, comparison.is_over))
        comparison.add(1.5)
    assert states == [(True, False)] * 2 + [(False, False)] * 6 + [(False, True)]
    assert len(comparison.after) == 8


def share_taken_back(loss, rng, draws=400):
    taken = [any(verdicts(rng.standard_normal(5), rng.standard_normal(20) - loss)) for _ in range(draws)]
    return float(np.mean(taken))


def test_noise_alone_is_taken_back_no_more_often_than_the_level_and_a_clear_loss_nearly_always():
    """Of 400 draws a share of 0.05 has a standard error of 0.011, one of 0.99 of 0.005."""
    rng = np.random.default_rng(0)
    assert share_taken_back(0.0, rng) < 0.05 + 3 * 0.011
    assert share_taken_back(3.0, rng) > 0.99 - 3 * 0.005
