"""A policy and its inner step as ONNX graphs whose parameters are inputs: a new policy is new numbers, no new graph."""

from functools import lru_cache

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from mbrl_core.algorithms.inner_step import StepBatch, adapt, inner_loss
from mbrl_core.config import refuse
from mbrl_core.models.normaliser import Normaliser
from mbrl_core.policies.gaussian_mlp import GaussianMlp, PolicyConfig
from mbrl_core.policies.onnx_graph import export_model, serialised

GRAPH_FORMS = {"lvc": "lvc", "dice": "lvc", "log_likelihood": "log_likelihood"}  # in training to in adapt.onnx
_STEPS = ("obs", "actions", "log_prob", "advantages", "weights")


class _Act(torch.nn.Module):
    """theta (P,), obs_mean (O,), obs_scale (O,), obs (B, O) to mean (B, A), log_std (A,)."""

    def __init__(self, policy: GaussianMlp) -> None:
        super().__init__()
        self._policy = policy

    def forward(self, theta: Tensor, obs_mean: Tensor, obs_scale: Tensor, obs: Tensor) -> tuple[Tensor, Tensor]:
        normalised = Normaliser(obs_mean, obs_scale)(obs)
        return self._policy.distribution(self._policy.unflatten(theta), normalised)


class _Traced(torch.nn.Module):
    """A graph of make_fx; the exporter takes it inside a module only."""

    def __init__(self, graph: torch.fx.GraphModule) -> None:
        super().__init__()
        self._graph = graph

    def forward(  # the exporter names the axes by these
        self,
        theta: Tensor,
        step_sizes: Tensor,
        obs_mean: Tensor,
        obs_scale: Tensor,
        obs: Tensor,
        actions: Tensor,
        log_prob: Tensor,
        advantages: Tensor,
        weights: Tensor,
    ) -> tuple[Tensor, ...]:
        steps = obs, actions, log_prob, advantages, weights
        taken: tuple[Tensor, ...] = self._graph(theta, step_sizes, obs_mean, obs_scale, *steps)
        return taken


def act_graph(policy: GaussianMlp) -> bytes:
    """Return `act.onnx`: inputs theta, obs_mean, obs_scale, obs; outputs mean and log_std; the batch is free."""
    return _act_graph(policy.sizes[0], policy.sizes[-1], policy.config)


def adapt_graph(policy: GaussianMlp, form: str) -> bytes:
    """Return `adapt.onnx`: one inner step, with its gradient spelt out.

    Inputs: theta (P,), step_sizes (P,), obs_mean (O,), obs_scale (O,), obs (B, O) raw, actions (B, A) as drawn,
    log_prob (B,), advantages (B,), weights (B,); B is free, at least 2. Outputs: theta_adapted (P,), loss (), kl (),
    gradient_norm () and loss_after (), the same surrogate at theta_adapted.

    The form "dice" becomes "lvc" here. Its value needs whole rollouts, and its second derivatives are for the outer
    step; the gradient, taken where the policy acted, is LVC's.

    Raises:
      ValueError: an unknown form.
    """
    if form not in GRAPH_FORMS:
        raise refuse("form", f"one of {sorted(GRAPH_FORMS)}", form)
    return _adapt_graph(policy.sizes[0], policy.sizes[-1], policy.config, GRAPH_FORMS[form])


@lru_cache(maxsize=16)  # seconds each; learners of one shape share them
def _act_graph(obs_dim: int, action_dim: int, config: PolicyConfig) -> bytes:
    policy = GaussianMlp(obs_dim, action_dim, config)
    inputs = _parameters(policy) | {"obs": torch.zeros(_unlike(policy), obs_dim)}
    return serialised(export_model(_Act(policy), inputs, ("mean", "log_std"), batched=("obs",)))


@lru_cache(maxsize=16)  # likewise
def _adapt_graph(obs_dim: int, action_dim: int, config: PolicyConfig, form: str) -> bytes:
    policy = GaussianMlp(obs_dim, action_dim, config)
    parameters, batch = _parameters(policy), _unlike(policy)
    inputs = {"theta": parameters.pop("theta"), "step_sizes": torch.zeros(policy.count)} | parameters
    inputs |= {"obs": torch.zeros(batch, obs_dim), "actions": torch.zeros(batch, action_dim)}
    inputs |= {name: torch.ones(batch) for name in ("log_prob", "advantages", "weights")}

    def step(
        theta: Tensor, step_sizes: Tensor, obs_mean: Tensor, obs_scale: Tensor, obs: Tensor, *rest: Tensor
    ) -> tuple[Tensor, ...]:
        steps = StepBatch(Normaliser(obs_mean, obs_scale)(obs), *rest)
        taken = adapt(policy, policy.unflatten(theta), policy.unflatten(step_sizes), steps, form)
        after = inner_loss(policy, taken.parameters, steps, form)
        return policy.flatten(taken.parameters), taken.loss, after, taken.kl, taken.gradient_norm

    traced = make_fx(step, tracing_mode="symbolic")(*inputs.values())
    outputs = ("theta_adapted", "loss", "loss_after", "kl", "gradient_norm")
    return serialised(export_model(_Traced(traced), inputs, outputs, batched=_STEPS, smallest=2))


def _parameters(policy: GaussianMlp) -> dict[str, Tensor]:
    obs_dim = policy.sizes[0]
    return {
        "theta": torch.zeros(policy.count),
        "obs_mean": torch.zeros(obs_dim),
        "obs_scale": torch.ones(obs_dim),
    }


def _unlike(policy: GaussianMlp) -> int:
    """A size of the example's batch that no other axis has: sizes that coincide are taken to be one."""
    return next(size for size in range(3, 1 << 20, 2) if size not in (*policy.sizes, policy.count))
