"""Imagination on the robot: what `models.roll_out` does, in numpy, with the bundle's ensemble and graphs. No torch.

Actions are drawn, next states too; every member lives in its own share of the rollouts, as in training.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mbrl_core.config import refuse
from mbrl_core.log_density import log_density
from mbrl_core.reality_gap import RealityGap
from mbrl_core.tasks.task import Task
from mbrl_core.types import Vector
from mbrl_core.world_model import WorldModel

Draw = Callable[[Vector], tuple[Vector, Vector]]  # raw observations (B, O) to mean (B, A) and log std (A,)


@dataclass(frozen=True)
class Imagined:
    """Rollouts; time first, H steps of B rollouts."""

    obs: Vector  # (H+1, B, O), raw units
    actions: Vector  # (H, B, A), as drawn
    log_prob: Vector  # (H, B), nats
    rewards: Vector  # (H, B), 0 after the end
    terminated: Vector  # (H, B) bool
    alive: Vector  # (H, B) bool, the steps that are taken


@dataclass(frozen=True)
class ImaginedWorld:
    """Where the robot imagines: the ensemble, set right by what really happened."""

    task: Task
    model: WorldModel
    gap: RealityGap

    def roll_out(
        self, act: Draw, starts: Vector, before: Vector, goals: Vector, horizon: int, rng: np.random.Generator | None
    ) -> Imagined:
        """Act from real states; rows are shared evenly among the members, in order.

        Args:
          act: the policy.
          starts: (B, S), B a multiple of the members K.
          before: (B, A), what was sent one step before.
          goals: (B, G).
          horizon: H.
          rng: draws actions and next states; without one, both are the mean.

        Raises:
          ValueError: B is not a multiple of K, or something imagined is not finite.
        """
        task, members = self.task, self.model.members
        if len(starts) % members:
            raise refuse("starts", f"a multiple of {members} rows", len(starts))
        state, alive, records = starts, np.ones(len(starts), dtype=bool), []
        for _ in range(horizon):
            obs = np.asarray(task.observe(state, goals))
            mean, log_std = act(obs)
            action = mean + np.exp(log_std) * _noise(mean, rng)
            sent = np.asarray(task.admissible(state, action))
            following = np.where(alive[:, None], self._next(state, sent, before, rng), state)
            earned = np.asarray(task.reward(state, sent, following, goals + self.gap.goal_offset))
            ends = alive & np.asarray(task.terminates(following, goals))
            records.append((obs, action, log_density(mean, log_std, action), np.where(alive, earned, 0.0), ends, alive))
            state, before, alive = following, sent, alive & ~ends
        columns = [np.stack(column) for column in zip(*records, strict=True)]
        if not (np.isfinite(columns[3]).all() and np.isfinite(state).all()):
            raise refuse("imagination", "finite rewards and states", "NaN or infinity")
        columns[0] = np.concatenate([columns[0], np.asarray(task.observe(state, goals))[None]])
        return Imagined(*columns)

    def _next(self, state: Vector, sent: Vector, before: Vector, rng: np.random.Generator | None) -> Vector:
        inputs = np.asarray(self.task.model_input(state, sent))
        prediction = self.model.predict(self._by_member(inputs))
        mean = self.gap.corrected(prediction, self._by_member(before))
        change = mean + np.exp(0.5 * prediction.log_var) * _noise(mean, rng)
        return np.asarray(self.task.next_state(state, sent, change.reshape(len(state), -1)))

    def _by_member(self, rows: Vector) -> Vector:
        """(B, N) to (K, B / K, N)."""
        return rows.reshape(self.model.members, -1, rows.shape[-1])


def _noise(like: Vector, rng: np.random.Generator | None) -> Vector:
    return np.zeros_like(like) if rng is None else rng.standard_normal(like.shape)
