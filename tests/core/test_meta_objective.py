import pytest
import torch
from fakes.linear_gaussian import POLICY, LinearGaussian, linear_policy
from torch.func import grad

from mbrl_core.algorithms.inner_step import FORMS, StepBatch, adapt, uniform_step_sizes
from mbrl_core.algorithms.meta_objective import (
    MetaBatch,
    MetaObjectiveConfig,
    adapt_tasks,
    for_tasks,
    joined,
    meta_loss,
    meta_surrogate,
    meta_terms,
    minibatches,
    parted,
    steps_by_task,
)
from mbrl_core.algorithms.trpo import TrpoConfig, trpo_step
from mbrl_core.models.roll_out import Rollouts
from mbrl_core.policies.diagonal_gaussian import policy_kl

TASKS = tuple(LinearGaussian(gain=gain, offset=offset) for gain, offset in ((1.0, 0.8), (1.0, -0.8), (0.5, 0.5)))
SIZE = 0.3


def flat(tensors: dict) -> torch.Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors.values()])


def sampled(parameters: dict, rollouts: int, generator: torch.Generator) -> StepBatch:
    """Each task's own policy acts in it."""
    batches = [
        problem.sample({name: tensor[task] for name, tensor in parameters.items()}, rollouts, generator)
        for task, problem in enumerate(TASKS)
    ]
    return StepBatch(*(torch.stack(column) for column in zip(*batches, strict=True)))


def meta_batch(theta: dict, sizes: dict, rollouts: int, steps: int = 1, form: str = "lvc", seed: int = 0) -> MetaBatch:
    """Collect as MB-MPO does."""
    generator, acting, inner = torch.Generator().manual_seed(seed), [for_tasks(theta, len(TASKS))], []
    for _ in range(steps):
        inner.append(sampled(acting[-1], rollouts, generator))
        acting.append(adapt_tasks(POLICY, acting[-1], sizes, inner[-1], form).parameters)
    return MetaBatch(tuple(inner), sampled(acting[-1], rollouts, generator), tuple(acting))


def test_tasks_adapt_together_as_they_would_alone():
    theta, generator = linear_policy(), torch.Generator().manual_seed(0)
    sizes, shared = uniform_step_sizes(theta, SIZE), for_tasks(theta, 3)
    batch = sampled(shared, 20, generator)
    together = adapt_tasks(POLICY, shared, sizes, batch)
    for task in range(3):
        alone = adapt(POLICY, theta, sizes, StepBatch(*(column[task] for column in batch)))
        assert torch.allclose(flat({k: v[task] for k, v in together.parameters.items()}), flat(alone.parameters))
        assert torch.allclose(together.kl[task], alone.kl)


def test_minibatches_are_whole_rollouts_and_each_rollout_comes_once():
    theta = linear_policy()
    batch = meta_batch(theta, uniform_step_sizes(theta, SIZE), rollouts=7)
    parts = list(minibatches(batch, 3, torch.Generator().manual_seed(1)))
    assert [part.outer.advantages.shape[2] for part in parts] == [3, 2, 2]
    for whole, split in ((batch.inner[0], [part.inner[0] for part in parts]), (batch.outer, [p.outer for p in parts])):
        together = StepBatch(*(torch.cat(column, dim=2) for column in zip(*split, strict=True)))
        for rollout in range(7):
            (place,) = torch.nonzero((together.log_prob == whole.log_prob[:, :, [rollout]]).all(1).all(0))[0]
            for mine, given in zip(together, whole, strict=True):
                assert torch.equal(mine[:, :, place], given[:, :, rollout])
    assert all(part.acting == batch.acting for part in parts)


def test_terms_where_nothing_has_moved():
    theta = linear_policy()
    sizes = uniform_step_sizes(theta, SIZE)
    batch = meta_batch(theta, sizes, 20, steps=2)
    terms = meta_terms(POLICY, theta, sizes, batch)
    assert terms.inner_kl.item() == pytest.approx(0, abs=1e-12)
    assert terms.outer_kl.item() == pytest.approx(0, abs=1e-12)
    assert torch.allclose(terms.surrogate, batch.outer.advantages.mean())
    assert torch.allclose(terms.clipped, terms.surrogate)


