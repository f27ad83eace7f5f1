"""The loop that all methods share: fit the ensemble, improve the policy in it, validate, keep the last good policy.

A method is one file of its own; it says how one policy iteration is made. Warm starts: rounds are seconds apart, so
ensemble, policy and value go on from where they were, unless the settings ask for a `restart` of policy and value.
Where a round finds nothing that validation accepts, the last good policy acts on, but the next round goes on from where
this one ended: a policy that is good without noise and bad with it (HalfCheetah on its nose) gets worse before it gets
better, and begun from again and again it would be the last. It goes on as long as a round finds something better than
it began with; then the last good policy is begun from again. Until there is a good policy, every round begins from the
untrained one: random actions act as long, and a small step that is surely better ends that sooner.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from mbrl_core.algorithms.accepted import Accepted, BundleMaker, Trained
from mbrl_core.algorithms.adaptation import Adapts
from mbrl_core.algorithms.dataset import Dataset, dataset
from mbrl_core.algorithms.learner_state import load_ensemble, load_learner, save_learner
from mbrl_core.algorithms.referee import Referee
from mbrl_core.algorithms.report import Adaptation, RoundReport
from mbrl_core.algorithms.restart import half_way_to_initial_spread
from mbrl_core.algorithms.tally import Tally, timed
from mbrl_core.algorithms.validation import Score, Trial, ValidationConfig, score
from mbrl_core.algorithms.world import World
from mbrl_core.bundle import Bundle
from mbrl_core.checkpoint import Checkpoint
from mbrl_core.config import check, refuse
from mbrl_core.models.ensemble import EnsembleConfig
from mbrl_core.models.ensemble_graph import calibrated
from mbrl_core.models.imagination import ImaginationConfig
from mbrl_core.models.normaliser import Normaliser
from mbrl_core.models.perturbed_ensemble import make_ensemble
from mbrl_core.policies.gaussian_mlp import GaussianMlp, rebased
from mbrl_core.replay import Replay
from mbrl_core.tasks.task import Task
from mbrl_core.types import Episode

SMALLEST_SPREAD = 0.01  # of an observation, raw units


class Method(Protocol):
    """One way to improve a policy in an ensemble."""

    @property
    def policy(self) -> GaussianMlp:
        """The policy's shape."""

    @property
    def trained(self) -> Trained:
        """What is being improved; live tensors."""

    def initial(self) -> Trained:
        """Draw fresh parameters; what is being improved stays what it is."""

    def replace(self, trained: Trained) -> None:
        """Go on from other parameters."""

    def iterate(self, world: World) -> int:
        """Make one policy iteration; return the number of imagined steps.

        Raises:
          FloatingPointError: a loss or a gradient is not finite.
        """


class LearnerConfig(Protocol):
    """What the settings of every method have in common."""

    @property
    def iterations(self) -> int:
        """Policy iterations in a round."""

    @property
    def ensemble(self) -> EnsembleConfig:
        """Size and training of the models."""

    @property
    def imagination(self) -> ImaginationConfig:
        """Rollouts of one iteration."""

    @property
    def validation(self) -> ValidationConfig:
        """The 70 % rule."""

    @property
    def restart(self) -> str:
        """What a round begins afresh, one of RESTARTS."""


Config = TypeVar("Config", bound=LearnerConfig)


