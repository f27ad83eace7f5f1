import math

import pytest
import torch

from mbrl_core.algorithms.trpo import (
    TrpoConfig,
    conjugate_gradient,
    fisher_product,
    importance_surrogate,
    moved,
    trpo_step,
)
from mbrl_core.policies.diagonal_gaussian import gaussian_kl, policy_kl
from mbrl_core.policies.gaussian_mlp import GaussianMlp, PolicyConfig


def case(seed: int, dtype=torch.float64, hidden: tuple[int, ...] = (5,), count: int = 60):
    """A random policy and a random batch that it acted in."""
    generator = torch.Generator().manual_seed(seed)
    policy = GaussianMlp(3, 2, PolicyConfig(hidden=hidden))
    theta = {
        name: (tensor + 0.3 * torch.randn(tensor.shape, generator=generator)).to(dtype)
        for name, tensor in policy.initial(generator).items()
    }
    obs = torch.randn(count, 3, generator=generator).to(dtype)
    mean, log_std = policy.distribution(theta, obs)
    actions = mean + torch.exp(log_std) * torch.randn(count, 2, generator=generator).to(dtype)
    advantages = torch.randn(count, generator=generator).to(dtype)
    log_prob = policy.log_prob(theta, obs, actions)
    return policy, theta, (obs, actions, log_prob, advantages)


def callables(policy, theta, data):
    return (
        lambda parameters: importance_surrogate(policy, parameters, *data),
        lambda parameters: policy_kl(policy, theta, parameters, data[0]).mean(),
    )


def test_kl_by_hand():
    mean, log_std = torch.tensor([1.0, 0.0]), torch.tensor([0.0, math.log(2.0)])
    other_mean, other_log_std = torch.tensor([3.0, 0.0]), torch.tensor([math.log(2.0), 0.0])
    # log 2 + (1 + 4) / 8 - 1/2, and -log 2 + 4 / 2 - 1/2
    expected = 5 / 8 - 0.5 + 2 - 0.5
    assert gaussian_kl(mean, log_std, other_mean, other_log_std).item() == pytest.approx(expected)
    assert gaussian_kl(mean, log_std, mean, log_std).item() == 0.0


def test_fisher_product_against_the_explicit_fisher():
    """F = E_obs[J^T diag(1 / sigma^2) J] of the mean's Jacobian, plus 2 for every log sigma."""
    policy, theta, data = case(0)
    theta["log_std"] = torch.tensor([-0.5, 0.3], dtype=torch.float64)  # above the bound: below it there is no curvature
    flat = policy.flatten(theta)
    jacobian = torch.func.jacrev(lambda vector: policy.distribution(policy.unflatten(vector), data[0])[0])(flat)
    precision = torch.exp(-2 * theta["log_std"])
    fisher = torch.einsum("bap,a,baq->pq", jacobian, precision, jacobian) / len(data[0])
    fisher[-2:, -2:] += 2 * torch.eye(2, dtype=torch.float64)
    product = fisher_product(callables(policy, theta, data)[1], theta, damping=0.1)
    columns = torch.stack([product(column) for column in torch.eye(len(flat), dtype=torch.float64)])
    assert torch.allclose(columns, fisher + 0.1 * torch.eye(len(flat), dtype=torch.float64), atol=1e-10)


def test_fisher_product_of_a_kl_that_ignores_a_parameter_is_zero_there():
    parameters = {"used": torch.tensor([1.0, 2.0]), "unused": torch.tensor([3.0])}
    product = fisher_product(lambda p: (p["used"] ** 2).sum(), parameters, damping=0.5)
    assert product(torch.tensor([1.0, -1.0, 1.0])).tolist() == [2.5, -2.5, 0.5]


def test_conjugate_gradient_solves_in_as_many_iterations_as_dimensions():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(6, 6, generator=generator).double()
    matrix, target = root @ root.T + torch.eye(6).double(), torch.randn(6, generator=generator).double()
    solution = conjugate_gradient(lambda vector: matrix @ vector, target, 6, 0.0)
    assert torch.allclose(solution, torch.linalg.solve(matrix, target))
    nothing = torch.zeros(6).double()
    assert torch.equal(conjugate_gradient(lambda vector: matrix @ vector, nothing, 6, 0.0), nothing)


def test_surrogate_gradient_against_finite_differences():
    policy, theta, data = case(1)

    def surrogate(*tensors):
        return importance_surrogate(policy, dict(zip(theta, tensors, strict=True)), *data)

    assert torch.autograd.gradcheck(surrogate, [tensor.requires_grad_() for tensor in theta.values()])


@pytest.mark.parametrize("max_kl", [1e-4, 0.01, 0.3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kl_after_every_step_is_within_its_bound_and_the_surrogate_never_falls(max_kl, dtype):
    taken = 0
    for seed in range(30):
        policy, theta, data = case(seed, dtype, hidden=((), (5,), (8, 8))[seed % 3])
        surrogate, kl = callables(policy, theta, data)
        step = trpo_step(surrogate, kl, theta, TrpoConfig(max_kl=max_kl))
        assert float(kl(step.parameters)) <= max_kl
        assert float(surrogate(step.parameters)) >= float(surrogate(theta))
        taken += step.accepted
    assert taken == 30


def test_the_bound_is_kept_over_several_steps_on_one_batch():
    policy, theta, data = case(2)
    surrogate, kl = callables(policy, theta, data)
    parameters, values = theta, []
    for _ in range(5):
        step = trpo_step(surrogate, kl, parameters, TrpoConfig(max_kl=0.01))
        parameters = step.parameters
        assert step.kl == pytest.approx(float(kl(parameters))) and step.kl <= 0.01
        values.append(float(surrogate(parameters)))
    assert values == sorted(values)


def test_a_step_uses_up_most_of_its_bound():
    policy, theta, data = case(3, count=500)
    step = trpo_step(*callables(policy, theta, data), theta, TrpoConfig(max_kl=0.01, damping=1e-4))
    assert 0.003 < step.kl <= 0.01


def test_no_step_where_nothing_is_better():
    policy, theta, (obs, actions, log_prob, advantages) = case(4)
    step = trpo_step(*callables(policy, theta, (obs, actions, log_prob, 0 * advantages)), theta, TrpoConfig())
    assert not step.accepted and step.parameters is theta and step.kl == 0.0


def test_no_step_where_the_kl_is_not_a_number():
    policy, theta, data = case(5)
    surrogate, kl = callables(policy, theta, data)

    def torn(parameters):  # finite where the step begins, and nowhere else
        same = all(torch.equal(parameters[name], theta[name]) for name in theta)
        return kl(parameters) if same else kl(parameters) * math.nan

    step = trpo_step(surrogate, torn, theta, TrpoConfig())
    assert not step.accepted and step.parameters is theta


def test_a_surrogate_that_is_not_finite_is_refused_where_it_arises():
    policy, theta, (obs, actions, log_prob, advantages) = case(6)
    advantages[3] = math.nan
    with pytest.raises(FloatingPointError, match="surrogate gradient"):
        trpo_step(*callables(policy, theta, (obs, actions, log_prob, advantages)), theta, TrpoConfig())


def test_moved_parameters_keep_their_names_and_order():
    parameters = {"b": torch.zeros(2, 1), "a": torch.ones(1)}
    assert moved(parameters, torch.tensor([1.0, 2.0, 3.0]))["b"].tolist() == [[1.0], [2.0]]
    assert moved(parameters, torch.tensor([1.0, 2.0, 3.0]))["a"].tolist() == [4.0]
