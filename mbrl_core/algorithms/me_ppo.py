"""ME-PPO: model-ensemble policy optimisation (Kurutach et al. 2018, arXiv 1802.10592, algorithm 1) with PPO.

A round: fit the ensemble to all real data; improve the policy on rollouts imagined in it; validate across members and
keep the improvement only if most members see it. Departures, with reasons: PPO in place of TRPO, as in arXiv
1910.12453; short rollouts branched from real states with a bootstrapped value in place of whole episodes (model errors
compound); one member per rollout in place of one per step (a consistent world); goals drawn afresh in imagination
(they are not dynamics); the ensemble is warm-started and never re-initialised (rounds are seconds apart).
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mbrl_core.algorithms.accepted import Accepted, BundleMaker
from mbrl_core.algorithms.advantage import gae
from mbrl_core.algorithms.dataset import Dataset, dataset
from mbrl_core.algorithms.ppo import PpoConfig, PpoUpdate, Samples
from mbrl_core.algorithms.report import RoundReport
from mbrl_core.algorithms.validation import Score, ValidationConfig, improved_share, score
from mbrl_core.algorithms.value import ValueMlp
from mbrl_core.bundle import Bundle
from mbrl_core.config import check, refuse, setting
from mbrl_core.models.ensemble import Ensemble, EnsembleConfig
from mbrl_core.models.imagination import ImaginationConfig, Rollouts, imagine
from mbrl_core.models.normaliser import Normaliser
from mbrl_core.policies.gaussian_mlp import GaussianMlp, PolicyConfig, rebased
from mbrl_core.replay import Replay
from mbrl_core.tasks.task import Task

SMALLEST_SPREAD = 0.01  # of an observation, raw units


@dataclass(frozen=True, kw_only=True)
class MePpoConfig:
    """All settings of ME-PPO."""

    iterations: int = setting(20, doc="policy iterations in a round", low=1)
    ensemble: EnsembleConfig = setting(EnsembleConfig(), doc="dynamics models")
    imagination: ImaginationConfig = setting(ImaginationConfig(), doc="imagined rollouts")
    policy: PolicyConfig = setting(PolicyConfig(), doc="the policy")
    ppo: PpoConfig = setting(PpoConfig(), doc="its update")
    validation: ValidationConfig = setting(ValidationConfig(), doc="the 70 % rule")


@dataclass
class _Tally:
    """What a round has done so far."""

    phase: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    fit_steps: int = 0
    imagined_steps: int = 0
    holdout_loss: tuple[float, ...] = ()
    disagreement: float = 0.0
    ratio: float = 0.0
    imagined_return: float = 0.0
    imagined_success: float = 0.0
    problem: str = ""


class MePpo:
    """The learner: call `round` again and again while episodes arrive; take `bundle` when a round was accepted."""

    def __init__(self, task: Task, config: MePpoConfig | None = None, *, seed: int = 0, device: str = "cpu") -> None:
        """Draw a fresh ensemble and policy.

        Raises:
          ValueError: a setting is out of bounds, or the rollouts cannot be shared evenly among the members.
        """
        self.config = _checked(config or MePpoConfig())
        self._task, self._device = task, device
        self._rng = np.random.default_rng((seed, 1))
        self._generator = torch.Generator(device).manual_seed(seed)
        self.ensemble = Ensemble(task.input_dim, task.learned_dim, self.config.ensemble, seed=seed, device=device)
        self.policy = GaussianMlp(task.obs_dim, task.action_dim, self.config.policy)
        self._value = ValueMlp((task.obs_dim, *self.config.ppo.value_hidden, 1))
        self._update = PpoUpdate(self.policy, self._value, self.config.ppo, self._generator)
        identity = Normaliser(torch.zeros(task.obs_dim, device=device), torch.ones(task.obs_dim, device=device))
        self._obs_norm, self._good = identity, self._snapshot(0, identity)
        self._bundles = BundleMaker(task, self.policy)
        self._accepted_updates = self._rejected_updates = 0

    @property
    def version(self) -> int:
        """Version of the last good policy; 0 = none yet."""
        return self._good.version

    def bundle(self) -> Bundle:
        """The last good policy.

        Raises:
          ValueError: there is none yet.
        """
        if self.version == 0:
            raise refuse("policy_version", "at least 1: a round that was accepted", 0)
        return self._bundles.make(self._good)

    def round(
        self,
        replay: Replay,
        *,
        should_stop: Callable[[], bool] = lambda: False,
        on_phase: Callable[[str], None] = lambda phase: None,
    ) -> RoundReport:
        """Fit, improve, validate; keep the last good policy whatever happens.

        Args:
          replay: all real data so far.
          should_stop: polled between gradient steps and policy iterations.
          on_phase: told "fitting", "improving" or "validating" as they begin.

        Raises:
          ValueError: fewer than two episodes.
        """
        data, tally, began = dataset(replay, self._task, self._device), _Tally(), self.version
        try:
            with _timed(tally, "fitting", on_phase):
                self._fit(data, tally, should_stop)
            self._improve(data, tally, should_stop, on_phase)
        except FloatingPointError as error:
            tally.problem = str(error)
        self._restore()
        return RoundReport(
            policy_version=self.version,
            accepted=self.version > began,
            stopped=should_stop(),
            real_steps=data.real_steps,
            episodes=data.episodes,
            fit_s=tally.seconds.get("fitting", 0.0),
            improve_s=tally.seconds.get("improving", 0.0),
            validate_s=tally.seconds.get("validating", 0.0),
            fit_steps=tally.fit_steps,
            imagined_steps=tally.imagined_steps,
            holdout_loss=tally.holdout_loss,
            disagreement=tally.disagreement,
            imagined_return=tally.imagined_return,
            imagined_success=tally.imagined_success,
            validation_ratio=tally.ratio,
            updates_accepted=self._accepted_updates,
            updates_rejected=self._rejected_updates,
            problem=tally.problem,
        )

    def _fit(self, data: Dataset, tally: _Tally, should_stop: Callable[[], bool]) -> None:
        fit = self.ensemble.fit(data.inputs, data.targets, data.held_inputs, data.held_targets, should_stop)
        tally.fit_steps, tally.holdout_loss = fit.steps, fit.holdout_loss
        tally.disagreement = float(self.ensemble.disagreement(data.held_inputs).mean())

    def _improve(
        self, data: Dataset, tally: _Tally, should_stop: Callable[[], bool], on_phase: Callable[[str], None]
    ) -> None:
        """Improve until the iterations are used up, or validation has failed too often, or the caller asks to stop."""
        every, failures = self.config.validation.every, 0
        self._renormalise(data)
        with _timed(tally, "validating", on_phase):
            starts, goals = self._validation_set(data)
            best = self._score(starts, goals)
        for iteration in range(1, self.config.iterations + 1):
            if should_stop() or failures >= self.config.validation.patience:
                break
            with _timed(tally, "improving", on_phase):
                self._iterate(data, tally)
            if iteration % every == 0 or iteration == self.config.iterations:
                with _timed(tally, "validating", on_phase):
                    fresh = self._score(starts, goals)
                    tally.ratio = improved_share(best, fresh)
                    good = tally.ratio >= self.config.validation.ratio
                best, failures = (fresh, 0) if good else (best, failures + 1)
                self._judge(good, data)
        tally.imagined_return, tally.imagined_success = float(best.returns.mean()), float(best.success.mean())

    def _iterate(self, data: Dataset, tally: _Tally) -> None:
        """One policy iteration: imagine, estimate advantages, update."""
        count = self.config.imagination.rollouts
        rows = torch.randint(len(data.states), (count,), generator=self._generator, device=self._device)
        rollouts = imagine(
            self._task,
            self.ensemble,
            self.policy,
            self._update.policy_parameters,
            self._obs_norm,
            data.states[rows],
            self._goals(count),
            self.config.imagination.horizon,
            self._generator,
        )
        tally.imagined_steps += rollouts.steps
        self._update.step(self._samples(rollouts))

    @torch.no_grad()
    def _samples(self, rollouts: Rollouts) -> Samples:
        """Advantages with the value bootstrapped at the horizon; the value is in the units of these returns."""
        config = self.config.ppo
        values = self._value.value(self._update.value_parameters, rollouts.obs)
        advantages, returns = gae(rollouts.rewards, values, config.discount, config.trace)
        self._update.rescale_value(returns)
        advantages = (advantages - advantages.mean()) / advantages.std().clamp(min=1e-6)
        return Samples(
            rollouts.obs[:-1].flatten(0, 1),
            rollouts.actions.flatten(0, 1),
            rollouts.log_prob.flatten(),
            advantages.flatten(),
            returns.flatten(),
        )

    def _score(self, starts: Tensor, goals: Tensor) -> Score:
        parameters = self._update.policy_parameters
        return score(self._task, self.ensemble, self.policy, parameters, self._obs_norm, starts, goals)

    def _judge(self, good: bool, data: Dataset) -> None:
        """Count a validation, and remember a policy that passed it."""
        if not good:
            self._rejected_updates += 1
            return
        self._accepted_updates += 1
        self._good = self._snapshot(
            self.version + 1, self._obs_norm, real_steps=data.real_steps, ensemble_id=self.ensemble.fingerprint()
        )

    def _snapshot(self, version: int, obs_norm: Normaliser, *, real_steps: int = 0, ensemble_id: str = "") -> Accepted:
        update = self._update
        return Accepted(
            version=version,
            policy={name: tensor.detach().clone() for name, tensor in update.policy_parameters.items()},
            value={name: tensor.detach().clone() for name, tensor in update.value_parameters.items()},
            obs_norm=obs_norm,
            real_steps=real_steps,
            ensemble_id=ensemble_id,
        )

    def _restore(self) -> None:
        """Go back to the last good policy."""
        self._update.replace(self._good.policy, self._good.value)
        self._obs_norm = self._good.obs_norm

    def _renormalise(self, data: Dataset) -> None:
        """Normalise observations as they will be imagined; policy and value compute what they did."""
        goals = self._goals(len(data.states))
        old, new = self._obs_norm, Normaliser.of(self._task.observe(data.states, goals), SMALLEST_SPREAD)
        self._obs_norm = new
        if self.version > 0:
            update = self._update
            update.replace(rebased(update.policy_parameters, old, new), rebased(update.value_parameters, old, new))

    def _validation_set(self, data: Dataset) -> tuple[Tensor, Tensor]:
        """Real starts, used in turn, and goals: fixed for the round."""
        count = self.config.validation.goals
        rows = torch.arange(count, device=self._device) % len(data.first_states)
        return data.first_states[rows], self._goals(count)

    def _goals(self, count: int) -> Tensor:
        return torch.as_tensor(self._task.sample_goal(self._rng, count), dtype=torch.float32, device=self._device)


@contextmanager
def _timed(tally: _Tally, phase: str, on_phase: Callable[[str], None]) -> Iterator[None]:
    """Announce a change of phase and add the phase's wall-clock time."""
    if phase != tally.phase:
        tally.phase = phase
        on_phase(phase)
    start = time.monotonic()
    try:
        yield
    finally:
        tally.seconds[phase] = tally.seconds.get(phase, 0.0) + time.monotonic() - start


def _checked(config: MePpoConfig) -> MePpoConfig:
    for part in (config, config.ensemble, config.imagination, config.policy, config.ppo, config.validation):
        check(part)
    members, rollouts = config.ensemble.members, config.imagination.rollouts
    if rollouts % members:
        raise refuse("MePpoConfig.imagination.rollouts", f"a multiple of {members} members", rollouts)
    return config
