import torch

from mbrl_core.algorithms.advantage import gae


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def test_three_steps_by_hand():
    # discount 0.5, trace 0.5; delta = r + 0.5 V' - V
    # delta = [1 + 1 - 1, 2 + 2 - 2, 3 + 4 - 4] = [1, 2, 3]; A_2 = 3, A_1 = 2 + 0.75, A_0 = 1 + 0.25 * 2.75
    advantages, returns = gae(column(1, 2, 3), column(1, 2, 4, 8), 0.5, 0.5)
    assert torch.allclose(advantages, column(1.6875, 2.75, 3.0))
    assert torch.allclose(returns, column(2.6875, 4.75, 7.0))


def test_trace_one_is_the_discounted_return_with_a_bootstrapped_value():
    _, returns = gae(column(1, 2, 3), column(5, 6, 7, 8), 0.5, 1.0)
    assert torch.allclose(returns, column(1 + 1 + 0.75 + 1, 2 + 1.5 + 2, 3 + 4))


def test_no_value_follows_a_terminated_step():
    terminated = torch.tensor([[False], [True], [False]])
    advantages, _ = gae(column(1, 2, 3), column(1, 2, 4, 8), 0.5, 0.5, terminated)
    assert torch.allclose(advantages, column(1 + 0.25 * 0, 0.0, 3.0))


def test_the_value_of_the_state_follows_a_cut_but_no_step_does():
    # as above, but cut after the first step: delta = [1 + 1 - 1], and nothing of what comes later
    truncated = torch.tensor([[True], [False], [False]])
    advantages, returns = gae(column(1, 2, 3), column(1, 2, 4, 8), 0.5, 0.5, None, truncated)
    assert torch.allclose(advantages, column(1.0, 2.75, 3.0))
    assert torch.allclose(returns, column(2.0, 4.75, 7.0))


def test_a_cut_and_an_end_differ_by_the_value_that_follows():
    step = torch.tensor([[False], [True], [False]])
    ended, _ = gae(column(1, 2, 3), column(1, 2, 4, 8), 0.5, 0.5, step)
    cut, _ = gae(column(1, 2, 3), column(1, 2, 4, 8), 0.5, 0.5, torch.zeros_like(step), step)
    assert torch.allclose(cut - ended, column(0.25 * 0.5 * 4, 0.5 * 4, 0.0))
