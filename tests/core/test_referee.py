import torch

from mbrl_core.algorithms.referee import Referee
from mbrl_core.algorithms.validation import Score, ValidationConfig


def score(*returns: float, spread: float = 0.0) -> Score:
    return Score(torch.tensor(returns), torch.full((len(returns),), spread), torch.zeros(len(returns)))


def test_a_policy_is_judged_against_the_best_of_the_round():
    referee = Referee(ValidationConfig(ratio=0.7), score(1, 1, 1, 1))
    assert referee.judge(score(2, 2, 2, 0)) == (0.75, True)
    assert referee.judge(score(1, 3, 1, 0)) == (0.25, False), "the last one was better"


def test_a_policy_that_is_as_good_as_the_best_is_kept_and_tolerances_do_not_add_up():
    referee = Referee(ValidationConfig(ratio=0.7, tolerance=0.1), score(5.0, 5.0, spread=10.0))
    assert referee.judge(score(4.5, 4.5, spread=10.0)) == (0.0, True)
    assert referee.failures == 1, "no progress"
    assert referee.judge(score(3.9, 3.9, spread=10.0)) == (0.0, False), "it is the best that counts, not the last"


def test_failures_in_a_row_are_counted():
    referee = Referee(ValidationConfig(ratio=0.7), score(1, 1))
    for returns, failures in ((0, 1), (1, 2), (2, 0), (2, 1)):
        referee.judge(score(returns, returns))
        assert referee.failures == failures


def test_progress_is_not_good_until_the_other_policy_is_beaten_too():
    referee = Referee(ValidationConfig(ratio=0.7), score(0, 0, 0, 0), to_beat=score(5, 5, 5, 5))
    assert referee.judge(score(4, 4, 4, 4)) == (1.0, False)
    assert referee.failures == 0, "it is progress nevertheless"
    assert referee.judge(score(3, 3, 3, 9)) == (0.25, False), "progress is measured within the round"
    assert referee.judge(score(6, 6, 6, 4.5)) == (1.0, True)


def test_what_is_as_good_as_the_other_policy_is_good_too():
    referee = Referee(ValidationConfig(ratio=0.7, tolerance=0.1), score(0.0), to_beat=score(5.0, spread=10.0))
    assert referee.judge(score(3.9)) == (1.0, False)
    assert referee.judge(score(4.1)) == (1.0, True)


def test_progress_is_remembered_whatever_follows():
    referee = Referee(ValidationConfig(ratio=0.7), score(1, 1))
    for returns, progress in ((0, False), (2, True), (0, True)):
        referee.judge(score(returns, returns))
        assert referee.progress == progress
