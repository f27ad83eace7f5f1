"""The control loop: reads the bus, runs episodes, interpolates actions, and sends only what the safety function passed.

Modes: inactive (reads only), holding, resetting (on the way home), moving (an episode), latched (holds until re-armed).
Nothing moves unless `start` was called, and then only while fresh actions answer the current observation: after
`command_timeout_s` without one, on the wall's monotonic clock, the arm brakes, holds and latches.
"""

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from mbrl_core.action_mailbox import ActionMailbox
from mbrl_core.config import refuse
from mbrl_core.control_config import ControlConfig, Counters, Mode
from mbrl_core.episode_recorder import EpisodeRecorder
from mbrl_core.robots.errors import RobotError
from mbrl_core.robots.reading import ArmReading
from mbrl_core.safety import Limits, Reason, Sent, approach, limit
from mbrl_core.tasks.reach import ReachTask
from mbrl_core.types import Action, Episode, Observation, StepFlag, Vector


class Arm(Protocol):
    """What the loop needs of a driver; the Feetech driver and the tests' wire-level fakes provide it."""

    def read(self) -> ArmReading:
        """Read all joints; raises RobotError."""

    def write(self, position: Vector) -> None:
        """Send target positions (J_all,) rad."""

    def enable_torque(self) -> None:
        """Hold where the arm is."""


@dataclass
class _Step:
    """The policy step under way."""

    tick: int = 0
    action: Action | None = None
    target: Vector | None = None  # (J,) rad, at the end of the step
    flags: StepFlag = field(default_factory=lambda: StepFlag(0))


