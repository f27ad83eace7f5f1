import pytest
import torch
from fakes.linear_gaussian import POLICY, LinearGaussian, linear_policy
from torch.func import grad, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from mbrl_core.algorithms.inner_step import (
    FORMS,
    InnerStepConfig,
    StepBatch,
    adapt,
    adapted_parameters,
    inner_loss,
    uniform_step_sizes,
)
from mbrl_core.config import check
from mbrl_core.policies.diagonal_gaussian import policy_kl
from mbrl_core.policies.gaussian_mlp import GaussianMlp, PolicyConfig


def flat(tensors: dict) -> torch.Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors.values()])


def stacked(batches: list[StepBatch]) -> StepBatch:
    return StepBatch(*(torch.stack(column) for column in zip(*batches, strict=True)))


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def small_case(rollouts: int = 7, horizon: int = 4):
    """A policy with a hidden layer, in float64, and a batch that it did not act in: no quantity is special."""
    generator = torch.Generator().manual_seed(3)
    policy = GaussianMlp(3, 2, PolicyConfig(hidden=(4,)))
    theta = {name: tensor.double() for name, tensor in policy.initial(generator).items()}
    obs = torch.randn(horizon, rollouts, 3, generator=generator).double()
    actions = 0.5 * torch.randn(horizon, rollouts, 2, generator=generator).double()
    log_prob = policy.log_prob(theta, obs, actions) + 0.1 * torch.randn(horizon, rollouts, generator=generator)
    advantages = torch.randn(horizon, rollouts, generator=generator).double()
    weights = torch.ones(horizon, rollouts).double()
    weights[-1, :2] = 0.0
    return policy, theta, StepBatch(obs, actions, log_prob, advantages, weights)


def test_forms_by_hand():
    policy = GaussianMlp(1, 1, PolicyConfig(hidden=()))
    theta = {"weight0": torch.zeros(1, 1), "bias0": torch.zeros(1), "log_std": torch.zeros(1)}
    obs, actions = torch.zeros(2, 1, 1), torch.zeros(2, 1, 1)
    log_prob = policy.log_prob(theta, obs, actions)
    acting = log_prob - torch.log(torch.tensor([[2.0], [0.5]]))  # ratios 2 and 1/2, their products 2 and 1
    batch = StepBatch(obs, actions, acting, torch.tensor([[3.0], [5.0]]), torch.ones(2, 1))
    assert inner_loss(policy, theta, batch, "lvc").item() == pytest.approx(-(2 * 3 + 0.5 * 5) / 2)
    assert inner_loss(policy, theta, batch, "dice").item() == pytest.approx(-((2 - 1) * 3 + (1 - 2) * 5) / 2)
    assert inner_loss(policy, theta, batch, "log_likelihood").item() == pytest.approx(-log_prob[0].item() * 8 / 2)
    last_only = batch._replace(weights=torch.tensor([[0.0], [1.0]]))
    assert inner_loss(policy, theta, last_only, "lvc").item() == pytest.approx(-0.5 * 5)


def test_dice_with_rewards_to_go_is_dice_with_rewards():
    policy, theta, batch = small_case()
    batch = batch._replace(weights=torch.ones_like(batch.weights))
    rewards = batch.advantages
    to_go = rewards.flip(0).cumsum(0).flip(0)
    products = torch.exp((policy.log_prob(theta, batch.obs, batch.actions) - batch.log_prob).cumsum(0))
    original = -(products * rewards).mean() + to_go[0].sum() / rewards.numel()  # they differ by a constant
    assert torch.allclose(inner_loss(policy, theta, batch._replace(advantages=to_go), "dice"), original)


@pytest.mark.parametrize("form", FORMS)
def test_inner_gradient_against_finite_differences(form):
    policy, theta, batch = small_case()

    def loss(*tensors):
        return inner_loss(policy, dict(zip(theta, tensors, strict=True)), batch, form)

    assert torch.autograd.gradcheck(loss, [tensor.requires_grad_() for tensor in theta.values()])


@pytest.mark.parametrize("form", FORMS)
def test_inner_gradient_is_that_of_the_exact_return(form):
    problem, theta = LinearGaussian(), linear_policy()
    batch = problem.sample(theta, 50_000, torch.Generator().manual_seed(0))
    estimate = flat(grad(lambda parameters: -inner_loss(POLICY, parameters, batch, form))(theta))
    exact = flat(grad(problem.expected_return)(theta)) / problem.horizon
    assert torch.allclose(estimate, exact, atol=0.02 * exact.norm().item())


def test_expected_return_is_the_mean_of_sampled_returns():
    problem, theta = LinearGaussian(), linear_policy()
    batch = problem.sample(theta, 100_000, torch.Generator().manual_seed(1))
    assert batch.advantages.mean(1) == pytest.approx([0.0] * problem.horizon, abs=0.02)  # the value is exact


@pytest.mark.parametrize("form", FORMS)
def test_adapted_parameters_against_finite_differences_in_parameters_and_step_sizes(form):
    policy, theta, batch = small_case()
    sizes = {name: 0.1 + 0.05 * torch.rand_like(tensor) for name, tensor in theta.items()}
    names, count = list(theta), len(theta)

    def outer(*tensors):
        both = [dict(zip(names, part, strict=True)) for part in (tensors[:count], tensors[count:])]
        return (flat(adapted_parameters(policy, *both, batch, form)) ** 2).sum()

    leaves = [tensor.detach().requires_grad_() for tensor in (*theta.values(), *sizes.values())]
    assert torch.autograd.gradcheck(outer, leaves)


