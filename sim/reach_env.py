"""Reach on the twin as a Gymnasium environment, with the timing and the measurements of the real control loop.

One step is one policy step: the command ramps from what was last sent to the step's target, bus cycle by bus cycle,
each through the safety function. Angles and speeds are what encoders report, in whole counts. No bus, no delay.
"""

import math
from typing import Any, Protocol

import gymnasium
import numpy as np

from mbrl_core.arm import ArmProfile
from mbrl_core.config import refuse
from mbrl_core.safety import Limits, Reason, Sent, limit
from mbrl_core.tasks.reach import ReachConfig, ReachTask
from mbrl_core.types import TIME_LIMIT, Episode, StepFlag, Vector
from mbrl_sim.perturbation import Perturbation
from mbrl_sim.physics import ArmPhysics
from mbrl_sim.self_collision import SelfCollision

SETTLE_S = 1.0


class Acts(Protocol):
    """Anything of `mbrl_core.actor`."""

    version: int

    def draw(self, obs: Vector, rng: np.random.Generator | None = None) -> Vector:
        """(O,) to (A,), before any limit."""


class ReachEnv(gymnasium.Env[Vector, Vector]):
    """Bring the tool tip to a goal. Info holds "state" (S,), "goal" (3,), "action_sent" (A,), "flags" and "success"."""

    metadata = {"render_modes": []}

    def __init__(
        self, profile: ArmProfile, config: ReachConfig | None = None, perturbation: Perturbation | None = None
    ) -> None:
        """Build arm and task; of a perturbed arm the reward is that of the tip where it truly is."""
        self.task = ReachTask(profile, config)
        self._profile, self._limits = profile, Limits.of(profile)
        self._physics, self._perturbed = ArmPhysics(profile, perturbation=perturbation), perturbation is not None
        self._clear = SelfCollision(profile)
        self._home, self._index = profile.vector("home_rad"), profile.controlled
        self._goal: Vector = np.zeros(3)
        self._sent = Sent.at_rest(self._home)
        self._steps = 0
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (self.task.action_dim,), np.float64)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (self.task.obs_dim,), np.float64)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Vector, dict[str, Any]]:
        """Put the arm at home, at rest; draw a goal, or take options["goal"], (3,) m."""
        super().reset(seed=seed)
        self._physics.reset(self._home)
        self._physics.advance(SETTLE_S)
        self._sent, self._steps = Sent.at_rest(self._home), 0
        given = (options or {}).get("goal")
        self._goal = self.task.sample_goal(self.np_random, 1)[0] if given is None else np.asarray(given, dtype=float)
        state = self._state()
        return np.asarray(self.task.observe(state, self._goal)), {"state": state, "goal": self._goal.copy()}

    def step(self, action: Vector) -> tuple[Vector, float, bool, bool, dict[str, Any]]:
        """Let one policy step pass.

        Raises:
          ValueError: the action has a wrong shape or is not finite.
        """
        action = np.asarray(action, dtype=float)
        if action.shape != self.action_space.shape or not np.isfinite(action).all():
            raise refuse("action", f"{self.action_space.shape}, finite", action)
        before = self._sent.position[self._index]
        reason = self._move(np.asarray(self.task.increment.next_target(before, action)))
        sent = self.task.increment.action_between(before, self._sent.position[self._index])
        state = self._state()
        self._steps += 1
        truncated = self._steps >= self.task.steps
        info = {
            "state": state,
            "goal": self._goal.copy(),
            "action_sent": sent,
            "flags": StepFlag.CLAMPED if reason else StepFlag(0),
            "success": self.distance() <= self.task.config.tolerance_m,
        }
        reward = float(self.task.reward_of_distance(self.distance(), sent))
        return np.asarray(self.task.observe(state, self._goal)), reward, False, truncated, info

    def distance(self) -> float:
        """Distance of the tip from the goal in m: as encoders and the profile's kinematics have it, or as it is."""
        if self._perturbed:
            return float(np.linalg.norm(self._physics.tip - self._goal))
        return float(self.task.distance(self._state(), self._goal))

    def _move(self, target: Vector) -> Reason:
        """Ramp to a target (J,) over the bus cycles of one policy step; return what was changed on the way."""
        reason, wanted = Reason.NONE, self._home.copy()
        wanted[self._index] = target
        ticks = self._profile.ticks_per_step
        for left in range(ticks, 0, -1):
            command = self._sent.position + (wanted - self._sent.position) / left
            self._sent = limit(command, self._sent, 1.0 / self._profile.bus_hz, self._limits, self._tip, self._clear)
            reason |= self._sent.reason
            self._physics.set_target(self._sent.position)
            self._physics.advance(1.0 / self._profile.bus_hz)
        return reason

    def _tip(self, joints: Vector) -> Vector:
        return np.asarray(self.task.chain.tip(joints[..., self._index]))

    def _state(self) -> Vector:
        count = 2 * math.pi / self._profile.bus.counts_per_turn
        position, velocity = (
            np.round(values[self._index] / count) * count for values in (self._physics.position, self._physics.velocity)
        )
        return np.asarray(self.task.state(position, velocity, self._sent.position[self._index]))


def run_episode(
    env: ReachEnv, actor: Acts, *, index: int = 0, goal: Vector | None = None, rng: np.random.Generator | None = None
) -> Episode:
    """Run one episode as it would be recorded on the robot.

    Args:
      env: the environment.
      actor: who acts.
      index: number of the episode.
      goal: (3,) m; drawn by the environment if absent.
      rng: for exploration; without one the actor is deterministic.
    """
    obs, info = env.reset(options=None if goal is None else {"goal": goal})
    states, rows, truncated = [info["state"]], [], False
    while not truncated:
        action = actor.draw(obs, rng)
        obs, reward, _, truncated, info = env.step(action)
        states.append(info["state"])
        rows.append((action, info["action_sent"], reward, int(info["flags"])))
    asked, sent, rewards, flags = (np.array(column) for column in zip(*rows, strict=True))
    return Episode(
        states=np.array(states),
        goal=np.array(info["goal"]),
        actions_asked=asked,
        actions_sent=sent,
        rewards=rewards,
        stamps_s=np.arange(len(states)) * env.task.profile.step_s,
        flags=flags.astype(np.uint8),
        policy_versions=np.full(len(rows), actor.version, dtype=np.uint32),
        episode=index,
        arm=env.task.profile.name,
        task=env.task.name,
        terminated=False,
        truncated=True,
        end_reason=TIME_LIMIT,
        success=info["success"],
        final_distance_m=env.distance(),
        exploring=rng is not None,
    )
