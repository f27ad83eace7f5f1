"""Backpropagation through time: the policy's gradient through the learned model (SVG, Heess et al. 2015, 1510.09142).

An iteration follows the gradient of the imagined return, with the value bootstrapped at a short horizon, through
policy, model, known dynamics and reward. Departures: reparameterised noise drawn in the model; rollouts of every
member; the gradient's norm is bounded, since it grows with the horizon where the model is chaotic; a cost of mean
actions outside [-1, 1] (`gaussian_mlp.py`), in spreads of the real rewards, and ten times that of the other methods.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from mbrl_core.algorithms.accepted import Trained
from mbrl_core.algorithms.bptt_objective import bptt_objective, clipped_gradient
from mbrl_core.algorithms.learner import Learner
from mbrl_core.algorithms.restart import RESTART_DOC, RESTARTS
from mbrl_core.algorithms.validation import ValidationConfig
from mbrl_core.algorithms.value_fit import ValueConfig, ValueFit
from mbrl_core.algorithms.world import World
from mbrl_core.config import check, setting
from mbrl_core.models.ensemble import EnsembleConfig
from mbrl_core.models.imagination import ImaginationConfig, check_imagination
from mbrl_core.models.roll_out import Rollouts
from mbrl_core.policies.gaussian_mlp import GaussianMlp, Parameters, PolicyConfig
from mbrl_core.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class BpttConfig:
    """All settings of BPTT."""

    iterations: int = setting(100, doc="gradient steps of the policy in a round", low=1)
    ensemble: EnsembleConfig = setting(EnsembleConfig(), doc="dynamics models")
    imagination: ImaginationConfig = setting(
        ImaginationConfig(rollouts=200, horizon=25), doc="imagined rollouts: short, for the gradient's sake"
    )
    policy: PolicyConfig = setting(PolicyConfig(outside_cost=1.0), doc="the policy; its outside_cost is 1.0 here")
    learning_rate: float = setting(3e-3, doc="Adam's step size of the policy", low=1e-7, high=1.0)
    max_gradient: float = setting(1.0, doc="the gradient is scaled down to this norm", low=1e-6)
    value: ValueConfig = setting(ValueConfig(epochs=1), doc="advantages and the value function")
    validation: ValidationConfig = setting(ValidationConfig(), doc="the 70 % rule")
    restart: str = setting("spread", doc=RESTART_DOC, one_of=RESTARTS)


class Bptt:
    """One policy iteration: roll out with gradients, step along them, fit the value."""

    def __init__(self, task: Task, config: BpttConfig, generator: torch.Generator) -> None:
        """Draw a fresh policy. Raises ValueError for a setting that is out of bounds."""
        for part in (config, config.policy):
            check(part)
        check_imagination(config.imagination, config.ensemble)
        self._config, self._generator = config, generator
        self.policy = GaussianMlp(task.obs_dim, task.action_dim, config.policy)
        self._value = ValueFit(task.obs_dim, config.value, generator)
        self.replace(Trained(self.policy.initial(generator), self._value.parameters))

    @property
    def trained(self) -> Trained:
        """Policy and value."""
        return Trained(self._parameters, self._value.parameters)

    def initial(self) -> Trained:
        """Draw a fresh policy and value."""
        return Trained(self.policy.initial(self._generator), self._value.initial())

    def replace(self, trained: Trained) -> None:
        """Go on from other parameters, with a fresh optimiser."""
        self._parameters: Parameters = trained.copied().policy
        self._value.replace(trained.value)
        self._optimiser = torch.optim.Adam(list(self._parameters.values()), lr=self._config.learning_rate)

    def iterate(self, world: World) -> int:
        """Follow the gradient once; returns the number of imagined steps."""
        shape, kept = self._config.imagination, list[Rollouts]()

        def objective(parameters: Parameters) -> Tensor:
            rollouts = world.imagine(partial(self.policy.distribution, parameters), shape)
            kept.append(rollouts)
            value = bptt_objective(rollouts, self._value.values(rollouts.obs[-1]), self._config.value.discount)
            outside = self.policy.outside(parameters, rollouts.obs[:-1][rollouts.alive].detach()).mean()
            return value - world.data.reward_spread * shape.horizon * outside

        gradient = clipped_gradient(objective, self._parameters, self._config.max_gradient)
        for name, tensor in self._parameters.items():
            tensor.grad = -gradient.slope[name]
        self._optimiser.step()
        self.policy.project_(self._parameters)
        (rollouts,) = kept
        _, returns = self._value.advantages(rollouts)
        self._value.fit(rollouts.obs[:-1][rollouts.alive].detach(), returns[rollouts.alive])
        return rollouts.steps


def bptt(task: Task, config: BpttConfig | None = None, *, seed: int = 0, device: str = "cpu") -> Learner:
    """Return a learner that improves its policy by backpropagation through time.

    Raises:
      ValueError: a setting is out of bounds, or the rollouts cannot be shared evenly among the members.
    """
    return Learner(task, Bptt, config or BpttConfig(), seed=seed, device=device)