def test_a_second_inner_step_is_differentiable_through_both():
    policy, theta, batch = small_case()
    sizes = uniform_step_sizes(theta, 0.1)

    def outer(*tensors):
        once = adapted_parameters(policy, dict(zip(theta, tensors, strict=True)), sizes, batch)
        return (flat(adapted_parameters(policy, once, sizes, batch)) ** 2).sum()

    assert torch.autograd.gradcheck(outer, [tensor.requires_grad_() for tensor in theta.values()])


def test_two_inner_steps_improve_the_exact_return_twice():
    problem, theta = LinearGaussian(), linear_policy()
    generator, returns = torch.Generator().manual_seed(0), []
    for _ in range(3):
        returns.append(problem.expected_return(theta).item())
        batch = problem.sample(theta, 500, generator)
        theta = adapt(POLICY, theta, uniform_step_sizes(theta, 0.1), batch).parameters
    assert returns[0] < returns[1] < returns[2]


def test_a_step_reports_loss_kl_and_gradient_norm():
    policy, theta, batch = small_case()
    batch = batch._replace(weights=torch.ones_like(batch.weights))
    step = adapt(policy, theta, uniform_step_sizes(theta, 0.1), batch)
    slope = grad(lambda parameters: inner_loss(policy, parameters, batch))(theta)
    assert torch.allclose(step.gradient_norm, flat(slope).norm())
    assert torch.allclose(flat(step.parameters), flat(theta) - 0.1 * flat(slope))
    assert torch.equal(step.loss, inner_loss(policy, theta, batch))
    assert torch.allclose(step.kl, policy_kl(policy, theta, step.parameters, batch.obs).mean())


def test_lvc_is_nearer_the_exact_meta_gradient_than_log_likelihood_and_calmer_than_dice():
    """Of the mean over three tasks after a step; LVC's small bias stays (its cosine falls as horizon or alpha grow)."""
    size, seeds, rollouts, theta = 0.3, 200, 100, linear_policy()
    sizes, generator = uniform_step_sizes(theta, size), torch.Generator().manual_seed(0)
    exact, estimates = torch.zeros(4).double(), {form: torch.zeros(seeds, 4).double() for form in FORMS}
    for gain, offset in ((1.0, 0.8), (1.0, -0.8), (0.5, 0.5)):
        problem = LinearGaussian(horizon=20, gain=gain, offset=offset)

        def after_exact_step(parameters, problem=problem):
            slope = grad(problem.expected_return)(parameters)
            return problem.expected_return({k: v + size / problem.horizon * slope[k] for k, v in parameters.items()})

        exact += flat(grad(after_exact_step)(theta))
        batches = stacked([problem.sample(theta, rollouts, generator) for _ in range(seeds)])
        for form in FORMS:

            def after_step(parameters, batch, problem=problem, form=form):
                return problem.expected_return(adapted_parameters(POLICY, parameters, sizes, batch, form))

            slopes = vmap(grad(after_step), (None, 0))(theta, batches)
            estimates[form] += torch.cat([slope.reshape(seeds, -1) for slope in slopes.values()], 1)
    cosines = {form: cosine(estimate.mean(0), exact) for form, estimate in estimates.items()}
    variances = {form: float(estimate.var(0).sum()) for form, estimate in estimates.items()}
    assert cosines["dice"] > 0.99  # it has every term
    assert cosines["lvc"] >= 0.95
    assert cosines["lvc"] > cosines["log_likelihood"] + 0.05
    assert variances["lvc"] < variances["dice"] / 5


def test_a_traced_step_takes_batches_of_any_size():
    policy, theta, batch = small_case()
    sizes = uniform_step_sizes(theta, 0.1)

    def step(theta, sizes, obs, actions, log_prob, advantages, weights):
        return adapt(policy, theta, sizes, StepBatch(obs, actions, log_prob, advantages, weights))

    rows = StepBatch(*(column.flatten(0, 1) for column in batch))
    traced = make_fx(step, tracing_mode="symbolic")(theta, sizes, *rows)
    fewer = StepBatch(*(column[:11] for column in rows))
    result, expected = traced(theta, sizes, *fewer), adapt(policy, theta, sizes, fewer)
    assert torch.allclose(flat(result.parameters), flat(expected.parameters))
    assert torch.allclose(result.kl, expected.kl)


def test_bad_input_is_refused():
    policy, theta, batch = small_case()
    sizes = uniform_step_sizes(theta, 0.1)
    with pytest.raises(ValueError, match="form: expected one of .*'lvc'.*, got 'maml'"):
        adapt(policy, theta, sizes, batch, "maml")
    with pytest.raises(ValueError, match=r"batch.obs: expected \(H, B, O\) for the form dice"):
        adapt(policy, theta, sizes, StepBatch(*(column.flatten(0, 1) for column in batch)), "dice")
    with pytest.raises(ValueError, match=r"batch.advantages: expected \(4, 7\), got \(3, 7\)"):
        adapt(policy, theta, sizes, batch._replace(advantages=batch.advantages[1:]))
    with pytest.raises(ValueError, match="step_sizes: expected names"):
        adapt(policy, theta, {"weight0": sizes["weight0"]}, batch)
    with pytest.raises(ValueError, match="InnerStepConfig.form: expected one of"):
        check(InnerStepConfig(form="maml"))
