"""ME-TRPO: model-ensemble trust-region policy optimisation (Kurutach et al. 2018, arXiv 1802.10592, algorithm 1).

As ME-PPO but for the update: one natural-gradient step per iteration, maximising E_member[mean r A], less what mean
actions outside [-1, 1] cost (`gaussian_mlp.py`), while the mean KL(acting | new) stays within a bound (`trpo.py`). The
departures in imagination, warm starts and validation are those of `me_ppo.py`, so that the two compare; the value
function is learned (the paper's baseline is linear).
"""

from dataclasses import dataclass
from functools import partial

import torch

from mbrl_core.algorithms.accepted import Trained
from mbrl_core.algorithms.learner import Learner
from mbrl_core.algorithms.restart import RESTART_DOC, RESTARTS
from mbrl_core.algorithms.trpo import TrpoConfig, importance_surrogate, trpo_step
from mbrl_core.algorithms.validation import ValidationConfig
from mbrl_core.algorithms.value_fit import ValueConfig, ValueFit
from mbrl_core.algorithms.world import World
from mbrl_core.config import check, setting
from mbrl_core.models.ensemble import EnsembleConfig
from mbrl_core.models.imagination import ImaginationConfig, check_imagination
from mbrl_core.policies.diagonal_gaussian import policy_kl
from mbrl_core.policies.gaussian_mlp import GaussianMlp, Parameters, PolicyConfig
from mbrl_core.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class MeTrpoConfig:
    """All settings of ME-TRPO."""

    iterations: int = setting(40, doc="policy iterations in a round", low=1)
    ensemble: EnsembleConfig = setting(EnsembleConfig(), doc="dynamics models")
    imagination: ImaginationConfig = setting(ImaginationConfig(), doc="imagined rollouts")
    policy: PolicyConfig = setting(PolicyConfig(), doc="the policy")
    trpo: TrpoConfig = setting(TrpoConfig(), doc="its step")
    value: ValueConfig = setting(ValueConfig(), doc="advantages and the value function")
    validation: ValidationConfig = setting(ValidationConfig(), doc="the 70 % rule")
    restart: str = setting("spread", doc=RESTART_DOC, one_of=RESTARTS)


class MeTrpo:
    """One policy iteration: imagine, estimate advantages, step within the trust region, fit the value."""

    def __init__(self, task: Task, config: MeTrpoConfig, generator: torch.Generator) -> None:
        """Draw a fresh policy. Raises ValueError for a setting that is out of bounds."""
        for part in (config, config.policy, config.trpo):
            check(part)
        check_imagination(config.imagination, config.ensemble)
        self._config, self._generator = config, generator
        self.policy = GaussianMlp(task.obs_dim, task.action_dim, config.policy)
        self._parameters: Parameters = self.policy.initial(generator)
        self._value = ValueFit(task.obs_dim, config.value, generator)

    @property
    def trained(self) -> Trained:
        """Policy and value."""
        return Trained(self._parameters, self._value.parameters)

    def initial(self) -> Trained:
        """Draw a fresh policy and value."""
        return Trained(self.policy.initial(self._generator), self._value.initial())

    def replace(self, trained: Trained) -> None:
        """Go on from other parameters."""
        self._parameters = trained.copied().policy
        self._value.replace(trained.value)

    def iterate(self, world: World) -> int:
        """Imagine, then step; returns the number of imagined steps."""
        shape, acting = self._config.imagination, self._parameters
        with torch.no_grad():
            rollouts = world.imagine(partial(self.policy.distribution, acting), shape)
        alive, (advantages, returns) = rollouts.alive, self._value.advantages(rollouts)
        obs, actions, log_prob = rollouts.obs[:-1][alive], rollouts.actions[alive], rollouts.log_prob[alive]
        advantages = (advantages[alive] - advantages[alive].mean()) / advantages[alive].std().clamp(min=1e-6)
        step = trpo_step(
            lambda moved: (
                importance_surrogate(self.policy, moved, obs, actions, log_prob, advantages)
                - self.policy.outside(moved, obs).mean()
            ),
            lambda moved: policy_kl(self.policy, acting, moved, obs).mean(),
            acting,
            self._config.trpo,
        )
        self._parameters = step.parameters
        self.policy.project_(self._parameters)
        self._value.fit(obs, returns[alive])
        return rollouts.steps


def me_trpo(task: Task, config: MeTrpoConfig | None = None, *, seed: int = 0, device: str = "cpu") -> Learner:
    """Return a learner that improves its policy by ME-TRPO.

    Raises:
      ValueError: a setting is out of bounds, or the rollouts cannot be shared evenly among the members.
    """
    return Learner(task, MeTrpo, config or MeTrpoConfig(), seed=seed, device=device)
