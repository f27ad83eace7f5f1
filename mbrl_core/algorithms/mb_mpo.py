"""MB-MPO: model-based meta-policy optimisation (Clavera et al. 2018, arXiv 1809.05214, algorithm 1).

The members of the ensemble are the tasks. An iteration imagines in every member with the meta-policy, adapts it there
by one policy-gradient step, imagines again with the adapted policies, and improves meta-policy and step sizes so that
the adapted ones do well. Departures, with reasons: LVC in place of the plain log-likelihood form, whose meta-gradient
misses the credit of the pre-update sampling (Rothfuss et al. 2019, arXiv 1810.06784); PPO's outer objective with a
penalty on the inner KL, as there; one learned step size per parameter (Meta-SGD, arXiv 1707.09835); branched rollouts,
a learned value and validation as in `me_ppo.py`. Validation looks at the meta-policy, before it adapts.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mbrl_core.algorithms.accepted import Trained
from mbrl_core.algorithms.advantage import gae
from mbrl_core.algorithms.inner_step import InnerStepConfig, StepBatch, uniform_step_sizes
from mbrl_core.algorithms.learner import Learner, World
from mbrl_core.algorithms.meta_objective import (
    MetaBatch,
    MetaObjectiveConfig,
    adapt_tasks,
    for_tasks,
    meta_loss,
    meta_terms,
    steps_by_task,
)
from mbrl_core.algorithms.ppo import PpoConfig
from mbrl_core.algorithms.validation import ValidationConfig
from mbrl_core.algorithms.value import ValueMlp
from mbrl_core.algorithms.value_fit import ValueFit
from mbrl_core.config import check, setting
from mbrl_core.models.adapted_imagination import by_member
from mbrl_core.models.ensemble import EnsembleConfig
from mbrl_core.models.imagination import ImaginationConfig
from mbrl_core.models.roll_out import Rollouts, roll_out
from mbrl_core.policies.gaussian_mlp import GaussianMlp, Parameters, PolicyConfig
from mbrl_core.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class MbMpoConfig:
    """All settings of MB-MPO."""

    iterations: int = setting(20, doc="policy iterations in a round", low=1)
    ensemble: EnsembleConfig = setting(EnsembleConfig(), doc="dynamics models, which are the tasks")
    imagination: ImaginationConfig = setting(ImaginationConfig(), doc="rollouts before and again after the inner step")
    policy: PolicyConfig = setting(PolicyConfig(), doc="the policy")
    inner: InnerStepConfig = setting(InnerStepConfig(), doc="the inner step")
    outer: MetaObjectiveConfig = setting(MetaObjectiveConfig(), doc="the outer objective")
    ppo: PpoConfig = setting(PpoConfig(), doc="epochs, step size and gradient bound of the outer step; the value's fit")
    validation: ValidationConfig = setting(ValidationConfig(), doc="the 70 % rule")


class MbMpo:
    """One policy iteration: imagine, adapt, imagine again, improve the meta-policy."""

    def __init__(self, task: Task, config: MbMpoConfig, generator: torch.Generator) -> None:
        """Draw a fresh policy. Raises ValueError for a setting that is out of bounds."""
        for part in (config, config.imagination, config.policy, config.inner, config.outer, config.ppo):
            check(part)
        self._config, self._tasks = config, config.ensemble.members
        self.policy = GaussianMlp(task.obs_dim, task.action_dim, config.policy)
        self._value = ValueFit(ValueMlp((task.obs_dim, *config.ppo.value_hidden, 1)), config.ppo, generator)
        policy = self.policy.initial(generator)
        step_sizes = uniform_step_sizes(policy, config.inner.step_size)
        self.inner_kl = 0.0  # nats, that the last inner step moved the policies
        adapted = for_tasks(policy, self._tasks)
        self.replace(Trained(policy, self._value.parameters, step_sizes, adapted))

    @property
    def trained(self) -> Trained:
        """Meta-policy, value, step sizes, and the policies that the last inner step has made."""
        return Trained(self._theta, self._value.parameters, self._step_sizes, self._adapted)

    def replace(self, trained: Trained) -> None:
        """Go on from other parameters, with a fresh optimiser."""
        copied = trained.copied()
        self._theta, self._step_sizes, self._adapted = copied.policy, copied.step_sizes, copied.adapted
        self._value.replace(trained.value)
        leaves = [tensor.requires_grad_() for tensor in (*self._theta.values(), *self._step_sizes.values())]
        self._optimiser = torch.optim.Adam(leaves, lr=self._config.ppo.learning_rate)

    def iterate(self, world: World) -> int:
        """Improve the meta-policy once; returns the number of imagined steps."""
        theta = {name: tensor.detach() for name, tensor in self._theta.items()}
        step_sizes = {name: tensor.detach() for name, tensor in self._step_sizes.items()}
        acting = for_tasks(theta, self._tasks)
        before = self._imagine(world, acting)
        inner = self._steps(before)
        step = adapt_tasks(self.policy, acting, step_sizes, inner, self._config.inner.form)
        self.inner_kl, self._adapted = float(step.kl.mean()), step.parameters
        after = self._imagine(world, step.parameters)
        self._improve(MetaBatch((inner,), self._steps(after), (acting, step.parameters)))
        for rollouts in (before, after):
            self._fit_value(rollouts)
        return before.steps + after.steps

    def _imagine(self, world: World, acting: Parameters) -> Rollouts:
        shape = self._config.imagination
        act, starts, goals = by_member(self.policy, acting), world.starts(shape.rollouts), world.goals(shape.rollouts)
        with torch.no_grad():
            return roll_out(
                world.task, world.ensemble, act, world.obs_norm, starts, goals, shape.horizon, world.generator
            )

    def _steps(self, rollouts: Rollouts) -> StepBatch:
        """Steps by task; advantages in units of their spread within each task, so that a step size means one thing."""
        advantages, _ = self._advantages(rollouts)
        steps = steps_by_task(rollouts, advantages, self._tasks)
        count = steps.weights.sum((1, 2), keepdim=True).clamp(min=1.0)
        centred = steps.advantages - (steps.advantages * steps.weights).sum((1, 2), keepdim=True) / count
        spread = ((centred * centred * steps.weights).sum((1, 2), keepdim=True) / count).sqrt().clamp(min=1e-6)
        return steps._replace(advantages=centred / spread * steps.weights)

    def _improve(self, batch: MetaBatch) -> None:
        """PPO's epochs on the meta-objective; it stops when an adapted policy has moved too far."""
        config = self._config
        leaves = [*self._theta.values(), *self._step_sizes.values()]
        for _ in range(config.ppo.epochs):
            terms = meta_terms(
                self.policy, self._theta, self._step_sizes, batch, config.inner.form, config.outer.clip
            )
            if float(terms.outer_kl.detach()) > config.ppo.max_kl:
                break
            self._optimiser.zero_grad()
            meta_loss(terms, config.outer).backward()
            norm = torch.nn.utils.clip_grad_norm_(leaves, config.ppo.max_gradient)
            if not torch.isfinite(norm):
                raise FloatingPointError(f"meta-gradient: expected a finite norm, got {float(norm)}")
            self._optimiser.step()
            with torch.no_grad():
                for size in self._step_sizes.values():
                    size.clamp_(min=0.0)

    @torch.no_grad()
    def _advantages(self, rollouts: Rollouts) -> tuple[Tensor, Tensor]:
        ppo = self._config.ppo
        values = self._value.values(rollouts.obs)
        return gae(rollouts.rewards, values, ppo.discount, ppo.trace, rollouts.terminated)

    def _fit_value(self, rollouts: Rollouts) -> None:
        _, returns = self._advantages(rollouts)
        self._value.fit(rollouts.obs[:-1][rollouts.alive], returns[rollouts.alive])


def mb_mpo(task: Task, config: MbMpoConfig | None = None, *, seed: int = 0, device: str = "cpu") -> Learner:
    """Return a learner that meta-learns its policy by MB-MPO.

    Raises:
      ValueError: a setting is out of bounds, or the rollouts cannot be shared evenly among the members.
    """
    config = config or MbMpoConfig()
    generator = torch.Generator(device).manual_seed(seed)
    return Learner(
        task,
        MbMpo(task, config, generator),
        ensemble=config.ensemble,
        validation=config.validation,
        iterations=config.iterations,
        rollouts=config.imagination.rollouts,
        generator=generator,
        seed=seed,
    )
