import math

import pytest
import torch

from mbrl_core.models.normaliser import Normaliser
from mbrl_core.policies.gaussian_mlp import GaussianMlp, PolicyConfig, rebased


def policy_and_parameters(**settings):
    policy = GaussianMlp(3, 2, PolicyConfig(**settings))
    return policy, policy.initial(torch.Generator().manual_seed(0))


def test_flat_and_named_parameters_are_the_same():
    policy, parameters = policy_and_parameters()
    theta = policy.flatten(parameters)
    assert theta.shape == (policy.count,) == (3 * 64 + 64 + 64 * 64 + 64 + 64 * 2 + 2 + 2,)
    for name, tensor in policy.unflatten(theta).items():
        assert torch.equal(tensor, parameters[name])


def test_a_flat_vector_of_another_length_is_refused():
    policy, parameters = policy_and_parameters()
    with pytest.raises(ValueError, match=r"theta: expected \(\d+,\), got"):
        policy.unflatten(policy.flatten(parameters)[:-1])


def test_log_prob_is_the_gaussian_density():
    policy, parameters = policy_and_parameters(initial_std=0.5)
    obs, action = torch.zeros(1, 3), torch.tensor([[0.5, 0.0]])  # zero biases: the mean is 0, one action 1 sigma away
    assert policy.log_prob(parameters, obs, action).item() == pytest.approx(
        -0.5 - 2 * math.log(0.5) - math.log(2 * math.pi), abs=1e-5
    )


@pytest.mark.parametrize("cost", [1.0, 0.5])
def test_cost_of_means_outside_by_hand(cost):
    policy = GaussianMlp(2, 2, PolicyConfig(hidden=(), outside_cost=cost))
    parameters = policy.initial(torch.Generator().manual_seed(0)) | {"weight0": torch.eye(2)}
    seen = torch.tensor([[[1.5, 0.0], [-3.0, 2.0]], [[0.9, -1.0], [1.0, -1.25]]])
    expected = cost * torch.tensor([[0.25, 4.0 + 1.0], [0.0, 0.0625]])
    assert torch.equal(policy.outside(parameters, seen), expected)


def test_spread_never_falls_below_its_bound():
    policy, parameters = policy_and_parameters(min_std=0.2)
    _, log_std = policy.distribution(parameters | {"log_std": torch.full((2,), -9.0)}, torch.zeros(1, 3))
    assert torch.allclose(log_std.exp(), torch.tensor(0.2))


def test_a_spread_on_its_bound_can_widen():
    policy, parameters = policy_and_parameters(min_std=0.2)
    parameters["log_std"].fill_(-9.0)
    before = policy.distribution(parameters, torch.zeros(1, 3))
    policy.project_(parameters)
    after = policy.distribution(parameters, torch.zeros(1, 3))
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True)), "projecting changes no distribution"
    log_std = parameters["log_std"].requires_grad_()
    far = torch.full((1, 2), 3.0)  # 15 standard deviations away: more spread would make it likelier
    policy.log_prob(parameters, torch.zeros(1, 3), far).sum().backward()
    assert log_std.grad.tolist() == pytest.approx([15**2 - 1] * 2, rel=1e-4)


def test_projecting_leaves_a_spread_above_its_bound():
    policy, parameters = policy_and_parameters(min_std=0.2, initial_std=0.5)
    policy.project_(parameters)
    assert torch.allclose(parameters["log_std"].exp(), torch.tensor(0.5))


def test_rebased_parameters_compute_the_same_with_the_new_normaliser():
    policy, parameters = policy_and_parameters()
    old = Normaliser(torch.tensor([1.0, 0.0, -1.0]), torch.tensor([1.0, 2.0, 0.5]))
    new = Normaliser(torch.tensor([0.0, 3.0, 1.0]), torch.tensor([2.0, 0.1, 1.0]))
    obs = torch.randn(9, 3, generator=torch.Generator().manual_seed(1))
    before, _ = policy.distribution(parameters, old(obs))
    after, _ = policy.distribution(rebased(parameters, old, new), new(obs))
    assert torch.allclose(before, after, atol=1e-6)
