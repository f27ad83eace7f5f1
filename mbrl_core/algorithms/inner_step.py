"""The inner step: one policy-gradient step on a batch of one task, as a pure and differentiable function.

theta' = theta - alpha * grad loss(theta), alpha per parameter (Meta-SGD, Li et al. 2017, arXiv 1707.09835). With
r_t = pi_theta(a_t | o_t) / pi_acting(a_t | o_t), the loss is the negative mean over steps of
- "lvc": r_t A_t, the low-variance curvature surrogate J^LVC (Rothfuss et al. 2019, arXiv 1810.06784);
- "dice": (R_t - R_{t-1}) A_t with R_t = prod_{k <= t} r_k, DiCE (Foerster et al. 2018, arXiv 1802.05098) with a
  baseline (Loaded DiCE, Farquhar et al. 2019, arXiv 1909.10549); given rewards to go as A, it is DiCE;
- "log_likelihood": log pi_theta(a_t | o_t) A_t, MB-MPO's own (Clavera et al. 2018, arXiv 1809.05214).
Where pi_theta acted, the expectations of their gradients are equal; the second derivatives that the outer step sees are
not: DiCE has every term, LVC lacks those between different steps (more bias the longer the horizon and the larger
alpha), log-likelihood also lacks the credit of sampling a step at all.

Departures. The step moves the mean alone unless `adapt_spread` says otherwise: an outer step rewards what the adapted
policies do, so a spread that the inner step may take away costs nothing before it, and it grows: on Reacher to a KL of
5 nats a step, all of it in the spread, with returns of -14 before and -5.6 after it, while the mean learned nothing
more. The papers' stop-gradient of pi_theta is the recorded density of the policy that acted. Its value is the same
while pi_theta acted, and it stays the right importance weight after theta has moved: in later epochs of the outer step,
in a second inner step on the same batch, on a robot's older episodes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import grad_and_value

from mbrl_core.algorithms.advantage import standardised_advantages
from mbrl_core.config import refuse, setting
from mbrl_core.policies.diagonal_gaussian import policy_kl
from mbrl_core.policies.gaussian_mlp import GaussianMlp, Parameters

FORMS = ("lvc", "dice", "log_likelihood")
SPREAD = "log_std"  # the parameter that is the policy's spread


@dataclass(frozen=True, kw_only=True)
class InnerStepConfig:
    """The inner step."""

    form: str = setting("lvc", doc="estimator of the inner loss", one_of=FORMS)
    step_size: float = setting(0.03, doc="alpha at the start, every parameter's", low=0.0, high=10.0)
    max_kl: float = setting(
        0.05,
        doc="on the robot a step that moves the policy further is refused; training ignores it",
        unit="nats",
        low=0,
    )
    adapt_spread: bool = setting(False, doc="let the step move the policy's spread too, as the papers do")


class StepBatch(NamedTuple):
    """Steps that a policy took, time first; a tuple, so that torch.func.vmap can map over a leading axis N.

    "dice" needs rollouts, (H, B); the other forms take any leading axes, a flat batch of real steps for one.
    """

    obs: Tensor  # (H, B, O), normalised
    actions: Tensor  # (H, B, A), as drawn, before any limit
    log_prob: Tensor  # (H, B), of those under the policy that acted, in nats
    advantages: Tensor  # (H, B)
    weights: Tensor  # (H, B), 1 where the step counts, 0 after the rollout has ended


class InnerStep(NamedTuple):
    """An adapted policy and how far it went."""

    parameters: Parameters
    loss: Tensor  # (), before the step
    kl: Tensor  # (), mean KL(before | after) over the batch, in nats
    gradient_norm: Tensor  # (), of the loss


def uniform_step_sizes(parameters: Parameters, size: float) -> Parameters:
    """The same step size for every parameter, as tensors that can be learned."""
    return {name: torch.full_like(tensor, size) for name, tensor in parameters.items()}


def initial_step_sizes(parameters: Parameters, config: InnerStepConfig) -> Parameters:
    """The same step size for every parameter that the step moves, 0 for the others."""
    sizes = uniform_step_sizes(parameters, config.step_size)
    return {name: size if moves(name, config) else torch.zeros_like(size) for name, size in sizes.items()}


def moves(name: str, config: InnerStepConfig) -> bool:
    """Whether the step moves this parameter."""
    return config.adapt_spread or name != SPREAD


def adapt(
    policy: GaussianMlp, parameters: Parameters, step_sizes: Parameters, batch: StepBatch, form: str = "lvc"
) -> InnerStep:
    """Take one inner step and measure it; differentiable in parameters and step sizes, traceable by make_fx.

    Args:
      policy: its shape.
      parameters: theta.
      step_sizes: alpha, by the parameters' names; each of its parameter's shape or ().
      batch: steps of one task.
      form: one of FORMS.

    Raises:
      ValueError: an unknown form, or shapes that contradict each other.
    """
    adapted, gradient, loss = _descent(policy, parameters, step_sizes, batch, form)
    kl = weighted_mean(policy_kl(policy, parameters, adapted, batch.obs), batch.weights)
    squares = [(slope * slope).sum() for slope in gradient.values()]
    return InnerStep(adapted, loss, kl, torch.sqrt(torch.stack(squares).sum()))


def adapted_parameters(
    policy: GaussianMlp, parameters: Parameters, step_sizes: Parameters, batch: StepBatch, form: str = "lvc"
) -> Parameters:
    """What `adapt` returns as parameters, without measuring the step."""
    return _descent(policy, parameters, step_sizes, batch, form)[0]


def inner_loss(policy: GaussianMlp, parameters: Parameters, batch: StepBatch, form: str = "lvc") -> Tensor:
    """The negative surrogate of the module's docstring: ().

    Raises:
      ValueError: an unknown form, or shapes that contradict each other.
    """
    _check(batch, form)
    log_prob = policy.log_prob(parameters, batch.obs, batch.actions)
    return -weighted_mean(_SURROGATES[form](log_prob, batch), batch.weights)


def standardised(batch: StepBatch) -> StepBatch:
    """Give advantages mean 0 and spread 1 over each task's steps that count, so that a step size means one thing.

    The batch is of one task, (H, B), or of several, (N, H, B).
    """
    return batch._replace(advantages=standardised_advantages(batch.advantages, batch.weights, (-2, -1)))


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Mean over the steps that count: (...), (...) to ()."""
    return (values * weights).sum() / weights.sum()


