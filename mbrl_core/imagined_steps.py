"""The model-based inner step: on rollouts that are imagined in the ensemble, set right by real episodes.

A gradient from five real episodes is noisy, and noise is most of it on an arm. The episodes are therefore used twice
better: they say how the world differs from the ensemble (`reality_gap.py`, 26 numbers a dimension on the SO-101), and
the steps are taken on as many fresh rollouts in the corrected ensemble as one likes. Learned step sizes give a step its
direction; its length is set by the KL divergence that it moves the policy, since a few long steps in a row are not what
training had learned them for. Lengths fall harmonically (Robbins and Monro 1951): of steps that stay as long, the noise
of the last ones is what is left where little was to be won.
"""

from collections.abc import Sequence

import numpy as np

from mbrl_core.adapter import AdaptedStep, Adapter
from mbrl_core.algorithms.advantage import gae, standardised_advantages
from mbrl_core.bundle import Bundle
from mbrl_core.config import check
from mbrl_core.imagined_batch import Draw, ImaginedWorld
from mbrl_core.imagined_config import ImaginedStepsConfig
from mbrl_core.real_batch import RealBatch, Single
from mbrl_core.reality_gap import fit_gap, transitions
from mbrl_core.tasks.task import Task
from mbrl_core.types import Episode, Vector
from mbrl_core.world_model import WorldModel

TRIALS, LONGEST_TRIAL = 40, 200  # goals in every member, and steps: errors of a model add up
LONGEST = 100.0  # factor on the step sizes: a gradient that hardly moves the policy is not stretched without end
SHRINKS = 4  # halvings of a step that made its own surrogate worse, before it is left to be refused
GOALS = 256  # drawn to know their spread


class ImaginedSteps:
    """Takes inner steps in imagination; the world is fitted once, to the episodes given."""

    def __init__(
        self, bundle: Bundle, task: Task, adapter: Adapter, episodes: Sequence[Episode], config: ImaginedStepsConfig
    ) -> None:
        """Fit how the world differs.

        Args:
          bundle: with its ensemble.
          task: what is known.
          adapter: takes a step.
          episodes: what happened; whoever acted in them, and however.
          config: settings.

        Raises:
          ValueError: the bundle has no ensemble, a setting is out of bounds, no step of the episodes counts, or
            one is not of the task's widths.
        """
        check(config.gap)
        self._task, self._adapter, self._config = task, adapter, check(config)
        self._rng, self._taken = np.random.default_rng(config.seed), 0
        model, real = WorldModel(bundle, task), transitions(task, episodes)
        goals = np.asarray(task.sample_goal(self._rng, GOALS))
        self.gap = fit_gap(task, model, real, goals, config.gap)
        self._world, self._real = ImaginedWorld(task, model, self.gap), real
        self._rollouts = -(-config.rollouts // model.members) * model.members
        begins = np.flatnonzero(real.begins)
        self._trials = np.tile(np.resize(begins, TRIALS), model.members)
        self._trial_goals = np.tile(np.asarray(task.sample_goal(self._rng, TRIALS)), (model.members, 1))

    def __call__(self, theta: Single) -> AdaptedStep:
        """Imagine with theta (P,) and take a step from there.

        Raises:
          ValueError: something imagined, or the step, is not finite.
        """
        batch, step_kl = self._imagine(theta), self._config.step_kl / (1 + self._taken / self._config.half_after) ** 2
        self._taken += 1
        trial = self._adapter.step(theta, batch)
        scale = min(LONGEST, float(np.sqrt(step_kl / max(trial.kl, 1e-12))))
        step = self._adapter.step(theta, batch, scale=scale)
        for _ in range(SHRINKS):
            if step.loss_after <= step.loss and step.kl <= 2 * step_kl:
                break
            scale *= 0.5
            step = self._adapter.step(theta, batch, scale=scale)
        return step

    def earned(self, theta: Single) -> Vector:
        """Mean return of theta's (P,) mean under each member, from where the episodes began, to fixed goals: (K,).

        Raises:
          ValueError: something imagined is not finite.
        """
        rows, steps = self._trials, min(self._task.steps, LONGEST_TRIAL)
        starts, before = self._real.states[rows], self._real.before[rows]
        trial = self._world.roll_out(self._act(theta), starts, before, self._trial_goals, steps, None)
        returns: Vector = trial.rewards.sum(0).reshape(-1, TRIALS).mean(-1)
        return returns

    def _act(self, theta: Single) -> Draw:
        return lambda obs: self._adapter.distribution(theta, obs)

    def _imagine(self, theta: Single) -> RealBatch:
        """A batch of imagined steps that theta took."""
        rows = self._rng.integers(len(self._real.states), size=self._rollouts)
        goals = np.asarray(self._task.sample_goal(self._rng, self._rollouts))
        starts, before = self._real.states[rows], self._real.before[rows]
        rollouts = self._world.roll_out(self._act(theta), starts, before, goals, self._config.horizon, self._rng)
        how, weights = self._adapter.metadata, rollouts.alive.astype(np.float64)
        values = self._adapter.value(rollouts.obs)
        advantages, _ = gae(rollouts.rewards, values, how.discount, how.trace, rollouts.terminated)
        advantages = standardised_advantages(advantages, weights, (0, 1))
        columns = (rollouts.obs[:-1], rollouts.actions, rollouts.log_prob, advantages, weights)
        return RealBatch(*(_flat(column) for column in columns))


def _flat(column: np.ndarray) -> Single:
    """(H, B, ...) to (H * B, ...)."""
    return np.ascontiguousarray(column.reshape(-1, *column.shape[2:]), dtype=np.float32)