class ControlLoop:
    """Owns the arm; runs in one thread of its own. Methods are for other threads unless they start with `_`."""

    def __init__(
        self,
        arm: Arm,
        task: ReachTask,
        config: ControlConfig,
        *,
        on_observation: Callable[[Observation], None],
        on_episode: Callable[[Episode], None],
        on_reading: Callable[[ArmReading], None] = lambda reading: None,
    ) -> None:
        """Prepare the loop; `run` starts it. The callbacks are called from the loop's thread and must be quick."""
        self._arm, self._task, self._config = arm, task, config
        self._on_observation, self._on_episode, self._on_reading = on_observation, on_episode, on_reading
        self._profile, self._limits = task.profile, Limits.of(task.profile)
        self._controlled = task.profile.controlled
        self._home = task.profile.vector("home_rad")
        self._tick_s = 1.0 / task.profile.bus_hz  # robot time
        self._rng = np.random.default_rng(config.seed)
        self._calls: queue.SimpleQueue[tuple[Callable[[], None], Future[None]]] = queue.SimpleQueue()
        self._closing = threading.Event()
        self.mailbox = ActionMailbox(task.action_dim)
        self.counters = Counters()
        self.mode, self.reason = Mode.INACTIVE, ""
        self._sent: Sent | None = None
        self._reading: ArmReading | None = None
        self._failed_in_a_row = 0
        self._gap = False
        self._seq = 0
        self._step = _Step()
        self._recorder: EpisodeRecorder | None = None
        self._goal = np.zeros(task.goal_dim)
        self._reset_began_s = self._home_since_s = self._reset_s = 0.0
        self._again = True
        self._act: dict[Mode, Callable[[ArmReading], Vector]] = {
            Mode.HOLDING: self._hold,
            Mode.LATCHED: self._hold,
            Mode.RESETTING: self._go_home,
            Mode.MOVING: self._follow_policy,
        }

    # ---- what others may ask; each is carried out between two cycles and raises what it refuses

    def activate(self) -> None:
        """Hold the arm where it is. Raises ValueError when it is found outside its limits (start-up guard)."""
        self._ask(self._activate)

    def deactivate(self) -> None:
        """End the episode under way, brake, and leave the servos holding."""
        self.stop()
        self._wait_for_rest()
        self._ask(self._deactivate)

    def start(self) -> None:
        """Begin episodes. Raises ValueError unless the arm is holding."""
        self._ask(lambda: self._begin_reset(again=True))

    def reset(self) -> None:
        """Go home and hold. Raises ValueError unless the arm is holding."""
        self._ask(lambda: self._begin_reset(again=False))

    def stop(self) -> None:
        """End the episode under way and hold."""
        self._ask(lambda: self._stop_moving("stopped"))

    def rearm(self) -> None:
        """Release the latch; the arm goes on holding. Raises ValueError when nothing is latched."""
        self._ask(self._rearm)

    def close(self) -> None:
        """Make `run` return after the cycle under way; the arm keeps holding its last target."""
        self._closing.set()

    def _wait_for_rest(self) -> None:
        for _ in range(50):
            if self._sent is None or not self._sent.velocity.any():
                return
            time.sleep(self._tick_s / self._config.speed)

    def _ask(self, call: Callable[[], None]) -> None:
        answer: Future[None] = Future()
        self._calls.put((call, answer))
        answer.result(timeout=5.0)

    # ---- the loop

    def run(self) -> None:
        """Run cycles at the bus rate until `close`; an unexpected error latches and is raised at the end."""
        due_s = time.monotonic()
        period_s = self._tick_s / self._config.speed
        while not self._closing.is_set():
            due_s = self._wait_until(due_s + period_s, period_s)
            self._cycle()
        self._finish_episode("shut down")

    def _wait_until(self, due_s: float, period_s: float) -> float:
        wait_s = due_s - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
            return due_s
        self.counters.cycle_late_max_s = max(self.counters.cycle_late_max_s, -wait_s)
        if -wait_s > period_s:  # never catch up with a burst of commands
            self.counters.missed_cycles += int(-wait_s / period_s)
            return time.monotonic()
        return due_s

    def _cycle(self) -> None:
        self.counters.cycles += 1
        self._serve_calls()
        reading = self._read()
        if self.mode is Mode.INACTIVE or self._sent is None:
            return
        self._gap = reading is None
        if reading is None:
            self._step.flags |= StepFlag.GAP
            if self._failed_in_a_row >= self._config.max_bus_errors:
                self._latch(self.reason or "bus: no reading")
            reading = self._reading
        if reading is not None:
            self._send(self._act[self.mode](reading))

    def _serve_calls(self) -> None:
        while not self._calls.empty():
            call, answer = self._calls.get()
            try:
                call()
            except (ValueError, RobotError) as error:
                answer.set_exception(error)
            else:
                answer.set_result(None)

    def _read(self) -> ArmReading | None:
        try:
            self._reading = self._arm.read()
        except RobotError as error:
            self._bus_error(error)
            return None
        self._failed_in_a_row = 0
        self._on_reading(self._reading)
        return self._reading

    def _send(self, command: Vector) -> None:
        """Last before the wire: nothing is written that the safety function has not returned."""
        if self._sent is None:
            return
        self._sent = limit(command, self._sent, self._tick_s, self._limits, self._tip)
        if self._sent.reason & Reason.NOT_FINITE:
            self._latch("command: expected finite joint targets, got NaN or infinity")
        try:
            self._arm.write(self._sent.position)
        except RobotError as error:
            self._bus_error(error)

    def _bus_error(self, error: RobotError) -> None:
        self.counters.bus_errors += 1
        self._failed_in_a_row += 1
        if self.mode is not Mode.LATCHED:
            self.reason = f"bus: {error}"

    def _tip(self, joints: Vector) -> Vector:
        return np.asarray(self._task.chain.tip(joints[self._controlled]))

    # ---- modes

    def _hold(self, reading: ArmReading) -> Vector:
        del reading
        return self._sent.position if self._sent else self._home

    def _go_home(self, reading: ArmReading) -> Vector:
        sent = self._sent or Sent.at_rest(reading.position)
        now_s = self._robot_time(reading)
        at_home = (
            np.abs(sent.position - self._home).max() < 1e-6
            and np.abs(reading.position - self._home).max() < self._config.reset_tolerance_rad
        )
        if not at_home:
            self._home_since_s = now_s
        if now_s - self._reset_began_s > self._config.reset_timeout_s:
            worst = int(np.abs(reading.position - self._home).argmax())
            joint = self._profile.joints[worst]
            self._latch(f"reset: {joint.name}: expected {joint.home_rad} rad, got {reading.position[worst]:.3f} rad")
        elif now_s - self._home_since_s >= self._config.settle_s:
            if not self._again:
                self._set(Mode.HOLDING, "home")
                return sent.position
            self._begin_episode(reading)
            return self._follow_policy(reading)
        return approach(self._home, sent, self._tick_s, self._limits)

    def _follow_policy(self, reading: ArmReading) -> Vector:
        if self._sent is None or self._recorder is None:
            return self._hold(reading)
        if self._step.tick == self._profile.ticks_per_step:
            self._close_step(reading)
            if self.mode is not Mode.MOVING:
                return self._hold(reading)
        if self._step.tick == 0:
            self._step.flags |= StepFlag.GAP if self._gap else StepFlag(0)
            self._show(reading)
        self._take_action(self._sent.position[self._controlled])
        left = self._profile.ticks_per_step - self._step.tick
        self._step.tick += 1
        command: Vector = self._sent.position.copy()
        if self._step.target is not None:
            command[self._controlled] += (self._step.target - command[self._controlled]) / left
        elif self.mailbox.silent_s() > self._config.command_timeout_s:
            self.counters.watchdog_trips += 1
            self._latch(f"watchdog: no fresh action for {self._config.command_timeout_s} s")
        return command

    def _show(self, reading: ArmReading) -> None:
        """Publish the observation of a new step and give the policy half a cycle to answer it."""
        self._seq += 1
        recorder = self._recorder
        first = recorder is not None and recorder.steps == 0
        self.mailbox.expect(self._seq, self.counters.episodes, restart=first)
        self._on_observation(
            Observation(
                seq=self._seq,
                episode=self.counters.episodes,
                state=self._state(reading),
                goal=self._goal,
                first=first,
            )
        )
        self.mailbox.wait(0.5 * self._tick_s / self._config.speed)

    def _take_action(self, target: Vector) -> None:
        if self._step.action is not None:
            return
        self._step.action = self.mailbox.take()
        if self._step.action is None:
            return
        self._step.target = self._task.increment.next_target(target, self._step.action.action)
        if self._step.tick > 0:
            self._step.flags |= StepFlag.LATE
            self.counters.late += 1

    def _close_step(self, reading: ArmReading) -> None:
        step, self._step = self._step, _Step()
        if self._recorder is None:
            return
        if step.action is None:
            step.flags |= StepFlag.GAP
        self._recorder.add(step.action, step.flags, self._state(reading), self._robot_time(reading))
        self.counters.real_steps += 1
        budget = self._config.max_steps
        if self._recorder.steps == self._task.steps:
            self._end_episode("time limit", reading)
        elif budget and self.counters.real_steps >= budget:
            self._end_episode("step budget", reading)

    # ---- transitions between modes

    def _begin_episode(self, reading: ArmReading) -> None:
        self._goal = self._task.sample_goal(self._rng, 1)[0]
        self._step = _Step()
        now_s = self._robot_time(reading)
        self._reset_s = now_s - self._reset_began_s
        self._recorder = EpisodeRecorder(
            self._task, episode=self.counters.episodes, goal=self._goal, state=self._state(reading), stamp_s=now_s
        )
        self._set(Mode.MOVING, "")

    def _end_episode(self, reason: str, reading: ArmReading) -> None:
        self._finish_episode(reason)
        steps, episodes = self.counters.real_steps, self.counters.episodes
        spent = (0 < self._config.max_steps <= steps) or (0 < self._config.episodes <= episodes)
        if spent:
            self._set(Mode.HOLDING, f"budget used: {steps} steps, {episodes} episodes")
        else:
            self._reset_began_s = self._home_since_s = self._robot_time(reading)
            self._set(Mode.RESETTING, "")

    def _finish_episode(self, reason: str) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is None:
            return
        self.counters.episodes += 1
        if recorder.steps:
            episode = recorder.finish(reason, reset_s=self._reset_s)
            self.counters.clamped += int((episode.flags & StepFlag.CLAMPED > 0).sum())
            self._on_episode(episode)

    def _begin_reset(self, *, again: bool) -> None:
        if self.mode is not Mode.HOLDING or self._reading is None:
            raise refuse("start", "a holding arm", f"{self.mode.value}: {self.reason}")
        self._again = again
        self._reset_began_s = self._home_since_s = self._robot_time(self._reading)
        self._set(Mode.RESETTING, "")

    def _stop_moving(self, reason: str) -> None:
        self._finish_episode(reason)
        if self.mode in (Mode.MOVING, Mode.RESETTING):
            self._set(Mode.HOLDING, reason)

    def _activate(self) -> None:
        if self.mode is not Mode.INACTIVE:
            return
        reading = self._arm.read()
        self._guard_startup(reading)
        self._arm.enable_torque()
        self._sent = Sent.at_rest(reading.position)
        self._set(Mode.HOLDING, "activated")

    def _guard_startup(self, reading: ArmReading) -> None:
        margin = self._config.startup_margin_rad
        for joint, angle in zip(self._profile.joints, reading.position, strict=True):
            if not joint.lower_rad - margin <= angle <= joint.upper_rad + margin:
                expected = f"{joint.lower_rad - margin:.3f} to {joint.upper_rad + margin:.3f} rad at start"
                raise refuse(joint.name, expected, round(float(angle), 3))

    def _deactivate(self) -> None:
        self._stop_moving("deactivated")
        if self.mode is not Mode.LATCHED:
            self._set(Mode.INACTIVE, "deactivated")

    def _rearm(self) -> None:
        if self.mode is not Mode.LATCHED:
            raise refuse("rearm", "a latched arm", self.mode.value)
        self._failed_in_a_row = 0
        self._set(Mode.HOLDING, "re-armed")

    def _latch(self, reason: str) -> None:
        if self.mode is not Mode.LATCHED:
            self._set(Mode.LATCHED, reason)
            self._finish_episode(reason)

    def _set(self, mode: Mode, reason: str) -> None:
        self.mode, self.reason = mode, reason

    def _state(self, reading: ArmReading) -> Vector:
        index = self._controlled
        target = reading.position if self._sent is None else self._sent.position
        return np.asarray(self._task.state(reading.position[index], reading.velocity[index], target[index]))

    def _robot_time(self, reading: ArmReading) -> float:
        return reading.stamp_s * self._config.speed
