"""MB-MPO's outer objective: how good the policies are that one or more inner steps make, each in its own task.

A task is a member of the ensemble (MB-MPO, Clavera et al. 2018, arXiv 1809.05214): maximise over theta the mean over
tasks of J_k(theta'_k), theta'_k = theta - alpha grad loss_k(theta). Everything is a pure function of theta and alpha,
evaluated for all tasks at once by torch.func.vmap; both are differentiated through the inner steps.
Two outer steps: PPO's clipped surrogate with a penalty on the inner KL (ProMP, Rothfuss et al. 2019, arXiv 1810.06784,
J^ProMP), and TRPO on the adapted policies (MAML, Finn et al. 2017, arXiv 1703.03400).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import vmap

from mbrl_core.algorithms.inner_step import InnerStep, StepBatch, adapt, adapted_parameters, weighted_mean
from mbrl_core.algorithms.ppo import clipped_loss
from mbrl_core.config import refuse, setting
from mbrl_core.models.roll_out import Rollouts
from mbrl_core.policies.diagonal_gaussian import policy_kl
from mbrl_core.policies.gaussian_mlp import GaussianMlp, Parameters

_STEP_SIZE = "step_size."


@dataclass(frozen=True, kw_only=True)
class MetaObjectiveConfig:
    """The outer objective."""

    clip: float = setting(0.3, doc="bound on the adapted policies' probability ratio's distance from 1", low=0.01)
    inner_kl_weight: float = setting(5e-4, doc="penalty on the policies before the last inner step moving", low=0.0)


class MetaBatch(NamedTuple):
    """Imagined experience of N tasks through I inner steps; every tensor has the leading axis N."""

    inner: tuple[StepBatch, ...]  # I of them: by the meta-policy, then by policies adapted once, twice, ...
    outer: StepBatch  # by the policies that all inner steps have adapted
    acting: tuple[Parameters, ...]  # I + 1: who acted in inner[0], ..., inner[I-1], outer


class MetaTerms(NamedTuple):
    """The parts of outer objectives, means over tasks."""

    surrogate: Tensor  # (), mean ratio * advantage of the adapted policies
    clipped: Tensor  # (), the same clipped, PPO's
    inner_kl: Tensor  # (), sum over inner steps of the KL (acting | now) of the policy that the step begins from, nats
    outer_kl: Tensor  # (), KL (acting | now) of the adapted policies, nats
    outside: Tensor  # (), sum over inner steps of what mean actions outside [-1, 1] cost the policy that it begins from


def for_tasks(parameters: Parameters, tasks: int) -> Parameters:
    """The same parameters for N tasks, without a copy: (...) to (N, ...)."""
    return {name: tensor.expand(tasks, *tensor.shape) for name, tensor in parameters.items()}


def adapt_tasks(
    policy: GaussianMlp, parameters: Parameters, step_sizes: Parameters, batch: StepBatch, form: str = "lvc"
) -> InnerStep:
    """One inner step in each task, from each task's own parameters: all with the leading axis N but the step sizes."""

    def one(theta: Parameters, steps: StepBatch) -> InnerStep:
        return adapt(policy, theta, step_sizes, steps, form)

    result: InnerStep = vmap(one)(parameters, batch)
    return result


def meta_terms(
    policy: GaussianMlp,
    parameters: Parameters,
    step_sizes: Parameters,
    batch: MetaBatch,
    form: str = "lvc",
    clip: float = 0.3,
) -> MetaTerms:
    """Repeat the inner steps from the given meta-parameters and judge where they lead.

    Args:
      policy: its shape.
      parameters: theta, shared by all tasks.
      step_sizes: alpha, shared by all tasks and inner steps.
      batch: what the acting policies saw.
      form: of the inner loss.
      clip: PPO's epsilon.

    Raises:
      ValueError: an unknown form, or not one set of acting parameters per batch.
    """
    if len(batch.acting) != len(batch.inner) + 1:
        raise refuse("batch.acting", f"{len(batch.inner) + 1} sets of parameters", len(batch.acting))

    def one(task: MetaBatch) -> MetaTerms:
        return _task_terms(policy, parameters, step_sizes, task, form, clip)

    return MetaTerms(*(term.mean(0) for term in vmap(one)(batch)))