def test_kl_terms_are_from_who_acted_to_who_would_act_now():
    theta = linear_policy()
    sizes, batch = uniform_step_sizes(theta, SIZE), meta_batch(theta, uniform_step_sizes(theta, SIZE), 20)
    now = {name: tensor + 0.2 for name, tensor in theta.items()}
    adapted = adapt_tasks(POLICY, for_tasks(now, 3), sizes, batch.inner[0]).parameters
    inner, outer = [], []
    for task in range(3):
        acted, acted_after, after = (
            {name: tensor[task] for name, tensor in parameters.items()} for parameters in (*batch.acting, adapted)
        )
        inner.append(policy_kl(POLICY, acted, now, batch.inner[0].obs[task]).mean())
        outer.append(policy_kl(POLICY, acted_after, after, batch.outer.obs[task]).mean())
    terms = meta_terms(POLICY, now, sizes, batch, clip=0.05)
    assert torch.allclose(terms.inner_kl, torch.stack(inner).mean())
    assert torch.allclose(terms.outer_kl, torch.stack(outer).mean())
    config = MetaObjectiveConfig(inner_kl_weight=2.0)
    assert torch.allclose(meta_loss(terms, config), 2 * terms.inner_kl - terms.clipped)
    assert torch.allclose(meta_surrogate(terms, config), terms.surrogate - 2 * terms.inner_kl)
    assert terms.clipped < terms.surrogate


def test_steps_after_a_rollout_has_ended_do_not_count():
    theta = linear_policy()
    sizes, batch = uniform_step_sizes(theta, SIZE), meta_batch(theta, uniform_step_sizes(theta, SIZE), 20)

    def ended(steps: StepBatch) -> StepBatch:
        weights = steps.weights.clone()
        weights[:, 3:] = 0.0
        return steps._replace(weights=weights, advantages=torch.where(weights > 0, steps.advantages, 1e6))

    def cut(steps: StepBatch) -> StepBatch:
        return StepBatch(*(column[:, :3] for column in steps))

    shifted = {name: tensor + 0.01 for name, tensor in theta.items()}
    masked = meta_terms(POLICY, shifted, sizes, MetaBatch((ended(batch.inner[0]),), ended(batch.outer), batch.acting))
    shorter = meta_terms(POLICY, shifted, sizes, MetaBatch((cut(batch.inner[0]),), cut(batch.outer), batch.acting))
    assert torch.allclose(torch.stack(masked), torch.stack(shorter))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("steps", [1, 2])
def test_outer_gradient_against_finite_differences_in_parameters_and_step_sizes(form, steps):
    """Away from where the batch was collected, so that the KL penalty and the clip take part."""
    theta = linear_policy()
    sizes = {name: SIZE + 0.1 * torch.rand_like(tensor) for name, tensor in theta.items()}
    batch, config = meta_batch(theta, sizes, 10, steps, form), MetaObjectiveConfig(clip=0.1, inner_kl_weight=0.5)
    both = joined({name: tensor + 0.05 for name, tensor in theta.items()}, sizes)

    def loss(*tensors):
        return meta_loss(
            meta_terms(POLICY, *parted(dict(zip(both, tensors, strict=True))), batch, form, config.clip), config
        )

    leaves = [tensor.clone().requires_grad_() for tensor in both.values()]
    assert torch.autograd.gradcheck(loss, leaves)
    slopes = torch.autograd.grad(loss(*leaves), leaves)
    assert all(slope.abs().max() > 0 for slope in slopes)


