"""MB-MPO: model-based meta-policy optimisation (Clavera et al. 2018, arXiv 1809.05214, algorithm 1).

The members of the ensemble, or its elites, are the tasks. An iteration imagines in every member with the meta-policy,
adapts it there by one policy-gradient step, imagines again with the adapted policies, and improves meta-policy and step
sizes so that the adapted ones do well. Departures, with reasons: LVC in place of the plain log-likelihood form, whose
meta-gradient misses the credit of the pre-update sampling (Rothfuss et al. 2019, arXiv 1810.06784); by default PPO's
outer objective with a penalty on the inner KL, as there, in minibatches with an inner step of each one's own; one
learned step size per parameter (Meta-SGD, arXiv 1707.09835); a cost of the meta-policy's mean actions outside [-1, 1]
(`gaussian_mlp.py`), in spreads of the advantages; branched rollouts, a learned value, the spread at the start of a
round and validation as in `me_ppo.py`. Validation looks at the meta-policy, before it adapts. Real data come from the
policies that the last iteration adapted, one outer step behind the meta-policy.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mbrl_core.algorithms.accepted import Trained
from mbrl_core.algorithms.adaptation import real_batch
from mbrl_core.algorithms.inner_step import (
    InnerStep,
    InnerStepConfig,
    StepBatch,
    adapt,
    initial_step_sizes,
    moves,
    standardised,
)
from mbrl_core.algorithms.learner import Learner
from mbrl_core.algorithms.meta_objective import (
    MetaBatch,
    MetaObjectiveConfig,
    MetaTerms,
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
from mbrl_core.algorithms.report import InnerReport
from mbrl_core.algorithms.restart import RESTART_DOC, RESTARTS
from mbrl_core.algorithms.trpo import TrpoConfig, trpo_step
from mbrl_core.algorithms.validation import ValidationConfig
from mbrl_core.algorithms.value_fit import ValueConfig, ValueFit
from mbrl_core.algorithms.world import World
from mbrl_core.bundle import AdaptationMetadata
from mbrl_core.config import check, refuse, setting
from mbrl_core.models.adapted_imagination import by_member
from mbrl_core.models.ensemble import EnsembleConfig
from mbrl_core.models.imagination import ImaginationConfig, check_imagination
from mbrl_core.models.normaliser import Normaliser
from mbrl_core.models.roll_out import Rollouts
from mbrl_core.policies.export import GRAPH_FORMS
from mbrl_core.policies.gaussian_mlp import GaussianMlp, Parameters, PolicyConfig
from mbrl_core.tasks.task import Task
from mbrl_core.types import Episode


@dataclass(frozen=True, kw_only=True)
class OuterStepConfig:
    """How the meta-policy is moved."""

    method: str = setting("ppo", doc="PPO's epochs, or one step of TRPO as in the paper", one_of=("ppo", "trpo"))
    epochs: int = setting(3, doc="ppo: passes over the imagined rollouts", low=1)
    minibatches: int = setting(5, doc="ppo: parts that a pass is split into, whole rollouts of every task", low=1)
    learning_rate: float = setting(1e-3, doc="ppo: Adam's step size", low=1e-7, high=1.0)
    max_gradient: float = setting(1.0, doc="ppo: the gradient is scaled down to this norm", low=1e-6)
    max_kl: float = setting(0.03, doc="ppo: epochs end when the meta-policy has moved further", unit="nats", low=0)
    trpo: TrpoConfig = setting(TrpoConfig(), doc="trpo: the trust region, of the adapted policies")


@dataclass(frozen=True, kw_only=True)
class MbMpoConfig:
    """All settings of MB-MPO."""

    iterations: int = setting(30, doc="policy iterations in a round", low=1)
    ensemble: EnsembleConfig = setting(EnsembleConfig(), doc="dynamics models, which are the tasks")
    imagination: ImaginationConfig = setting(
        ImaginationConfig(rollouts=250), doc="rollouts before and again after the inner step"
    )
    policy: PolicyConfig = setting(PolicyConfig(), doc="the policy")
    inner: InnerStepConfig = setting(InnerStepConfig(), doc="the inner step")
    objective: MetaObjectiveConfig = setting(MetaObjectiveConfig(), doc="the outer objective")
    outer: OuterStepConfig = setting(OuterStepConfig(), doc="the outer step")
    value: ValueConfig = setting(ValueConfig(epochs=1, minibatch=1000), doc="advantages and the value function")
    validation: ValidationConfig = setting(ValidationConfig(), doc="the 70 % rule")
    restart: str = setting("spread", doc=RESTART_DOC, one_of=RESTARTS)


class MbMpo:
    """One policy iteration: imagine, adapt, imagine again, improve the meta-policy."""

    def __init__(self, task: Task, config: MbMpoConfig, generator: torch.Generator) -> None:
        """Draw a fresh policy. Raises ValueError for a setting that is out of bounds."""
        parts = (config.policy, config.inner, config.objective, config.outer, config.outer.trpo)
        for part in (config, *parts):
            check(part)
        check_imagination(config.imagination, config.ensemble, own_members=True)
        share = config.imagination.rollouts // config.ensemble.asked
        if config.outer.method == "ppo" and config.outer.minibatches > share:
            raise refuse("outer.minibatches", f"at most {share}, the rollouts of a member", config.outer.minibatches)
        self._config, self._tasks, self._generator = config, config.ensemble.asked, generator
        self.policy = GaussianMlp(task.obs_dim, task.action_dim, config.policy)
        self._value = ValueFit(task.obs_dim, config.value, generator)
        self.inner = InnerReport(return_before=0.0, return_after=0.0, kl=0.0)  # of the last iteration
        self.replace(self._unadapted(self._value.parameters))

    @property
    def trained(self) -> Trained:
        """Meta-policy, value, step sizes, and the policies that the last inner step has made."""
        return Trained(self._theta, self._value.parameters, self._step_sizes, self._adapted)

    @property
    def adaptation(self) -> AdaptationMetadata:
        """What a robot has to know to take the inner step."""
        inner, value = self._config.inner, self._config.value
        return AdaptationMetadata(
            form=GRAPH_FORMS[inner.form],
            discount=value.discount,
            trace=value.trace,
            max_kl=inner.max_kl,
            value_layers=len(value.hidden) + 1,
        )

    def initial(self) -> Trained:
        """Draw a fresh meta-policy and value; step sizes are those of the start."""
        return self._unadapted(self._value.initial())

    def replace(self, trained: Trained) -> None:
        """Go on from other parameters, with a fresh optimiser."""
        copied = trained.copied()
        self._theta, self._step_sizes, self._adapted = copied.policy, copied.step_sizes, copied.adapted
        self._value.replace(trained.value)
        learned = [size for name, size in self._step_sizes.items() if moves(name, self._config.inner)]
        self._leaves = [tensor.requires_grad_() for tensor in (*self._theta.values(), *learned)]
        self._optimiser = torch.optim.Adam(self._leaves, lr=self._config.outer.learning_rate)

    def iterate(self, world: World) -> int:
        """Improve the meta-policy once; returns the number of imagined steps."""
        now = self.trained.copied()  # a copy: the outer step moves the live parameters in place
        acting, step_sizes = for_tasks(now.policy, self._tasks), now.step_sizes
        before = self._imagine(world, acting)
        inner = self._steps(before)
        step = adapt_tasks(self.policy, acting, step_sizes, inner, self._config.inner.form)
        self._adapted = step.parameters
        after = self._imagine(world, step.parameters)
        self.inner = InnerReport(
            return_before=_mean_return(before), return_after=_mean_return(after), kl=float(step.kl.mean())
        )
        self._improve(MetaBatch((inner,), self._steps(after), (acting, step.parameters)))
        for rollouts in (before, after):
            self._fit_value(rollouts)
        return before.steps + after.steps

    def adapt(self, task: Task, obs_norm: Normaliser, episodes: Sequence[Episode]) -> InnerStep:
        """Take the inner step of training on real episodes that the meta-policy acted in; nothing is changed.

        Raises:
          ValueError: no step of the episodes counts.
        """
        config, now = self._config, self.trained.copied()
        discount, trace = config.value.discount, config.value.trace
        batch = real_batch(
            task, self.policy, now.policy, self._value.values, obs_norm, episodes, discount=discount, trace=trace
        )
        return adapt(self.policy, now.policy, now.step_sizes, batch, config.inner.form)

    def _unadapted(self, value: Parameters) -> Trained:
        """Draw a meta-policy that no inner step has adapted yet."""
        policy = self.policy.initial(self._generator)
        step_sizes = initial_step_sizes(policy, self._config.inner)
        return Trained(policy, value, step_sizes, for_tasks(policy, self._tasks))

    def _imagine(self, world: World, acting: Parameters) -> Rollouts:
        with torch.no_grad():
            return world.imagine(by_member(self.policy, acting), self._config.imagination)

    def _steps(self, rollouts: Rollouts) -> StepBatch:
        """Steps by task; advantages in units of their spread within each task."""
        advantages, _ = self._value.advantages(rollouts)
        return standardised(steps_by_task(rollouts, advantages, self._tasks))

    def _improve(self, batch: MetaBatch) -> None:
        """Move meta-policy and step sizes; a step size never falls below 0."""
        if self._config.outer.method == "ppo":
            self._improve_by_ppo(batch)
        else:
            self._improve_by_trpo(batch)

    def _project(self) -> None:
        """Put the spread and the step sizes back on their bounds, after every step: no minibatch may see others."""
        self.policy.project_(self._theta)
        with torch.no_grad():
            for name, size in self._bounded(self._step_sizes).items():
                self._step_sizes[name].copy_(size)

    def _bounded(self, step_sizes: Parameters) -> Parameters:
        """None below 0, and 0 for what the inner step does not move."""
        inner = self._config.inner
        return {name: size.clamp(min=0.0) * moves(name, inner) for name, size in step_sizes.items()}

    def _terms(self, theta: Parameters, step_sizes: Parameters, batch: MetaBatch) -> MetaTerms:
        config = self._config
        return meta_terms(self.policy, theta, step_sizes, batch, config.inner.form, config.objective.clip)

    def _improve_by_ppo(self, batch: MetaBatch) -> None:
        config = self._config.outer
        parts = (part for _ in range(config.epochs) for part in minibatches(batch, config.minibatches, self._generator))
        for part in parts:
            terms = self._terms(self._theta, self._step_sizes, part)
            if float(terms.inner_kl.detach()) > config.max_kl:
                break
            self._optimiser.zero_grad()
            meta_loss(terms, self._config.objective).backward()
            norm = torch.nn.utils.clip_grad_norm_(self._leaves, config.max_gradient)
            if not torch.isfinite(norm):
                raise FloatingPointError(f"meta-gradient: expected a finite norm, got {float(norm)}")
            self._optimiser.step()
            self._project()

    def _improve_by_trpo(self, batch: MetaBatch) -> None:
        def terms(both: Parameters) -> MetaTerms:
            theta, step_sizes = parted(both)
            return self._terms(theta, self._bounded(step_sizes), batch)  # those that are kept are those that are judged

        step = trpo_step(
            lambda both: meta_surrogate(terms(both), self._config.objective),
            lambda both: terms(both).outer_kl,
            joined(self._theta, self._step_sizes),
            self._config.outer.trpo,
        )
        moved = parted(step.parameters)
        with torch.no_grad():
            for live, new in zip((self._theta, self._step_sizes), moved, strict=True):
                for name, tensor in live.items():
                    tensor.copy_(new[name])
        self._project()

    def _fit_value(self, rollouts: Rollouts) -> None:
        _, returns = self._value.advantages(rollouts)
        self._value.fit(rollouts.obs[:-1][rollouts.alive], returns[rollouts.alive])


def _mean_return(rollouts: Rollouts) -> float:
    return float(rollouts.rewards.sum(0).mean())


def mb_mpo(task: Task, config: MbMpoConfig | None = None, *, seed: int = 0, device: str = "cpu") -> Learner:
    """Return a learner that meta-learns its policy by MB-MPO.

    Raises:
      ValueError: a setting is out of bounds, or the rollouts cannot be shared evenly among the members.
    """
    return Learner(task, MbMpo, config or MbMpoConfig(), seed=seed, device=device)
