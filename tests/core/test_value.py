import pytest
import torch

from mbrl_core.algorithms.value import ValueMlp
from mbrl_core.algorithms.value_fit import ValueConfig, ValueFit
from mbrl_core.models.normaliser import Normaliser
from mbrl_core.policies.gaussian_mlp import rebased

ENSEMBLE, OBS = ValueMlp((3, 8, 1), members=4), torch.randn(20, 3, generator=torch.Generator().manual_seed(1))


def parameters() -> dict:
    return ENSEMBLE.initial(torch.Generator().manual_seed(0))


def member(index: int) -> dict:
    """One member alone, as parameters of a single value function."""
    return {name: tensor[index] if tensor.ndim else tensor for name, tensor in parameters().items()}


def test_the_value_is_the_mean_over_members_by_hand():
    linear = ValueMlp((1, 1), members=2)
    two = {"weight0": torch.tensor([[[1.0]], [[3.0]]]), "bias0": torch.tensor([[0.0], [2.0]])}
    two |= {"mean": torch.tensor(10.0), "scale": torch.tensor(2.0)}
    # at 1: (1 + 5) / 2 = 3, at 2: (2 + 8) / 2 = 5; in the returns' units 10 + 2 * 3 and 10 + 2 * 5
    assert linear.value(two, torch.tensor([[1.0], [2.0]])).tolist() == [16.0, 20.0]


def test_the_batched_network_is_every_member_alone():
    single = ValueMlp((3, 8, 1))
    alone = torch.stack([single.value(member(index), OBS) for index in range(4)])
    assert torch.allclose(ENSEMBLE.value(parameters(), OBS), alone.mean(0), atol=1e-6)
    assert (alone.std(0) > 0).all(), "each has an initialisation of its own"
    rollout = OBS.reshape(5, 4, 3)
    assert torch.allclose(ENSEMBLE.value(parameters(), rollout).flatten(), alone.mean(0), atol=1e-6)


def test_one_member_is_drawn_as_it_always_was():
    """The names and shapes of a single value function have no leading axis, so that old checkpoints fit."""
    assert {name: tuple(tensor.shape) for name, tensor in ValueMlp((3, 1)).initial(torch.Generator()).items()} == {
        "weight0": (3, 1),
        "bias0": (1,),
        "mean": (),
        "scale": (),
    }


def test_rescaling_an_ensemble_keeps_every_members_value():
    before = parameters()
    after = ENSEMBLE.rescaled(before, 100 + 30 * torch.randn(50, generator=torch.Generator().manual_seed(2)))
    assert after["scale"] > 20
    shared = OBS.expand(4, *OBS.shape)
    old, new = (ENSEMBLE.normalised(part, shared) * part["scale"] + part["mean"] for part in (before, after))
    assert torch.allclose(old, new, atol=1e-4)


def test_an_ensemble_computes_the_same_with_a_new_normaliser():
    old = Normaliser(torch.tensor([1.0, 0.0, -1.0]), torch.tensor([1.0, 2.0, 0.5]))
    new = Normaliser(torch.tensor([0.0, 3.0, 1.0]), torch.tensor([2.0, 0.1, 1.0]))
    before = ENSEMBLE.normalised(parameters(), old(OBS).expand(4, 20, 3))
    after = ENSEMBLE.normalised(rebased(parameters(), old, new), new(OBS).expand(4, 20, 3))
    assert torch.allclose(before, after, atol=1e-5)


def fit_of(members: int, generator: torch.Generator) -> ValueFit:
    config = ValueConfig(members=members, hidden=(16,), minibatch=50, epochs=60, learning_rate=1e-2)
    return ValueFit(3, config, generator)


def returns_of(obs: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """What is to be learned, and the same with noise."""
    truth = obs[:, 0] + obs[:, 1]
    return truth, truth + 0.5 * torch.randn(len(obs), generator=generator)


@pytest.mark.parametrize("members", [1, 4])
def test_a_fit_approaches_the_returns(members):
    generator = torch.Generator().manual_seed(3)
    obs, fit = torch.randn(200, 3, generator=generator), fit_of(members, generator)
    truth, returns = returns_of(obs, generator)
    fit.fit(obs, returns)
    assert (fit.values(obs) - truth).square().mean().sqrt() < 0.4


def test_members_that_begin_alike_part_by_their_bootstraps():
    generator = torch.Generator().manual_seed(3)
    obs, fit = torch.randn(200, 3, generator=generator), fit_of(4, generator)
    alike = {name: tensor[:1].expand_as(tensor) if tensor.ndim else tensor for name, tensor in fit.parameters.items()}
    fit.replace(alike)
    value, shared = ValueMlp((3, 16, 1), members=4), obs.expand(4, *obs.shape)
    assert value.normalised(fit.parameters, shared).std(0).max() == 0
    fit.fit(obs, returns_of(obs, generator)[1])
    assert value.normalised(fit.parameters, shared).std(0).mean() > 0.01
