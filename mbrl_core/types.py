"""Read this first: the words, the shapes and the one record that everything else exchanges.

Axis letters, used in every docstring:
  N tasks, E ensemble members, K of them asked, B batch, H horizon of a rollout, T steps of an episode,
  S state, O observation, A action, G goal, P parameters, J joints that the policy moves, J_all all joints.

State is what the arm is (joint angles, velocities, targets) or the environment shows: the ensemble predicts it.
Observation is what the policy sees (state, what follows from it, and the goal): it is computed, never learned. An
action lies in [-1, 1] when it is sent; as a policy draws it, it may lie outside.
Units are SI and radians. Arrays are numpy on the robot and torch in the learner; functions marked `xp` take both.
"""

from dataclasses import dataclass
from enum import IntFlag
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbrl_core.config import refuse

Array = Any  # an `xp` array: numpy.ndarray or torch.Tensor
Vector = NDArray[np.float64]

TIME_LIMIT = "time limit"  # end_reason of an episode that was as long as its task wants it
STEP_BUDGET = "step budget"  # of one that was cut, since the real steps were used up


class StepFlag(IntFlag):
    """What happened to a step of an episode; the values of mbrl_msgs/Episode."""

    CLAMPED = 1  # sent and asked, cut to [-1, 1] and slowed, differ by more than 0.05: a limit of joint, tip, safety
    LATE = 2  # the action came after the step had begun to move
    GAP = 4  # a reading, a write or an action is missing in the step, or it did not last as long as it should
    SLOWED = 8  # a smaller action was sent: the ensemble disagreed more than on its training data, or a servo is warm


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One real episode, as it happened. `actions_sent` is what reached the wire; models learn from it."""

    states: Vector  # (T+1, S)
    goal: Vector  # (G,)
    actions_asked: Vector  # (T, A), what the policy asked, as drawn: it may lie outside [-1, 1]
    actions_sent: Vector  # (T, A), same scale, in [-1, 1]
    rewards: Vector  # (T,)
    stamps_s: Vector  # (T+1,), robot's monotonic clock
    flags: NDArray[np.uint8]  # (T,), StepFlag
    policy_versions: NDArray[np.uint32]  # (T,), 0 = no learned policy
    episode: int
    arm: str  # empty where there is none
    task: str
    terminated: bool
    truncated: bool
    end_reason: str
    success: bool = False  # where the task has a goal
    final_distance_m: float = 0.0  # from the goal, where the task has one
    reset_s: float = 0.0  # duration of the reset motion before the episode, robot time
    member: int = -1  # of the last action, as inner_steps; where either changed, end_reason tells from which step on
    inner_steps: int = 0  # adaptation steps that the acting policy had taken
    exploring: bool = False  # any action was drawn from the policy's distribution; otherwise its mean acted

    def __post_init__(self) -> None:
        """Raise ValueError where lengths contradict each other or a number is not finite."""
        steps = len(self.rewards)
        for name in ("actions_asked", "actions_sent", "flags", "policy_versions"):
            if len(getattr(self, name)) != steps:
                raise refuse(f"episode.{name}", f"{steps} rows", len(getattr(self, name)))
        for name in ("states", "stamps_s"):
            if len(getattr(self, name)) != steps + 1:
                raise refuse(f"episode.{name}", f"{steps + 1} rows", len(getattr(self, name)))
        for name in ("states", "goal", "actions_asked", "actions_sent", "rewards", "stamps_s"):
            if not np.isfinite(getattr(self, name)).all():
                raise refuse(f"episode.{name}", "finite numbers", "NaN or infinity")

    @property
    def steps(self) -> int:
        """Number of actions, T."""
        return len(self.rewards)

    @property
    def whole(self) -> NDArray[np.bool_]:
        """Which steps have no gap, so that something can be learned from them: (T,)."""
        return np.asarray((self.flags & StepFlag.GAP) == 0)

    @property
    def episode_return(self) -> float:
        """Sum of rewards."""
        return float(self.rewards.sum())


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What robot_interface shows the policy at the start of a step."""

    seq: int
    episode: int
    state: Vector  # (S,)
    goal: Vector  # (G,)
    first: bool


@dataclass(frozen=True, kw_only=True)
class Action:
    """The policy's answer to the observation of the same `seq`."""

    seq: int
    episode: int
    action: Vector  # (A,), as drawn: it may lie outside [-1, 1]
    policy_version: int = 0
    member: int = -1
    inner_steps: int = 0
    exploring: bool = False
    disagreement: float = 0.0  # the ensemble's, at the observation and this action
    slow_above: float = 0.0  # disagreement above which the arm slows
    hold_above: float = 0.0  # disagreement from which on it holds; 0 = there is no ensemble to ask
