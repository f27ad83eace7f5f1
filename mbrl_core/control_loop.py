"""The control loop: reads the bus, runs episodes, interpolates actions, and sends only what the safety function passed.

Modes: inactive (reads only), holding, resetting (on the way home), moving (an episode), latched (holds until re-armed).
Nothing moves unless `start` was called, and then only while fresh actions answer the current observation: after
`command_timeout_s` without one, on the wall's monotonic clock, the arm brakes, holds and latches.
"""

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future

import numpy as np

from mbrl_core.action_mailbox import ActionMailbox
from mbrl_core.config import refuse
from mbrl_core.control_config import ControlConfig, Counters, Mode
from mbrl_core.disagreement_gate import share_allowed
from mbrl_core.episode_recorder import EpisodeRecorder
from mbrl_core.guarded_arm import GuardedArm
from mbrl_core.kinematics import Chain
from mbrl_core.policy_step import PolicyStep
from mbrl_core.robots.errors import NotConnected, RobotError
from mbrl_core.robots.reading import ArmReading
from mbrl_core.robots.robot import Robot
from mbrl_core.safety import Clear, Limits, Reason, approach
from mbrl_core.tasks.reach import ReachTask
from mbrl_core.types import TIME_LIMIT, Action, Episode, Observation, StepFlag, Vector

ANSWER_S = 5.0  # wall time that the loop has to carry out what it was asked
SHORTEST_CYCLE = 0.8  # of a period: a loop that is late catches up no faster, and never with a burst of commands


