"""A task over any Gymnasium environment: the state is what it shows, plus what has to be learned beside that.

State (S): the observation without its goal; then, where it is not known how to compute them, the reward (or the rest
of it) of the step that led here, and 1 where the episode ended here. The ensemble predicts the change of the first
part and the other two as they are. Observation (O): the environment's own. No feature is made for a task: the ensemble
sees observation and action, but cosine and sine in place of an angle that may turn for ever. After a predicted step
what the spaces say is restored: bounds, and cosine and sine of one angle on their circle.
"""

from functools import cached_property

import numpy as np
from array_api_compat import array_namespace, device

from mbrl_core.config import refuse
from mbrl_core.types import Array, Vector
from mbrl_sim.environment import Env, action_bounds
from mbrl_sim.known_environments import Known, known

REWARD_TOLERANCE = 1e-4  # of a known reward, relative; observations of 32 bits are not more exact


class GymTask:
    """Implements mbrl_core.tasks.task.Task; `xp` methods take numpy and torch arrays."""

    profile = None

    def __init__(self, env: Env, facts: Known | None = None, *, idle_rest: bool = False) -> None:
        """Take an environment.

        Args:
          env: of `open_environment`.
          facts: about it; those on record for its id if absent.
          idle_rest: states keep the part for a learned reward, though it is known: of models that predict it.
        """
        spec, space = env.spec, env.observation_space
        if spec is None or space.shape is None:
            raise refuse("env", "one of open_environment", env)
        self.name, self.steps = spec.id, int(spec.max_episode_steps or 0)
        self.known = known(spec.id) if facts is None else facts
        self.obs_dim = space.shape[0]
        self.goal_dim = self.known.goal[1] - self.known.goal[0]
        self._low, self._high = action_bounds(env)
        self.action_dim = len(self._low)
        self._core = self.obs_dim - self.goal_dim
        self._rest = int(self.known.learns_reward or idle_rest)
        self._end = int(self.known.terminates is None)
        self.state_dim = self.learned_dim = self._core + self._rest + self._end
        self.input_dim = self._core + len(self.known.angles) + self.action_dim
        self.obs_slices = {"observation": (0, self.obs_dim)}
        self._bounds = self._state_bounds(np.array(space.low, float), np.array(space.high, float))
        fps = env.metadata.get("render_fps")
        self.step_s = 1.0 / fps if fps else 1.0  # for stamps only; 1 where the environment has no clock

    def state_after(self, obs: Vector, action: Vector, next_obs: Vector, reward: float, terminated: bool) -> Vector:
        """State of a real step's end: (S,).

        Args:
          obs: (O,), before the step.
          action: (A,), in [-1, 1].
          next_obs: (O,).
          reward: the environment's.
          terminated: the environment's.

        Raises:
          ValueError: an observation has another shape than its space, a number is not finite, or the reward is not
            what is known of this environment.
        """
        if not np.isfinite(reward):
            raise refuse(f"{self.name}: reward", "a finite number", reward)
        rest = reward - float(self._known_reward(obs, action, next_obs))
        if not self.known.learns_reward and abs(rest) > REWARD_TOLERANCE * (1 + abs(reward)):
            raise refuse(f"{self.name}: reward", reward - rest, reward)
        extras = ([rest] if self._rest else []) + ([float(terminated)] if self._end else [])
        return np.concatenate([self.first_state(next_obs)[: self._core], extras])

    def first_state(self, obs: Vector) -> Vector:
        """State at the start of an episode, (O,) to (S,).

        Raises:
          ValueError: it has another shape than its space, or a number is not finite.
        """
        if np.shape(obs) != (self.obs_dim,):
            raise refuse(f"{self.name}: observation", f"shape ({self.obs_dim},), as its space says", np.shape(obs))
        if not np.isfinite(obs).all():
            raise refuse(f"{self.name}: observation", "finite numbers", np.asarray(obs).tolist())
        core = np.asarray(obs, dtype=np.float64) @ self._from_obs
        return np.concatenate([core, np.zeros(self._rest + self._end)])

    def goal(self, obs: Vector) -> Vector:
        """The goal that an observation shows: (O,) to (G,)."""
        return np.asarray(obs[slice(*self.known.goal)], dtype=np.float64)

    def env_action(self, action: Array) -> Array:
        """From [-1, 1] to the environment's bounds: (..., A) (xp)."""
        xp = array_namespace(action)
        low, high = (xp.asarray(end, dtype=action.dtype, device=device(action)) for end in (self._low, self._high))
        return low + (action + 1) * (0.5 * (high - low))

    def observe(self, state: Array, goal: Array) -> Array:
        """The environment's observation: (..., O) (xp)."""
        core = state[..., : self._core]
        if not self.goal_dim:
            return core
        return core @ _like(self._obs_of_core, core) + goal @ _like(self._obs_of_goal, core)

    def reward(self, state: Array, action: Array, next_state: Array, goal: Array) -> Array:
        """What is known of the reward, and what was learned of it: (...) (xp)."""
        reward = self._known_reward(self.observe(state, goal), action, self.observe(next_state, goal))
        return reward + next_state[..., self._core] if self.known.learns_reward else reward

    def terminates(self, state: Array, goal: Array) -> Array:
        """Whether the episode ends here, as known or as learned: (...) bool (xp)."""
        if self.known.terminates is None:
            return state[..., -1] > 0.5
        return self.known.terminates(self.observe(state, goal))

    def success(self, state: Array, goal: Array) -> Array:
        """Nowhere: environments know returns only: (...) bool (xp)."""
        return state[..., 0] != state[..., 0]

    def admissible(self, state: Array, action: Array) -> Array:
        """The action cut to [-1, 1]: (..., A) (xp)."""
        return array_namespace(action).clip(action, -1.0, 1.0)

    def model_input(self, state: Array, action: Array) -> Array:
        """Observation without its goal, action; cosine and sine in place of each unbounded angle: (..., I) (xp)."""
        xp = array_namespace(state)
        if not self._angles:
            return xp.concat([state[..., : self._core], action], axis=-1)
        plain = [entry for entry in range(self._core) if entry not in self._angles]
        angles = state[..., self._angles]
        return xp.concat([state[..., plain], xp.cos(angles), xp.sin(angles), action], axis=-1)

    def model_target(self, state: Array, next_state: Array) -> Array:
        """Change of the observed part; the rest as it is: (..., D) (xp)."""
        change = next_state[..., : self._core] - state[..., : self._core]
        return array_namespace(state).concat([change, next_state[..., self._core :]], axis=-1)

    def next_state(self, state: Array, action: Array, change: Array) -> Array:
        """Apply a prediction, within the observation's bounds: (..., S) (xp)."""
        xp = array_namespace(state)
        moved = state[..., : self._core] + change[..., : self._core]
        following = xp.concat([moved, change[..., self._core :]], axis=-1)
        if self._bounds is not None:
            low, high = (_like(bound, following) for bound in self._bounds)
            following = xp.clip(following, low, high)
        return self._on_circles(following)

    def sample_goal(self, rng: np.random.Generator, count: int) -> Vector:
        """Draw goals as the environment does: (count, G)."""
        if self.known.sample_goal is None:
            return np.zeros((count, 0))
        return self.known.sample_goal(rng, count)

    def _known_reward(self, obs: Array, action: Array, next_obs: Array) -> Array:
        if self.known.reward is None:
            return 0.0 * next_obs[..., 0]
        return self.known.reward(obs, self.env_action(action), next_obs)

    def _on_circles(self, state: Array) -> Array:
        """Cosine and sine scaled back to length 1."""
        xp = array_namespace(state)
        if not self.known.circles:
            return state
        columns = [state[..., index] for index in range(self.state_dim)]
        for pair in self._circles:
            length = xp.sqrt(sum(columns[index] ** 2 for index in pair) + 1e-12)
            for index in pair:
                columns[index] = columns[index] / length
        return xp.stack(columns, axis=-1)

    @cached_property
    def _kept(self) -> list[int]:
        """Entries of the observation that the state holds."""
        return [entry for entry in range(self.obs_dim) if not self.known.goal[0] <= entry < self.known.goal[1]]

    @cached_property
    def _circles(self) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(self._kept.index(entry) for entry in pair) for pair in self.known.circles)

    @cached_property
    def _angles(self) -> list[int]:
        """Entries of the state that are unbounded angles."""
        return [self._kept.index(entry) for entry in self.known.angles]

    @cached_property
    def _obs_of_core(self) -> Vector:
        """(core, O): obs = core @ this + goal @ _obs_of_goal."""
        return np.eye(self.obs_dim)[self._kept]

    @cached_property
    def _obs_of_goal(self) -> Vector:
        """(G, O)."""
        matrix = np.eye(self.obs_dim)[slice(*self.known.goal)]
        for entry, subtracted in self.known.relative:
            matrix[subtracted - self.known.goal[0], entry] = -1.0
        return matrix

    @cached_property
    def _from_obs(self) -> Vector:
        """(O, core): core = obs @ this."""
        matrix = self._obs_of_core.T.copy()
        for entry, subtracted in self.known.relative:
            matrix[subtracted, self._kept.index(entry)] = 1.0
        return matrix

    def _state_bounds(self, low: Vector, high: Vector) -> tuple[Vector, Vector] | None:
        """Bounds of the state, infinite where the observation has none; None where it has none at all."""
        free = [entry for entry, _ in self.known.relative]
        low[free], high[free] = -np.inf, np.inf
        if not (np.isfinite(low[self._kept]).any() or np.isfinite(high[self._kept]).any()):
            return None
        extras = np.full(self._rest + self._end, np.inf)
        return np.concatenate([low[self._kept], -extras]), np.concatenate([high[self._kept], extras])


def _like(array: Vector, other: Array) -> Array:
    return array_namespace(other).asarray(array, dtype=other.dtype, device=device(other))
