"""A task so small that everything about it can be computed by hand: a point that two joints move in a plane."""

import math

import numpy as np
from array_api_compat import array_namespace

from mbrl_core.arm import ArmProfile, Bus, Joint
from mbrl_core.replay import Replay
from mbrl_core.types import Episode

STEP = 0.1  # change of the position at action 1


def point_profile() -> ArmProfile:
    """Two controlled joints; no MJCF is ever read."""
    joints = tuple(
        Joint(name=name, servo_id=index + 1, lower_rad=-1.0, upper_rad=1.0) for index, name in enumerate(("x", "y"))
    )
    return ArmProfile(
        name="point",
        mjcf="none.xml",
        tool_site="tool",
        bus=Bus(protocol="feetech_sts"),
        joints=joints,
        workspace_low_m=(-1.0, -1.0, -1.0),
        workspace_high_m=(1.0, 1.0, 1.0),
        goal_low_m=(-0.5, -0.5, 0.0),
        goal_high_m=(0.5, 0.5, 0.0),
    )


class PointTask:
    """State (2,) = position; the ensemble has to learn that it changes by STEP times the action."""

    name = "point"
    state_dim = action_dim = goal_dim = learned_dim = 2
    obs_dim = input_dim = 4
    steps = 20
    obs_slices = {"position": (0, 2), "goal_minus_position": (2, 4)}

    def __init__(self) -> None:
        self.profile = point_profile()

    def observe(self, state, goal):
        return array_namespace(state).concat([state, goal - state], axis=-1)

    def distance(self, state, goal):
        xp = array_namespace(state)
        return xp.sqrt(xp.sum((state - goal) ** 2, axis=-1) + 1e-12)

    def reward(self, state, action, next_state, goal):
        return -self.distance(next_state, goal)

    def terminates(self, state, goal):
        return state[..., 0] != state[..., 0]

    def success(self, state, goal):
        return self.distance(state, goal) < 0.1

    def admissible(self, state, action):
        return array_namespace(state).clip(action, -1.0, 1.0)

    def model_input(self, state, action):
        return array_namespace(state).concat([state, action], axis=-1)

    def model_target(self, state, next_state):
        return next_state - state

    def next_state(self, state, action, change):
        return state + change

    def sample_goal(self, rng, count):
        return rng.uniform(-0.5, 0.5, (count, 2))


def point_episode(rng, act=None, index: int = 0, noise: float = 0.001, goal=(0.3, -0.2), step: float = STEP) -> Episode:
    """One real episode; random actions unless `act(obs)` says otherwise, `step` is what action 1 does in this world."""
    task, goal = PointTask(), np.array(goal)
    states, actions = [np.zeros(2)], []
    for _ in range(task.steps):
        action = rng.uniform(-1, 1, 2) if act is None else np.clip(act(task.observe(states[-1], goal)), -1, 1)
        actions.append(action)
        states.append(states[-1] + step * action + noise * rng.standard_normal(2))
    distance = math.dist(states[-1], goal)
    return Episode(
        states=np.array(states),
        goal=goal,
        actions_asked=np.array(actions),
        actions_sent=np.array(actions),
        rewards=np.array([task.reward(None, None, state, goal) for state in states[1:]]),
        stamps_s=np.arange(task.steps + 1) * 0.05,
        flags=np.zeros(task.steps, dtype=np.uint8),
        policy_versions=np.zeros(task.steps, dtype=np.uint32),
        episode=index,
        arm="point",
        task="point",
        terminated=False,
        truncated=True,
        end_reason="time is up",
        success=distance < 0.1,
        final_distance_m=distance,
    )


def point_replay(count: int = 4, seed: int = 0) -> Replay:
    """A buffer of so many episodes of random actions."""
    buffer, rng = Replay(), np.random.default_rng(seed)
    for index in range(count):
        buffer.add(point_episode(rng, index=index))
    return buffer