class Learner:
    """Call `round` again and again while episodes arrive; take `bundle` when a round was accepted."""

    def __init__(
        self,
        task: Task,
        method: Callable[[Task, Config, torch.Generator], Method],
        config: Config,
        *,
        seed: int,
        device: str,
    ) -> None:
        """Draw a fresh policy, then a fresh ensemble.

        Args:
          task: what is known.
          method: its class; the generator, shared with the learner, draws starts and noise.
          config: all settings of the method.
          seed: of everything.
          device: torch's name of where to learn.

        Raises:
          ValueError: a setting is out of bounds, or the rollouts cannot be shared evenly among the members.
        """
        self._generator = torch.Generator(device).manual_seed(seed)
        self._task, self.method = task, method(task, config, self._generator)
        self._device = str(self._generator.device)
        members, rollouts = check(config.ensemble).asked, config.imagination.rollouts
        if rollouts % members:
            raise refuse("imagination.rollouts", f"a multiple of {members} members", rollouts)
        self._validation, self._iterations, self._restart = check(config.validation), config.iterations, config.restart
        self._margin = config.imagination.margin
        self._rng = np.random.default_rng((seed, 1))
        width_in, width_out = task.input_dim, task.learned_dim
        self.ensemble = make_ensemble(width_in, width_out, config.ensemble, seed=seed, device=self._device)
        zeros, ones = torch.zeros(task.obs_dim, device=self._device), torch.ones(task.obs_dim, device=self._device)
        self._obs_norm = Normaliser(zeros, ones)
        self._good = self._snapshot(0, self._obs_norm)
        self._candidate: Accepted | None = None  # where the last round ended, if the next one goes on from there
        adaptation = self.method.adaptation if isinstance(self.method, Adapts) else None
        self._bundles = BundleMaker(task, self.method.policy, adaptation=adaptation, ensemble=self.ensemble)
        self._accepted_updates = self._rejected_updates = 0

    @property
    def version(self) -> int:
        """Version of the last good policy; 0 = none yet."""
        return self._good.version

    @property
    def adapted_policies(self) -> int:
        """How many policies the last good one was adapted to in imagination; 0 where the method does not adapt."""
        return next((len(part) for part in self._good.trained.adapted.values()), 0)

    def bundle(self, member: int | None = None) -> Bundle:
        """The last good policy, or one of its adapted policies.

        Raises:
          ValueError: there is none yet.
        """
        if self.version == 0:
            raise refuse("policy_version", "at least 1: a round that was accepted", 0)
        if member is not None and not 0 <= member < self.adapted_policies:
            raise refuse("member", f"below {self.adapted_policies}, the number of adapted policies", member)
        return self._bundles.make(self._good, member)

    def adapt(self, episodes: Sequence[Episode]) -> Adaptation:
        """Adapt the last good policy by one inner step to real episodes that it acted in; the learner stays as it is.

        Raises:
          ValueError: there is no good policy yet, the method has no inner step, or no step of the episodes counts.
        """
        if self.version == 0:
            raise refuse("policy_version", "at least 1: a round that was accepted", 0)
        if not isinstance(self.method, Adapts):
            raise refuse("method", "one with an inner step", type(self.method).__name__)
        step = self.method.adapt(self._task, self._obs_norm, episodes)
        adapted = dataclasses.replace(self._good, trained=self._good.trained._replace(policy=step.parameters))
        return Adaptation(
            bundle=self._bundles.make(adapted), kl=float(step.kl), gradient_norm=float(step.gradient_norm)
        )

    def checkpoint(self) -> Checkpoint:
        """All that the next round depends on."""
        counts = {"accepted": self._accepted_updates, "rejected": self._rejected_updates}
        return save_learner(self._good, self._candidate, self.ensemble, self._generator, self._rng, **counts)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on exactly as the learner would have that made the checkpoint.

        Raises:
          ValueError: it was made under other settings.
        """
        loaded = load_learner(checkpoint, self._good, self.ensemble, self._generator, self._rng)
        self._good, self._candidate = loaded.good, loaded.candidate
        self._accepted_updates, self._rejected_updates = loaded.counts["accepted"], loaded.counts["rejected"]
        self._go_back()

    def adopt_ensemble(self, checkpoint: Checkpoint) -> None:
        """Take over what another learner knows of the world, and nothing of its policy.

        Raises:
          ValueError: it was made under other settings of the ensemble, or for states of another width.
        """
        load_ensemble(checkpoint, self.ensemble, self._device)

    def round(
        self,
        replay: Replay,
        *,
        fit: bool = True,
        should_stop: Callable[[], bool] = lambda: False,
        on_phase: Callable[[str], None] = lambda phase: None,
    ) -> RoundReport:
        """Fit, improve, validate; keep the last good policy whatever happens.

        Args:
          replay: all real data so far.
          fit: without it the ensemble stays as it is, and the policy is improved in it.
          should_stop: polled between gradient steps and policy iterations.
          on_phase: told "fitting", "improving" or "validating" as they begin.

        Raises:
          ValueError: no episode (or block of steps) to train on, or none held out.
        """
        data, tally, began = dataset(replay, self._task, self._device), Tally(), self.version
        try:
            if fit:
                with timed(tally, "fitting", on_phase):
                    self._fit(data, tally, should_stop)
            tally.disagreement = float(self.ensemble.disagreement(data.held_inputs).mean())
            self._improve(data, tally, should_stop, on_phase)
            self._go_back()
            with timed(tally, "validating", on_phase):
                self._imagine_episodes(data, tally)
        except FloatingPointError as error:
            tally.problem, self._candidate = str(error), None
            self._go_back()
        return self._report(data, tally, accepted=self.version > began, stopped=should_stop())

    def _fit(self, data: Dataset, tally: Tally, should_stop: Callable[[], bool]) -> None:
        fit = self.ensemble.fit(data.inputs, data.targets, data.held_inputs, data.held_targets, should_stop)
        tally.fit_steps, tally.holdout_loss = fit.steps, fit.holdout_loss

    def _improve(
        self, data: Dataset, tally: Tally, should_stop: Callable[[], bool], on_phase: Callable[[str], None]
    ) -> None:
        """Improve until the iterations are used up, or validation has failed too often, or the caller asks to stop."""
        every, began, goes_on = self._validation.every, self.version, self._candidate is not None
        self._renormalise(data)
        world = World(self._task, self.ensemble, self._obs_norm, data, self._goals, self._generator, tally.imagined)
        with timed(tally, "validating", on_phase):
            trial = self._validation_trial(data)
            referee = self._begin(trial)
        for iteration in range(1, self._iterations + 1):
            if should_stop() or referee.failures >= self._validation.patience:
                break
            with timed(tally, "improving", on_phase):
                tally.imagined_steps += self.method.iterate(world)
            tally.inner = self.method.inner if isinstance(self.method, Adapts) else None
            if iteration % every == 0 or iteration == self._iterations:
                with timed(tally, "validating", on_phase):
                    tally.ratio, good = referee.judge(self._score(trial))
                self._count(good, data)
        if not (referee.progress or referee.failures):
            return  # stopped before any validation: nothing is known of it
        keeps = self._restart != "all" and self.version == began > 0 and (referee.progress or not goes_on)
        self._candidate = self._snapshot(self.version, self._obs_norm) if keeps else None

    def _imagine_episodes(self, data: Dataset, tally: Tally) -> None:
        """How the last good policy does from where real episodes begin: what a real episode compares with."""
        result = self._score(self._trial(data, _in_turn(data.first_states, self._validation.goals)))
        tally.imagined_return, tally.imagined_success = float(result.returns.mean()), float(result.success.mean())

    def _begin(self, trial: Trial) -> Referee:
        """Restart what the settings say, or go on; whatever is not the last good policy has that one to beat."""
        before = self._score(trial)
        if self._restart == "all":
            self.method.replace(self.method.initial())
            return Referee(self._validation, self._score(trial), to_beat=before)
        if self._candidate is not None:
            self._replace_rebased(self._candidate)
            return Referee(self._validation, self._score(trial), to_beat=before)
        if self._restart == "spread":
            trained = self.method.trained
            policy = half_way_to_initial_spread(self.method.policy, trained.policy)
            self.method.replace(trained._replace(policy=policy))
        return Referee(self._validation, before)

    def _score(self, trial: Trial) -> Score:
        policy, parameters = self.method.policy, self.method.trained.policy
        return score(self._task, self.ensemble, policy, parameters, self._obs_norm, trial)

    def _count(self, good: bool, data: Dataset) -> None:
        """Count a validation, and remember a policy that passed it."""
        if not good:
            self._rejected_updates += 1
            return
        ensemble_id = self.ensemble.fingerprint()
        known = self._good.gate if self._good.ensemble_id == ensemble_id else {}
        self._good = dataclasses.replace(
            self._snapshot(self.version + 1, self._obs_norm),
            real_steps=data.real_steps,
            ensemble_id=ensemble_id,
            gate=known or calibrated(self.ensemble, data.inputs),
        )
        self._accepted_updates += 1

    def _snapshot(self, version: int, obs_norm: Normaliser) -> Accepted:
        return Accepted(version=version, trained=self.method.trained.copied(), obs_norm=obs_norm)

    def _go_back(self) -> None:
        """Go on from the last good policy."""
        self.method.replace(self._good.trained)
        self._obs_norm = self._good.obs_norm

    def _renormalise(self, data: Dataset) -> None:
        """Normalise observations as they will be imagined; policy and value compute what they did.

        Learned step sizes stay as they are: where a scale grows by s, the first layer's inner step shrinks by s^2.
        """
        goals = self._goals(len(data.states))
        self._obs_norm = Normaliser.of(self._task.observe(data.states, goals), SMALLEST_SPREAD)
        if self.version > 0:
            self._replace_rebased(self._good)

    def _replace_rebased(self, begin: Accepted) -> None:
        """Go on from a policy and value, which compute under today's normaliser what they did under theirs."""
        trained, old, new = begin.trained, begin.obs_norm, self._obs_norm
        policy, value = rebased(trained.policy, old, new), rebased(trained.value, old, new)
        self.method.replace(trained._replace(policy=policy, value=value))

    def _validation_trial(self, data: Dataset) -> Trial:
        """Starts and goals, fixed for the round: half of it where real episodes begin, half anywhere in them.

        Episodes may be few and begin alike: from one start, four of five members agree on luck.
        """
        count = self._validation.goals
        anywhere = self._rng.integers(len(data.states), size=count // 2)
        beginnings = _in_turn(data.first_states, count - len(anywhere))
        elsewhere = data.states[torch.as_tensor(anywhere, device=self._device)]
        return self._trial(data, torch.cat([beginnings, elsewhere]))

    def _trial(self, data: Dataset, starts: Tensor) -> Trial:
        """From these starts to as many goals."""
        horizon = min(self._task.steps, self._validation.horizon)
        return Trial(starts, self._goals(len(starts)), data.state_range.widened(self._margin), horizon)

    def _goals(self, count: int) -> Tensor:
        return torch.as_tensor(self._task.sample_goal(self._rng, count), dtype=torch.float32, device=self._device)

    def _report(self, data: Dataset, tally: Tally, *, accepted: bool, stopped: bool) -> RoundReport:
        inner = tally.inner
        return RoundReport(
            policy_version=self.version,
            accepted=accepted,
            stopped=stopped,
            real_steps=data.real_steps,
            episodes=data.episodes,
            fit_s=tally.seconds.get("fitting", 0.0),
            improve_s=tally.seconds.get("improving", 0.0),
            validate_s=tally.seconds.get("validating", 0.0),
            fit_steps=tally.fit_steps,
            imagined_steps=tally.imagined_steps,
            holdout_loss=tally.holdout_loss,
            disagreement=tally.disagreement,
            truncated_share=tally.imagined.truncated_share,
            bonus_weight=tally.imagined.bonus_weight,
            imagined_return=tally.imagined_return,
            imagined_success=tally.imagined_success,
            validation_ratio=tally.ratio,
            inner_return_before=inner.return_before if inner else None,
            inner_return_after=inner.return_after if inner else None,
            inner_kl=inner.kl if inner else None,
            updates_accepted=self._accepted_updates,
            updates_rejected=self._rejected_updates,
            problem=tally.problem,
        )


def _in_turn(states: Tensor, count: int) -> Tensor:
    """So many of the states, from all over them, each as often as the others: (B, S) to (count, S)."""
    rows = torch.arange(count, device=states.device)
    return states[rows % len(states) if len(states) < count else rows * len(states) // count]
