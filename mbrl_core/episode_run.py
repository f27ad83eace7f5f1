"""Episodes, step by step: shows observations, follows their answers in straight lines, records what came of them."""

from collections.abc import Callable

import numpy as np

from mbrl_core.action_mailbox import ActionMailbox
from mbrl_core.control_config import ControlConfig, Counters
from mbrl_core.disagreement_gate import share_allowed
from mbrl_core.episode_recorder import EpisodeRecorder
from mbrl_core.policy_step import PolicyStep
from mbrl_core.robots.reading import ArmReading
from mbrl_core.tasks.reach import ReachTask
from mbrl_core.types import STEP_BUDGET, TIME_LIMIT, Action, Episode, Observation, StepFlag, Vector


class EpisodeRun:
    """The episode under way, and the budget of all. Belongs to the control loop's thread.

    Attributes:
      fault: why the arm must stop: a silent policy, or two that fight.
      reason: why the last action was made smaller; empty where it was not.
    """

    def __init__(
        self,
        task: ReachTask,
        config: ControlConfig,
        counters: Counters,
        mailbox: ActionMailbox,
        *,
        on_observation: Callable[[Observation], None],
        on_episode: Callable[[Episode], None],
    ) -> None:
        """Prepare; the callbacks must be quick."""
        self._task, self._config, self._counters, self._mailbox = task, config, counters, mailbox
        self._on_observation, self._on_episode = on_observation, on_episode
        self._controlled = task.profile.controlled
        self._tick_s = 1.0 / task.profile.bus_hz  # robot time
        self._rng = np.random.default_rng(config.seed)
        self._seq = 0
        self._step = PolicyStep()
        self._recorder: EpisodeRecorder | None = None
        self._goal = np.zeros(task.goal_dim)
        self._reset_s = 0.0
        self.fault = self.reason = ""

    @property
    def spent(self) -> str:
        """How the budget was used up; empty while some is left."""
        steps, episodes = self._counters.real_steps, self._counters.episodes
        if (0 < self._config.max_steps <= steps) or (0 < self._config.episodes <= episodes):
            return f"budget used: {steps} steps, {episodes} episodes"
        return ""

    def begin(self, reading: ArmReading, position: Vector, reset_s: float) -> None:
        """Begin an episode with a goal of its own; `position` as in `follow`."""
        self._goal = self._task.sample_goal(self._rng, 1)[0]
        self._step, self._reset_s, self.fault = PolicyStep(), reset_s, ""
        self._recorder = EpisodeRecorder(
            self._task,
            episode=self._counters.episodes,
            goal=self._goal,
            state=self._state(reading, position),
            stamp_s=self._robot_time(reading),
        )

    def mark_gap(self) -> None:
        """Note that this cycle had no reading, or that its command did not leave."""
        self._step.flags |= StepFlag.GAP

    def close_step(self, reading: ArmReading, position: Vector) -> str:
        """Record the step under way if it is over; returns why the episode ends with it, if it does."""
        if self._step.tick < self._task.profile.ticks_per_step or self._recorder is None:
            return ""
        step, self._step = self._step, PolicyStep()
        if step.action is None:
            step.flags |= StepFlag.GAP
        state = self._state(reading, position)
        self._recorder.add(step.action, step.flags, state, self._robot_time(reading), share=step.share)
        self._counters.real_steps += 1
        if self._recorder.steps == self._task.steps:
            return TIME_LIMIT
        return STEP_BUDGET if 0 < self._config.max_steps <= self._counters.real_steps else ""

    def follow(self, reading: ArmReading, position: Vector, most: float) -> Vector:
        """Return the next point of the way to the step's target.

        Args:
          reading: this cycle's.
          position: (J_all,) rad, where the arm was last told to be.
          most: share of an action that the arm has the strength for, in [0, 1]; less where its servos are warm.

        Returns:
          (J_all,) rad; `position` while no action came.
        """
        if self._step.tick == 0:
            self._show(reading, position)
        command: Vector = position.copy()
        self._take_action(command[self._controlled], most)
        left = self._task.profile.ticks_per_step - self._step.tick
        self._step.tick += 1
        if self._step.target is not None:
            command[self._controlled] += (self._step.target - command[self._controlled]) / left
        elif self._mailbox.silent_s() > self._config.command_timeout_s:
            self._counters.watchdog_trips += 1
            self.fault = f"watchdog: no fresh action for {self._config.command_timeout_s} s"
        return command

    def finish(self, reason: str) -> None:
        """End the episode under way, if there is one, and hand it over."""
        recorder, self._recorder = self._recorder, None
        if recorder is None or recorder.steps == 0:
            return
        self._counters.episodes += 1
        episode = recorder.finish(reason, reset_s=self._reset_s)
        self._counters.clamped += int((episode.flags & StepFlag.CLAMPED > 0).sum())
        self._on_episode(episode)

    def _show(self, reading: ArmReading, position: Vector) -> None:
        """Publish the observation of a new step and give the policy half a cycle to answer it."""
        self._seq += 1
        first = self._recorder is not None and self._recorder.steps == 0
        self._mailbox.expect(self._seq, self._counters.episodes, restart=first)
        self._on_observation(
            Observation(
                seq=self._seq,
                episode=self._counters.episodes,
                state=self._state(reading, position),
                goal=self._goal,
                first=first,
            )
        )
        self._mailbox.wait(0.5 * self._tick_s / self._config.speed)

    def _take_action(self, target: Vector, most: float) -> None:
        if self._step.action is not None:
            return
        self._step.action = action = self._mailbox.take()
        if action is None:
            return
        self._step.share = self._allow(action, most)
        asked = self._step.share * np.clip(action.action, -1.0, 1.0)  # cut first: half of a drawn 3 must not stay 1
        self._step.target = self._task.increment.next_target(target, asked)
        if self._step.tick > 0:
            self._step.flags |= StepFlag.LATE
            self._counters.late += 1

    def _allow(self, action: Action, most: float) -> float:
        """Ask the disagreement gate, count what it answers and say why; warm servos may leave less than it does."""
        share = share_allowed(action.disagreement, action.slow_above, action.hold_above)
        self._counters.slowed += share < 1.0
        self._counters.held += share == 0.0
        bounds = f"slows above {action.slow_above:g}, holds from {action.hold_above:g}"
        self.reason = "" if share == 1.0 else f"disagreement {action.disagreement:g}: {bounds}"
        if most < share:
            self.reason = f"warm servos: {100 * most:.0f} % of the speed"
        return min(share, most)

    def _state(self, reading: ArmReading, position: Vector) -> Vector:
        index = self._controlled
        return np.asarray(self._task.state(reading.position[index], reading.velocity[index], position[index]))

    def _robot_time(self, reading: ArmReading) -> float:
        return reading.stamp_s * self._config.speed