def test_sampled_meta_gradient_is_the_exact_one():
    """DiCE, since it alone is unbiased; with the KL penalty's gradient zero where the policies acted."""
    theta = linear_policy()
    sizes = uniform_step_sizes(theta, SIZE)
    both, batch = joined(theta, sizes), meta_batch(theta, sizes, 20_000, form="dice")

    def sampled_surrogate(both):
        terms = meta_terms(POLICY, *parted(both), batch, "dice")
        return meta_surrogate(terms, MetaObjectiveConfig())

    def exact(both):
        theta, sizes = parted(both)
        total = torch.zeros(()).double()
        for problem in TASKS:
            slope = grad(problem.expected_return)(theta)
            adapted = {k: theta[k] + sizes[k] / problem.horizon * slope[k] for k in theta}
            total = total + problem.expected_return(adapted) / problem.horizon / len(TASKS)
        return total

    estimate, expected = flat(grad(sampled_surrogate)(both)), flat(grad(exact)(both))
    assert torch.allclose(estimate, expected, atol=0.03 * expected.norm().item())


def test_outer_trpo_keeps_its_bound_on_the_adapted_policies_and_moves_step_sizes():
    theta = linear_policy()
    sizes, config = uniform_step_sizes(theta, SIZE), MetaObjectiveConfig()
    for seed in range(10):
        both, batch = joined(theta, sizes), meta_batch(theta, sizes, 50, seed=seed)
        step = trpo_step(
            lambda both, batch=batch: meta_surrogate(meta_terms(POLICY, *parted(both), batch), config),
            lambda both, batch=batch: meta_terms(POLICY, *parted(both), batch).outer_kl,
            both,
            TrpoConfig(max_kl=0.01),
        )
        assert step.accepted
        new_theta, new_sizes = parted(step.parameters)
        assert float(meta_terms(POLICY, new_theta, new_sizes, batch).outer_kl) <= 0.01
        assert not torch.equal(flat(new_sizes), flat(sizes))


def test_meta_learning_raises_the_return_after_adaptation():
    theta = linear_policy()
    sizes, generator = uniform_step_sizes(theta, SIZE), torch.Generator().manual_seed(9)

    def adapted_return(theta, sizes):
        adapted = adapt_tasks(POLICY, for_tasks(theta, 3), sizes, sampled(for_tasks(theta, 3), 2000, generator))
        return sum(
            problem.expected_return({name: tensor[task] for name, tensor in adapted.parameters.items()}).item()
            for task, problem in enumerate(TASKS)
        )

    before = adapted_return(theta, sizes)
    for seed in range(5):
        batch = meta_batch(theta, sizes, 200, seed=seed)
        step = trpo_step(
            lambda both, batch=batch: meta_terms(POLICY, *parted(both), batch).surrogate,
            lambda both, batch=batch: meta_terms(POLICY, *parted(both), batch).outer_kl,
            joined(theta, sizes),
            TrpoConfig(max_kl=0.02),
        )
        theta, sizes = parted(step.parameters)
    assert adapted_return(theta, sizes) > before + 1.0


def test_rollouts_are_split_by_member():
    obs = torch.arange(3 * 6 * 1.0).reshape(3, 6, 1)
    column = torch.arange(2 * 6 * 1.0).reshape(2, 6)
    member = torch.arange(3).repeat_interleave(2)
    ends, alive = column < 0, column >= 0
    rollouts = Rollouts(obs, column[..., None], column, column, ends, ends, alive, torch.zeros(6, 1), member)
    steps = steps_by_task(rollouts, column, 3)
    assert steps.obs.shape == (3, 2, 2, 1)
    assert torch.equal(steps.advantages[1], column[:, 2:4])
    assert torch.equal(steps.obs[2], obs[:2, 4:6])
    with pytest.raises(ValueError, match="rollouts: expected a multiple of 4 rows, got 6"):
        steps_by_task(rollouts, column, 4)


def test_joined_parameters_part_again_in_their_order():
    theta = linear_policy()
    sizes = uniform_step_sizes(theta, 0.1)
    again = parted(joined(theta, sizes))
    assert again == (theta, sizes) and list(again[0]) == list(theta)


def test_acting_parameters_that_do_not_fit_are_refused():
    theta = linear_policy()
    sizes = uniform_step_sizes(theta, SIZE)
    batch = meta_batch(theta, sizes, 4)
    with pytest.raises(ValueError, match="batch.acting: expected 2 sets of parameters, got 1"):
        meta_terms(POLICY, theta, sizes, batch._replace(acting=batch.acting[:1]))