def minibatches(batch: MetaBatch, count: int, generator: torch.Generator) -> Iterator[MetaBatch]:
    """Split the rollouts of every task at random into so many parts: an inner step on a part, judged on a part.

    Each part's inner step is noisier than that on the whole batch, as one on few real episodes is.
    """

    def shares(steps: StepBatch) -> list[StepBatch]:
        rollouts = steps.advantages.shape[2]
        order = torch.randperm(rollouts, generator=generator, device=steps.obs.device)
        return [StepBatch(*(column[:, :, rows] for column in steps)) for rows in torch.tensor_split(order, count)]

    inner, outer = [shares(steps) for steps in batch.inner], shares(batch.outer)
    for *steps, last in zip(*inner, outer, strict=True):
        yield MetaBatch(tuple(steps), last, batch.acting)


def meta_loss(terms: MetaTerms, config: MetaObjectiveConfig) -> Tensor:
    """What the outer PPO step minimises, -J^ProMP: ()."""
    return config.inner_kl_weight * terms.inner_kl + terms.outside - terms.clipped


def meta_surrogate(terms: MetaTerms, config: MetaObjectiveConfig) -> Tensor:
    """What the outer TRPO step maximises while `terms.outer_kl` stays within its bound: ()."""
    return terms.surrogate - config.inner_kl_weight * terms.inner_kl - terms.outside


def joined(parameters: Parameters, step_sizes: Parameters) -> Parameters:
    """Meta-parameters and step sizes under one roof, for an optimiser that moves both."""
    return parameters | {_STEP_SIZE + name: tensor for name, tensor in step_sizes.items()}


def parted(both: Parameters) -> tuple[Parameters, Parameters]:
    """The inverse of `joined`."""
    parameters = {name: tensor for name, tensor in both.items() if not name.startswith(_STEP_SIZE)}
    return parameters, {name: both[_STEP_SIZE + name] for name in parameters}


def steps_by_task(rollouts: Rollouts, advantages: Tensor, tasks: int) -> StepBatch:
    """Split rollouts whose rows are grouped by member: (H, B, ...) to (N, H, B / N, ...).

    Raises:
      ValueError: the rollouts cannot be shared evenly.
    """
    steps, rows = advantages.shape
    if rows % tasks:
        raise refuse("rollouts", f"a multiple of {tasks} rows", rows)

    def split(tensor: Tensor) -> Tensor:
        return tensor.reshape(len(tensor), tasks, rows // tasks, *tensor.shape[2:]).movedim(1, 0)

    weights = rollouts.alive.to(advantages.dtype)
    columns = (rollouts.obs[:steps], rollouts.actions, rollouts.log_prob, advantages, weights)
    return StepBatch(*(split(column) for column in columns))


def _task_terms(
    policy: GaussianMlp, parameters: Parameters, step_sizes: Parameters, task: MetaBatch, form: str, clip: float
) -> MetaTerms:
    """The terms of one task."""
    inner_kl = outside = torch.zeros_like(task.outer.advantages[:1].sum())
    theta = parameters
    for steps, acted in zip(task.inner, task.acting[:-1], strict=True):
        inner_kl = inner_kl + weighted_mean(policy_kl(policy, acted, theta, steps.obs), steps.weights)
        outside = outside + weighted_mean(policy.outside(theta, steps.obs), steps.weights)
        theta = adapted_parameters(policy, theta, step_sizes, steps, form)
    outer = task.outer
    ratio = torch.exp(policy.log_prob(theta, outer.obs, outer.actions) - outer.log_prob)
    shares = outer.weights * (outer.weights.numel() / outer.weights.sum())
    clipped = -clipped_loss(ratio, shares * outer.advantages, clip)
    outer_kl = weighted_mean(policy_kl(policy, task.acting[-1], theta, outer.obs), outer.weights)
    surrogate = weighted_mean(ratio * outer.advantages, outer.weights)
    return MetaTerms(surrogate, clipped, inner_kl, outer_kl, outside)
