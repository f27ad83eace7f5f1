"""Reach: bring the tool tip to a goal in the workspace and keep it there. The same code for numpy and torch (xp).

State (S = 3J): joint angles, joint velocities, joint targets (rad, rad/s, rad). Goal (G = 3): a point, m, base frame.
The ensemble predicts the change of angles and velocities; targets follow from the action by `JointIncrement`.
"""

from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace

from mbrl_core.actions import JointIncrement
from mbrl_core.arm import ArmProfile
from mbrl_core.config import refuse, setting
from mbrl_core.kinematics import Chain
from mbrl_core.types import Array, Vector


@dataclass(frozen=True, kw_only=True)
class ReachConfig:
    """Goals, reward and success."""

    duration_s: float = setting(5.0, doc="length of an episode", unit="s", low=0.1)
    tolerance_m: float = setting(0.02, doc="success: distance at the end of the episode", unit="m", low=1e-4)
    distance_weight: float = setting(2.0, doc="reward lost per metre from the goal", unit="1/m", low=0)
    near_weight: float = setting(0.5, doc="reward for being at the goal", low=0)
    near_width_m: float = setting(0.04, doc="width of that bonus", unit="m", low=1e-4)
    effort_weight: float = setting(0.01, doc="reward lost per squared action", low=0)


class ReachTask:
    """The task; everything in it is known and nothing is learned."""

    name = "reach"

    def __init__(self, profile: ArmProfile, config: ReachConfig | None = None) -> None:
        """Build the task for an arm. Raises ValueError when no goal is within reach, or for a bad MJCF."""
        self.config = config or ReachConfig()
        self.profile = profile
        self.chain = Chain(profile)
        self.increment = JointIncrement(profile, self.chain)
        self.joints = len(profile.controlled)
        self.home = profile.vector("home_rad")[profile.controlled]
        self.state_dim, self.action_dim, self.goal_dim = 3 * self.joints, self.joints, 3
        self.obs_dim, self.learned_dim, self.input_dim = 3 * self.joints + 9, 2 * self.joints, 4 * self.joints
        self.steps = round(self.config.duration_s * profile.policy_hz)
        self.obs_slices = self._name_obs()
        self.sample_goal(np.random.default_rng(0), 1)  # refuse a box that the arm cannot reach before anything moves

    def state(self, position: Array, velocity: Array, target: Array) -> Array:
        """Join angles, velocities and targets of the controlled joints: (..., S) (xp)."""
        return array_namespace(position).concat([position, velocity, target], axis=-1)

    def tip(self, state: Array) -> Array:
        """Tool tip in m: (..., 3) (xp)."""
        return self.chain.tip(state[..., : self.joints])

    def observe(self, state: Array, goal: Array) -> Array:
        """What the policy sees: angles, velocities, tracking error, tip, goal, goal - tip: (..., O) (xp)."""
        xp = array_namespace(state)
        position, velocity, target = self._split(state)
        tip = self.chain.tip(position)
        return xp.concat([position, velocity, target - position, tip, goal, goal - tip], axis=-1)

    def distance(self, state: Array, goal: Array) -> Array:
        """Distance of the tip from the goal in m: (...) (xp)."""
        xp = array_namespace(state)
        error = self.tip(state) - goal
        return xp.sqrt(xp.sum(error * error, axis=-1) + 1e-12)

    def reward(self, state: Array, action: Array, next_state: Array, goal: Array) -> Array:
        """Reward of arriving at next_state by an action that was sent, from wherever: (...) (xp)."""
        return self.reward_of_distance(self.distance(next_state, goal), action)

    def reward_of_distance(self, distance: Array, action: Array) -> Array:
        """Reward of an action that was sent and led to a distance from the goal, (...) m: (...) (xp)."""
        xp, config = array_namespace(action), self.config
        near = xp.exp(-xp.square(xp.asarray(distance) / config.near_width_m))
        effort = xp.sum(action * action, axis=-1)
        return config.near_weight * near - config.distance_weight * distance - config.effort_weight * effort

    def success(self, state: Array, goal: Array) -> Array:
        """Whether the tip is within the tolerance: (...) bool (xp)."""
        return self.distance(state, goal) <= self.config.tolerance_m

    def terminates(self, state: Array, goal: Array) -> Array:
        """Nowhere: (...) bool (xp)."""
        return state[..., 0] != state[..., 0]

    def admissible(self, state: Array, action: Array) -> Array:
        """The action that the arm's limits let through: (..., A) (xp)."""
        target = state[..., 2 * self.joints :]
        return self.increment.action_between(target, self.increment.next_target(target, action))

    def model_input(self, state: Array, action: Array) -> Array:
        """What the ensemble sees: angles, velocities, tracking error, action sent: (..., I = 4J) (xp)."""
        position, velocity, target = self._split(state)
        return array_namespace(state).concat([position, velocity, target - position, action], axis=-1)

    def model_target(self, state: Array, next_state: Array) -> Array:
        """What the ensemble predicts: change of angles and velocities: (..., 2J) (xp)."""
        return next_state[..., : self.learned_dim] - state[..., : self.learned_dim]

    def next_state(self, state: Array, action: Array, change: Array) -> Array:
        """Apply a predicted change and the known move of the targets: (..., S) (xp)."""
        learned = state[..., : self.learned_dim] + change
        target = state[..., self.learned_dim :] + self.increment.scale_rad * action
        return array_namespace(state).concat([learned, target], axis=-1)

    def sample_goal(self, rng: np.random.Generator, count: int) -> Vector:
        """Draw reachable goals: tips of random joint angles that lie in the profile's goal box: (count, 3) m.

        Raises:
          ValueError: the box holds no reachable point.
        """
        low, high = np.array(self.profile.goal_low_m), np.array(self.profile.goal_high_m)
        goals: list[Vector] = []
        for _ in range(1000):
            joints = rng.uniform(self.increment.lower, self.increment.upper, (max(64, 16 * count), self.joints))
            tips = self.chain.tip(joints)
            goals += list(tips[((tips >= low) & (tips <= high)).all(axis=-1)])
            if len(goals) >= count:
                return np.array(goals[:count])
        raise refuse(f"{self.profile.name}.goal_low_m, goal_high_m", "a reachable box", (low.tolist(), high.tolist()))

    def _split(self, state: Array) -> tuple[Array, Array, Array]:
        joints = self.joints
        return state[..., :joints], state[..., joints : 2 * joints], state[..., 2 * joints :]

    def _name_obs(self) -> dict[str, tuple[int, int]]:
        widths = {"position": self.joints, "velocity": self.joints, "tracking_error": self.joints}
        widths |= {"tip": 3, "goal": 3, "goal_minus_tip": 3}
        ends = np.cumsum(list(widths.values()))
        return {name: (int(end - width), int(end)) for (name, width), end in zip(widths.items(), ends, strict=True)}
