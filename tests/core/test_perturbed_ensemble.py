import pytest
import torch
from fakes.point_task import PointTask

from mbrl_core.algorithms.me_ppo import MePpoConfig, me_ppo
from mbrl_core.models.ensemble import Ensemble, EnsembleConfig
from mbrl_core.models.normaliser import Normaliser
from mbrl_core.models.perturbation import PerturbationConfig
from mbrl_core.models.perturbed_ensemble import PerturbedEnsemble, make_ensemble

INPUTS, SCALE = torch.randn(7, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([2.0, 0.1])


def config(**perturbation) -> EnsembleConfig:
    return EnsembleConfig(hidden=(8,), max_steps=50, perturbation=PerturbationConfig(**perturbation))


def ensemble(seed: int = 0, **perturbation) -> Ensemble:
    """With targets of spread 2 and 0.1."""
    made = make_ensemble(3, 2, config(**perturbation), seed=seed)
    made.target_norm = Normaliser(torch.zeros(2), SCALE)
    return made


def test_every_member_has_a_bias_of_its_own_within_the_bound_on_all_outputs_alike():
    right, log_var = ensemble().predict(INPUTS)
    wrong, wrong_log_var = ensemble(bias=0.5).predict(INPUTS)
    shift = (wrong - right) / SCALE
    assert shift.min() >= 0 - 1e-5
    assert shift.max() <= 0.5 + 1e-5
    assert torch.allclose(shift, shift[:, :1, :1].expand_as(shift), atol=1e-5)
    assert len({round(float(value), 4) for value in shift[:, 0, 0]}) == 5
    assert torch.equal(wrong_log_var, log_var)


def test_a_bias_twice_as_large_is_the_same_error_doubled_and_another_seed_another():
    one, two, other = ensemble(bias=0.5), ensemble(bias=1.0), ensemble(seed=1, bias=0.5)
    assert torch.allclose(two.bias, 2 * one.bias)
    assert not torch.allclose(other.bias, one.bias)


def test_noise_adds_its_variance():
    mean, log_var = ensemble().predict(INPUTS)
    noisy_mean, noisy = ensemble(noise=0.3).predict(INPUTS)
    assert torch.equal(noisy_mean, mean)
    assert torch.allclose(torch.exp(noisy), torch.exp(log_var) + (0.3 * SCALE) ** 2, rtol=1e-4)


def fit(made: Ensemble) -> None:
    targets = INPUTS @ torch.ones(3, 2)
    made.fit(INPUTS, targets, INPUTS, targets)


def test_a_fit_does_not_know_of_the_perturbation():
    right, wrong = ensemble(), ensemble(bias=1.0, noise=0.1)
    for made in (right, wrong):
        fit(made)
    assert right.fingerprint() == wrong.fingerprint()
    assert torch.equal(right.disagreement(INPUTS), wrong.disagreement(INPUTS))


def test_every_fit_draws_the_biases_anew():
    made = ensemble(bias=1.0)
    drawn = [made.bias / made.target_norm.scale]
    for _ in range(2):
        fit(made)
        drawn.append(made.bias / made.target_norm.scale)
    assert all(not torch.allclose(one, two) for one, two in zip(drawn, drawn[1:], strict=False))
    assert all(0.0 <= float(share) <= 1.0 for shares in drawn for share in shares.flatten())


def test_an_ensemble_that_goes_on_from_another_has_its_biases_and_draws_its_next_ones():
    first, second = ensemble(bias=0.5), ensemble(seed=9, bias=0.5)
    second.replace(first.tensors())
    assert torch.equal(second.predict(INPUTS)[0], first.predict(INPUTS)[0])
    for made in (first, second):
        fit(made)
    assert torch.equal(second.bias, first.bias)


def test_a_learner_is_wrong_as_its_settings_say_and_by_default_not_at_all():
    assert type(me_ppo(PointTask()).ensemble) is Ensemble
    assert type(me_ppo(PointTask(), MePpoConfig(ensemble=config(bias=0.1))).ensemble) is PerturbedEnsemble
    with pytest.raises(ValueError, match=r"PerturbationConfig\.bias: expected at least 0.0, got -1.0"):
        me_ppo(PointTask(), MePpoConfig(ensemble=config(bias=-1.0)))
