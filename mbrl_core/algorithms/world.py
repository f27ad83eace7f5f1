"""What a policy iteration works in: imagination under a method's settings, in the units of the data at hand."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mbrl_core.algorithms.dataset import Dataset
from mbrl_core.models.ensemble import Ensemble
from mbrl_core.models.imagination import ImaginationConfig
from mbrl_core.models.normaliser import Normaliser
from mbrl_core.models.roll_out import Act, Rollouts, Rules, roll_out
from mbrl_core.tasks.task import Task

USUAL_QUANTILE = 0.99  # of the disagreement on training data: what lies above is not usual


@dataclass
class Imagined:
    """What has been imagined in a round."""

    rollouts: int = 0
    truncated: int = 0
    bonus_weight: float = 0.0  # the last in use

    @property
    def truncated_share(self) -> float:
        """Share of rollouts that were cut where the members disagree."""
        return self.truncated / self.rollouts if self.rollouts else 0.0


@dataclass(frozen=True)
class World:
    """What a policy iteration works in."""

    task: Task
    ensemble: Ensemble
    obs_norm: Normaliser
    data: Dataset
    goals: Callable[[int], Tensor]  # draws that many goals: (count, G)
    generator: torch.Generator
    imagined: Imagined  # is counted in

    def starts(self, count: int) -> Tensor:
        """Draw real states to branch from: (count, S)."""
        states = self.data.states
        return states[torch.randint(len(states), (count,), generator=self.generator, device=states.device)]

    def imagine(self, act: Act, config: ImaginationConfig) -> Rollouts:
        """Act from fresh starts to fresh goals; gradients flow unless the caller stops them.

        Raises:
          ValueError: the rollouts cannot be shared evenly.
          FloatingPointError: an imagined number is not finite.
        """
        starts, goals = self.starts(config.rollouts), self.goals(config.rollouts)
        rules = self.rules(config)
        rollouts = roll_out(
            self.task, self.ensemble, act, self.obs_norm, starts, goals, config.horizon, self.generator, rules
        )
        self.imagined.rollouts += config.rollouts
        self.imagined.truncated += int(rollouts.truncated.sum())
        return rollouts

    def rules(self, config: ImaginationConfig) -> Rules:
        """Settings that are relative to the data, in the units of the ensemble and of the rewards."""
        weight = self.imagined.bonus_weight = config.bonus.weight_at(self.data.real_steps)
        within = self.data.state_range.widened(config.margin)
        if not (weight or config.truncation):
            return Rules(config.propagation, within=within)
        mean, high = self._usual_disagreement
        most = config.truncation * high if config.truncation else math.inf
        return Rules(config.propagation, most, weight * self.data.reward_spread / mean, within)

    @cached_property
    def _usual_disagreement(self) -> tuple[float, float]:
        """Mean and high quantile on training data."""
        with torch.no_grad():
            disagreement = self.ensemble.disagreement(self.data.inputs)
            return float(disagreement.mean()), float(disagreement.quantile(USUAL_QUANTILE))