def _descent(
    policy: GaussianMlp, parameters: Parameters, step_sizes: Parameters, batch: StepBatch, form: str
) -> tuple[Parameters, Parameters, Tensor]:
    """Adapted parameters, gradient of the loss, loss."""
    if set(step_sizes) != set(parameters):
        raise refuse("step_sizes", f"names {sorted(parameters)}", sorted(step_sizes))
    gradient, loss = grad_and_value(lambda theta: inner_loss(policy, theta, batch, form))(parameters)
    adapted = {name: tensor - step_sizes[name] * gradient[name] for name, tensor in parameters.items()}
    return adapted, gradient, loss


def _lvc(log_prob: Tensor, batch: StepBatch) -> Tensor:
    return torch.exp(log_prob - batch.log_prob) * batch.advantages


def _dice(log_prob: Tensor, batch: StepBatch) -> Tensor:
    log_ratio = log_prob - batch.log_prob
    through = torch.cumsum(log_ratio, 0)
    return (torch.exp(through) - torch.exp(through - log_ratio)) * batch.advantages


def _log_likelihood(log_prob: Tensor, batch: StepBatch) -> Tensor:
    return log_prob * batch.advantages


_SURROGATES: dict[str, Callable[[Tensor, StepBatch], Tensor]] = {
    "lvc": _lvc,
    "dice": _dice,
    "log_likelihood": _log_likelihood,
}


def _check(batch: StepBatch, form: str) -> None:
    if form not in FORMS:
        raise refuse("form", f"one of {list(FORMS)}", form)
    steps = batch.obs.shape[:-1]
    if form == "dice" and len(steps) != 2:
        raise refuse("batch.obs", "(H, B, O) for the form dice", tuple(batch.obs.shape))
    for name in ("log_prob", "advantages", "weights"):
        if getattr(batch, name).shape != steps:
            raise refuse(f"batch.{name}", tuple(steps), tuple(getattr(batch, name).shape))
    if batch.actions.shape[:-1] != steps:
        raise refuse("batch.actions", f"{(*steps, 'A')}", tuple(batch.actions.shape))
