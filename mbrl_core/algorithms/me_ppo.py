"""ME-PPO: model-ensemble policy optimisation (Kurutach et al. 2018, arXiv 1802.10592, algorithm 1) with PPO.

A round: fit the ensemble to all real data; improve the policy on rollouts imagined in it; validate across members and
keep a policy only if most members find it as good as the best. An iteration maximises
E_member[mean min(r A, clip(r, 1 - eps, 1 + eps) A)] (`ppo.py`) over the steps of all members alike.

Departures, with reasons: PPO in place of TRPO, as in arXiv 1910.12453; short rollouts branched from real states with a
bootstrapped value in place of whole episodes (model errors compound); by default one member per rollout in place of one
per step (a consistent world); goals drawn afresh in imagination (they are not dynamics); the ensemble is warm-started
and never re-initialised (rounds are seconds apart); a round that begins from the last good policy gives it more
spread (`restart.py`).
"""

from dataclasses import dataclass
from functools import partial

import torch

from mbrl_core.algorithms.accepted import Trained
from mbrl_core.algorithms.advantage import gae
from mbrl_core.algorithms.learner import Learner
from mbrl_core.algorithms.ppo import PpoConfig, PpoUpdate, Samples
from mbrl_core.algorithms.restart import RESTART_DOC, RESTARTS
from mbrl_core.algorithms.validation import ValidationConfig
from mbrl_core.algorithms.value import ValueMlp
from mbrl_core.algorithms.world import World
from mbrl_core.config import check, setting
from mbrl_core.models.ensemble import EnsembleConfig
from mbrl_core.models.imagination import ImaginationConfig, check_imagination
from mbrl_core.models.roll_out import Rollouts
from mbrl_core.policies.gaussian_mlp import GaussianMlp, PolicyConfig
from mbrl_core.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class MePpoConfig:
    """All settings of ME-PPO."""

    iterations: int = setting(40, doc="policy iterations in a round", low=1)
    ensemble: EnsembleConfig = setting(EnsembleConfig(), doc="dynamics models")
    imagination: ImaginationConfig = setting(ImaginationConfig(), doc="imagined rollouts")
    policy: PolicyConfig = setting(PolicyConfig(), doc="the policy")
    ppo: PpoConfig = setting(PpoConfig(), doc="its update")
    validation: ValidationConfig = setting(ValidationConfig(), doc="the 70 % rule")
    restart: str = setting("spread", doc=RESTART_DOC, one_of=RESTARTS)


class MePpo:
    """One policy iteration: imagine, estimate advantages, update."""

    def __init__(self, task: Task, config: MePpoConfig, generator: torch.Generator) -> None:
        """Draw a fresh policy. Raises ValueError for a setting that is out of bounds."""
        for part in (config, config.policy, config.ppo):
            check(part)
        check_imagination(config.imagination, config.ensemble)
        self._config = config
        self._value = ValueMlp((task.obs_dim, *config.ppo.value_hidden, 1), config.ppo.value_members)
        self.policy = GaussianMlp(task.obs_dim, task.action_dim, config.policy)
        self._update = PpoUpdate(self.policy, self._value, config.ppo, generator)

    @property
    def trained(self) -> Trained:
        """Policy and value."""
        return Trained(self._update.policy_parameters, self._update.value_parameters)

    def initial(self) -> Trained:
        """Draw a fresh policy and value."""
        return Trained(*self._update.initial())

    def replace(self, trained: Trained) -> None:
        """Go on from other parameters."""
        self._update.replace(trained.policy, trained.value)

    def iterate(self, world: World) -> int:
        """Imagine, then update by PPO; returns the number of imagined steps."""
        config = self._config.imagination
        with torch.no_grad():
            rollouts = world.imagine(partial(self.policy.distribution, self._update.policy_parameters), config)
        self._update.step(self._samples(rollouts))
        return rollouts.steps

    @torch.no_grad()
    def _samples(self, rollouts: Rollouts) -> Samples:
        """Advantages, with the value bootstrapped at the horizon or where the rollout is cut, in the returns' units."""
        config, alive = self._config.ppo, rollouts.alive
        values = self._value.value(self._update.value_parameters, rollouts.obs)
        ends = rollouts.terminated, rollouts.truncated
        advantages, returns = gae(rollouts.rewards, values, config.discount, config.trace, *ends)
        advantages, returns = advantages[alive], returns[alive]
        self._update.rescale_value(returns)
        advantages = (advantages - advantages.mean()) / advantages.std().clamp(min=1e-6)
        return Samples(rollouts.obs[:-1][alive], rollouts.actions[alive], rollouts.log_prob[alive], advantages, returns)


def me_ppo(task: Task, config: MePpoConfig | None = None, *, seed: int = 0, device: str = "cpu") -> Learner:
    """Return a learner that improves its policy by ME-PPO.

    Raises:
      ValueError: a setting is out of bounds, or the rollouts cannot be shared evenly among the members.
    """
    return Learner(task, MePpo, config or MePpoConfig(), seed=seed, device=device)
