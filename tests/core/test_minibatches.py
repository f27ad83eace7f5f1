import torch

from mbrl_core.algorithms.minibatches import bootstrapped, shuffled


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_row_comes_once_a_pass_in_another_order():
    batches = list(shuffled(7, 3, 2, generator()))
    assert [len(rows) for rows in batches] == [3, 3, 1, 3, 3, 1]
    first, second = torch.cat(batches[:3]), torch.cat(batches[3:])
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(7))
    assert first.tolist() != second.tolist()


def test_each_member_goes_through_its_own_bootstrap_in_its_own_order():
    batches = list(bootstrapped(50, 2, 20, 2, generator()))
    assert [tuple(rows.shape) for rows in batches] == [(2, 20), (2, 20), (2, 10)] * 2
    first, second = torch.cat(batches[:3], 1), torch.cat(batches[3:], 1)
    assert torch.equal(first.sort(1).values, second.sort(1).values), "drawn once, not once a pass"
    assert not torch.equal(first, second)
    one, other = first.sort(1).values
    assert not torch.equal(one, other)
    assert len(one.unique()) < 50, "with replacement: some rows twice, others not at all"