class ControlLoop:
    """Owns the arm; runs in one thread of its own. Methods are for other threads unless they start with `_`."""

    def __init__(
        self,
        arm: Robot,
        task: ReachTask,
        config: ControlConfig,
        *,
        on_observation: Callable[[Observation], None],
        on_episode: Callable[[Episode], None],
        on_reading: Callable[[ArmReading], None] = lambda reading: None,
        clear: Clear | None = None,
    ) -> None:
        """Prepare the loop; `run` starts it. Callbacks and `clear` (of `safety.limit`) run in its thread: be quick."""
        self._task, self._config = task, config
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
        self._arm = GuardedArm(arm, task.profile, config, self.counters, Chain(task.profile, whole=True).tip, clear)
        self.mode, self.reason = Mode.INACTIVE, ""
        self._latched = ""  # why; kept through deactivation
        self._seq = 0
        self._step = PolicyStep()
        self._recorder: EpisodeRecorder | None = None
        self._goal = np.zeros(task.goal_dim)
        self._reset_began_s = self._home_since_s = self._reset_s = 0.0
        self._again = True
        self._command: dict[Mode, Callable[[ArmReading], Vector]] = {
            Mode.HOLDING: self._hold,
            Mode.BRAKING: self._hold,
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
        self._ask(self._begin_deactivate)
        slowest_s = float((self._limits.velocity / self._limits.acceleration).max()) / self._config.speed
        end_s = time.monotonic() + slowest_s + ANSWER_S
        while self.mode is Mode.BRAKING and time.monotonic() < end_s:
            time.sleep(0.002)

    def start(self) -> None:
        """Begin episodes. Raises ValueError unless the arm is holding and budget is left."""
        self._ask(lambda: self._begin_reset(again=True))

    def reset(self) -> None:
        """Go home and hold. Raises ValueError unless the arm is holding."""
        self._ask(lambda: self._begin_reset(again=False))

    def stop(self) -> None:
        """End the episode under way and hold."""
        self._ask(lambda: self._stop_moving("stopped"))

    def rearm(self) -> None:
        """Release the latch and hold where the arm is now.

        Raises:
          ValueError: nothing is latched, or the arm is outside its limits (start-up guard).
          RobotError: the arm does not answer; it stays latched.
        """
        self._ask(self._rearm)

    def close(self) -> None:
        """Make `run` return after the cycle under way; the arm keeps holding its last target."""
        self._closing.set()

    def _ask(self, call: Callable[[], None]) -> None:
        """Have the loop carry out a call; one that is not begun in time is taken back."""
        answer: Future[None] = Future()
        self._calls.put((call, answer))
        try:
            answer.result(timeout=ANSWER_S)
        except (TimeoutError, CancelledError) as error:
            answer.cancel()
            raise NotConnected(f"control loop: expected an answer within {ANSWER_S} s, got none") from error

    # ---- the loop

    def run(self) -> None:
        """Run cycles at the bus rate until `close`; an unexpected error brakes, latches and is raised."""
        period_s = self._tick_s / self._config.speed
        began_s = due_s = time.monotonic()
        try:
            while not self._closing.is_set():
                due_s = self._wait(max(due_s + period_s, began_s + SHORTEST_CYCLE * period_s), period_s)
                began_s = time.monotonic()
                self._cycle()
        except Exception as error:
            self._brake(period_s)
            self._latch(f"control loop: {type(error).__name__}: {error}")
            raise
        finally:
            self._finish_episode("shut down")

    def _wait(self, due_s: float, period_s: float) -> float:
        """Sleep until a cycle is due; returns when it was due, or now when more than a whole cycle was missed."""
        wait_s = due_s - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
            return due_s
        self.counters.cycle_late_max_s = max(self.counters.cycle_late_max_s, -wait_s)
        if -wait_s > period_s:
            self.counters.missed_cycles += int(-wait_s / period_s)
            return time.monotonic()
        return due_s

    def _cycle(self) -> None:
        self.counters.cycles += 1
        self._serve_calls()
        reading = self._arm.read()
        if reading is not None:
            self._on_reading(reading)
        if self.mode is Mode.INACTIVE:
            return
        if self._arm.lost or self._arm.complaint:
            self._latch(self._arm.complaint or self._arm.problem)
        if reading is None:
            self._arm.pause()
            self._step.flags |= StepFlag.GAP
        else:
            self._send(self._command[self.mode](reading))
        if self.mode is Mode.BRAKING and self._is_at_rest():
            self._set(Mode.INACTIVE, "deactivated")

    def _serve_calls(self) -> None:
        while not self._calls.empty():
            call, answer = self._calls.get()
            if not answer.set_running_or_notify_cancel():
                continue
            try:
                call()
            except (ValueError, RobotError) as error:
                answer.set_exception(error)
            else:
                answer.set_result(None)

    def _send(self, command: Vector) -> None:
        if not self._arm.send(command):
            self._step.flags |= StepFlag.GAP
        elif self._arm.sent is not None and self._arm.sent.reason & Reason.NOT_FINITE:
            self._latch("command: expected finite joint targets, got NaN or infinity")

    def _brake(self, period_s: float) -> None:
        """Come to rest without reading: for the way out after an error."""
        while not self._is_at_rest() and self._arm.send(self._position()):
            time.sleep(period_s)

    def _is_at_rest(self) -> bool:
        return self._arm.sent is None or self._arm.lost or not self._arm.sent.velocity.any()

    def _position(self) -> Vector:
        """Where the arm was last told to be: (J_all,) rad."""
        return self._home if self._arm.sent is None else self._arm.sent.position

    # ---- modes

    def _hold(self, reading: ArmReading) -> Vector:
        del reading
        return self._position()

    def _go_home(self, reading: ArmReading) -> Vector:
        now_s = self._robot_time(reading)
        at_home = (
            np.abs(self._position() - self._home).max() < 1e-6
            and np.abs(reading.position - self._home).max() < self._config.reset_tolerance_rad
        )
        if not at_home:
            self._home_since_s = now_s
        if now_s - self._reset_began_s > self._config.reset_timeout_s:
            worst = int(np.abs(reading.position - self._home).argmax())
            joint = self._profile.joints[worst]
            self._latch(f"reset: {joint.name}: expected {joint.home_rad} rad, got {reading.position[worst]:.3f} rad")
            return self._position()
        if now_s - self._home_since_s < self._config.settle_s:
            return self._toward_home()
        if not self._again:
            self._set(Mode.HOLDING, "home")
            return self._position()
        self._begin_episode(reading)
        return self._follow_policy(reading)

    def _toward_home(self) -> Vector:
        if self._arm.sent is None:
            return self._home
        return approach(self._home, self._arm.sent, self._tick_s, self._limits)

    def _follow_policy(self, reading: ArmReading) -> Vector:
        if self._step.tick == self._profile.ticks_per_step:
            self._close_step(reading)
            if self.mode is not Mode.MOVING:
                return self._hold(reading)
        if self._step.tick == 0:
            self._show(reading)
        command: Vector = self._position().copy()
        self._take_action(command[self._controlled])
        left = self._profile.ticks_per_step - self._step.tick
        self._step.tick += 1
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
        self._step.action = action = self.mailbox.take()
        if action is None:
            return
        self._step.share = self._allow(action)
        asked = self._step.share * np.clip(action.action, -1.0, 1.0)  # cut first: half of a drawn 3 must not stay 1
        self._step.target = self._task.increment.next_target(target, asked)
        if self._step.tick > 0:
            self._step.flags |= StepFlag.LATE
            self.counters.late += 1

    def _allow(self, action: Action) -> float:
        """Ask the disagreement gate, count what it answers and say why."""
        share = share_allowed(action.disagreement, action.slow_above, action.hold_above)
        self.counters.slowed += share < 1.0
        self.counters.held += share == 0.0
        bounds = f"slows above {action.slow_above:g}, holds from {action.hold_above:g}"
        self.reason = "" if share == 1.0 else f"disagreement {action.disagreement:g}: {bounds}"
        return share

    def _close_step(self, reading: ArmReading) -> None:
        step, self._step = self._step, PolicyStep()
        if self._recorder is None:
            return
        if step.action is None:
            step.flags |= StepFlag.GAP
        state, stamp_s = self._state(reading), self._robot_time(reading)
        self._recorder.add(step.action, step.flags, state, stamp_s, share=step.share)
        self.counters.real_steps += 1
        budget = self._config.max_steps
        if self._recorder.steps == self._task.steps:
            self._end_episode(TIME_LIMIT, reading)
        elif budget and self.counters.real_steps >= budget:
            self._end_episode("step budget", reading)

    # ---- transitions between modes

    def _begin_episode(self, reading: ArmReading) -> None:
        self._goal = self._task.sample_goal(self._rng, 1)[0]
        self._step = PolicyStep()
        now_s = self._robot_time(reading)
        self._reset_s = now_s - self._reset_began_s
        self._recorder = EpisodeRecorder(
            self._task, episode=self.counters.episodes, goal=self._goal, state=self._state(reading), stamp_s=now_s
        )
        self._set(Mode.MOVING, "")

    def _end_episode(self, reason: str, reading: ArmReading) -> None:
        self._finish_episode(reason)
        if self._is_spent():
            self._set(Mode.HOLDING, self._spent())
        else:
            self._reset_began_s = self._home_since_s = self._robot_time(reading)
            self._set(Mode.RESETTING, "")

    def _is_spent(self) -> bool:
        steps, episodes = self.counters.real_steps, self.counters.episodes
        return (0 < self._config.max_steps <= steps) or (0 < self._config.episodes <= episodes)

    def _spent(self) -> str:
        return f"budget used: {self.counters.real_steps} steps, {self.counters.episodes} episodes"

    def _finish_episode(self, reason: str) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is None or recorder.steps == 0:
            return
        self.counters.episodes += 1
        episode = recorder.finish(reason, reset_s=self._reset_s)
        self.counters.clamped += int((episode.flags & StepFlag.CLAMPED > 0).sum())
        self._on_episode(episode)

    def _begin_reset(self, *, again: bool) -> None:
        if self.mode is not Mode.HOLDING or self._arm.reading is None:
            raise refuse("start", "a holding arm", f"{self.mode.value}: {self.reason}")
        if again and self._is_spent():
            raise refuse("start", "budget left (max_steps, episodes)", self._spent())
        self._again = again
        self._reset_began_s = self._home_since_s = self._robot_time(self._arm.reading)
        self._set(Mode.RESETTING, "")

    def _stop_moving(self, reason: str) -> None:
        self._finish_episode(reason)
        if self.mode in (Mode.MOVING, Mode.RESETTING):
            self._set(Mode.HOLDING, reason)

    def _activate(self) -> None:
        if self.mode is not Mode.INACTIVE:
            raise refuse("activate", "an inactive arm", self.mode.value)
        self._arm.engage()
        self._set(*((Mode.LATCHED, self._latched) if self._latched else (Mode.HOLDING, "activated")))

    def _begin_deactivate(self) -> None:
        self._stop_moving("deactivated")
        if self.mode is not Mode.INACTIVE:
            self._set(Mode.BRAKING, "deactivating")

    def _rearm(self) -> None:
        if self.mode is not Mode.LATCHED:
            raise refuse("rearm", "a latched arm", self.mode.value)
        self._arm.engage()
        self._latched = ""
        self._set(Mode.HOLDING, "re-armed")

    def _latch(self, reason: str) -> None:
        if not self._latched:
            self._latched = reason
            self._finish_episode(reason)
        if self.mode is not Mode.BRAKING:
            self._set(Mode.LATCHED, self._latched)

    def _set(self, mode: Mode, reason: str) -> None:
        self.mode, self.reason = mode, reason

    def _state(self, reading: ArmReading) -> Vector:
        index = self._controlled
        target = self._position()[index]
        return np.asarray(self._task.state(reading.position[index], reading.velocity[index], target))

    def _robot_time(self, reading: ArmReading) -> float:
        return reading.stamp_s * self._config.speed
