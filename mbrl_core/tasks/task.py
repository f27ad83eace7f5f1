"""What the learner asks of a task. Everything here is known: only the change of the learned part of a state is not.

A reward or an end of the episode that nobody knows how to compute is a part of the state, and so learned with it.
"""

from typing import Protocol

import numpy as np

from mbrl_core.arm import ArmProfile
from mbrl_core.types import Array, Vector


class Task(Protocol):
    """A task, on an arm or in any environment; `xp` methods take numpy and torch arrays with any leading axes."""

    @property
    def name(self) -> str:
        """Name in episodes and bundles."""

    @property
    def profile(self) -> ArmProfile | None:
        """The arm, where there is one."""

    @property
    def steps(self) -> int:
        """Policy steps of an episode."""

    @property
    def state_dim(self) -> int:
        """S."""

    @property
    def action_dim(self) -> int:
        """A."""

    @property
    def goal_dim(self) -> int:
        """G."""

    @property
    def obs_dim(self) -> int:
        """O."""

    @property
    def input_dim(self) -> int:
        """Width of what the ensemble sees."""

    @property
    def learned_dim(self) -> int:
        """Width of what the ensemble predicts."""

    @property
    def obs_slices(self) -> dict[str, tuple[int, int]]:
        """Name, start and end of each part of an observation, in order."""

    def observe(self, state: Array, goal: Array) -> Array:
        """What the policy sees: (..., O) (xp)."""

    def reward(self, state: Array, action: Array, next_state: Array, goal: Array) -> Array:
        """Reward of going from state to next_state by an action that was sent: (...) (xp)."""

    def terminates(self, state: Array, goal: Array) -> Array:
        """Whether an episode ends at a state, for good and with no value beyond: (...) bool (xp)."""

    def success(self, state: Array, goal: Array) -> Array:
        """Whether a state reaches the goal: (...) bool (xp)."""

    def admissible(self, state: Array, action: Array) -> Array:
        """The action that the arm's limits let through: (..., A) (xp)."""

    def model_input(self, state: Array, action: Array) -> Array:
        """What the ensemble sees: (..., I) (xp)."""

    def model_target(self, state: Array, next_state: Array) -> Array:
        """What the ensemble predicts: (..., D) (xp)."""

    def next_state(self, state: Array, action: Array, change: Array) -> Array:
        """Apply a predicted change: (..., S) (xp)."""

    def sample_goal(self, rng: np.random.Generator, count: int) -> Vector:
        """Draw goals: (count, G)."""
