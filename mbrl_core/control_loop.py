"""The control loop: reads the bus, runs episodes, supervises, and sends only what the safety function passed.

Modes: inactive (reads only), holding, resetting (on the way home), moving (an episode), parking (on the way to rest),
braking (on deactivation), latched (holds until re-armed). Nothing moves unless it was asked to, and in an episode only
while fresh actions answer the current observation: after `command_timeout_s` without one, on the wall's monotonic
clock, the arm brakes, holds and latches.
"""

import threading
import time
from collections.abc import Callable

import numpy as np

from mbrl_core.action_mailbox import ActionMailbox
from mbrl_core.call_queue import ANSWER_S, CallQueue
from mbrl_core.config import refuse
from mbrl_core.control_config import ControlConfig, Counters, Mode
from mbrl_core.emergency_stop import EmergencyStop
from mbrl_core.episode_run import EpisodeRun
from mbrl_core.guarded_arm import GuardedArm
from mbrl_core.homing import Homing
from mbrl_core.kinematics import Chain
from mbrl_core.robots.errors import RobotError
from mbrl_core.robots.reading import ArmReading
from mbrl_core.robots.realtime import settle_memory
from mbrl_core.robots.robot import Robot
from mbrl_core.safety import Clear, Limits, Reason, approach
from mbrl_core.tasks.reach import ReachTask
from mbrl_core.types import Episode, Observation, Vector

SHORTEST_CYCLE = 0.8  # of a period: a loop that is late catches up no faster, and never with a burst of commands
RESTING_CYCLES = 3  # without a goal, after which servos have come to rest where the last one was
PARK_SHARE = 0.5  # of the speed limits: nobody expects this motion


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
        emergency_stop: EmergencyStop | None = None,
        clear: Clear | None = None,
    ) -> None:
        """Prepare the loop; `run` starts it. Callbacks and `clear` (of `safety.limit`) run in its thread: be quick."""
        self._config, self._on_reading, self._profile = config, on_reading, task.profile
        self._home = task.profile.vector("home_rad")
        self._tick_s = 1.0 / task.profile.bus_hz  # robot time
        self._calls = CallQueue()
        self._closing = threading.Event()
        bounds = {"oldest_s": config.command_timeout_s, "ahead_s": config.stamp_ahead_s} if config.check_stamps else {}
        self.mailbox = ActionMailbox(task.action_dim, **bounds)
        self.counters = Counters()
        self._emergency_stop = emergency_stop or EmergencyStop(config.estop_timeout_s)
        self._arm = GuardedArm(arm, task.profile, config, self.counters, Chain(task.profile, whole=True).tip, clear)
        self._episode = EpisodeRun(
            task, config, self.counters, self.mailbox, on_observation=on_observation, on_episode=on_episode
        )
        self.mode, self.reason = Mode.INACTIVE, ""
        self._latched = ""  # why; kept through deactivation
        self._limits = Limits.of(task.profile)
        self._yielding: Vector | None = None  # where a stalled arm is let back to
        self._way: Homing | None = None  # while resetting or parking
        self._arrive: Callable[[ArmReading], Vector] = self._hold  # what comes at its end
        self._leaving = False  # a deactivation is under way
        self._command: dict[Mode, Callable[[ArmReading], Vector]] = {
            Mode.HOLDING: self._hold,
            Mode.BRAKING: self._hold,
            Mode.LATCHED: self._give_way,
            Mode.RESETTING: self._travel,
            Mode.PARKING: self._travel,
            Mode.MOVING: self._follow_policy,
        }

    @property
    def share(self) -> float:
        """Of its speed that warm servos leave the arm, in (0, 1]."""
        return self._arm.share

    # ---- what others may ask; each is carried out between two cycles and raises what it refuses

    def activate(self) -> None:
        """Hold the arm where it is. Raises ValueError when it is found outside its limits (start-up guard)."""
        self._calls.ask(self._activate)

    def deactivate(self, cut_short: threading.Event | None = None) -> None:
        """End the episode under way, and leave the arm as `on_shutdown` says; a latched one brakes and holds.

        Args:
          cut_short: once set, an arm that is parking brakes and holds where it is.
        """
        self._calls.ask(self._begin_deactivate)
        parking_s = 0.0 if self._config.on_shutdown == "hold" else self._config.park_timeout_s
        slowest_s = parking_s + float((self._limits.velocity / self._limits.acceleration).max())
        end_s = time.monotonic() + slowest_s / self._config.speed + ANSWER_S
        while self._leaving and time.monotonic() < end_s:
            if self.mode is Mode.PARKING and cut_short is not None and cut_short.is_set():
                self._calls.ask(lambda: self._stop_moving("parking was cut short"))
            time.sleep(0.002)

    def start(self) -> None:
        """Begin episodes; asked again, as when an answer was lost, it changes nothing.

        Raises:
          ValueError: the arm neither holds nor is at its episodes, no budget is left, or a stop is pressed.
        """
        self._calls.ask(lambda: None if self._is_at_episodes() else self._begin_reset(again=True))

    def reset(self) -> None:
        """Go home and hold. Raises ValueError unless the arm is holding and no stop is pressed."""
        self._calls.ask(lambda: self._begin_reset(again=False))

    def park(self) -> None:
        """End the episode under way, go slowly to where the arm rests, and hold. Raises ValueError as `reset`."""
        self._calls.ask(self._park)

    def stop(self) -> None:
        """End the episode under way, or whatever else moves the arm, and hold."""
        self._calls.ask(lambda: self._stop_moving("stopped"))

    def rearm(self) -> None:
        """Release the latch and hold where the arm is now.

        Raises:
          ValueError: nothing is latched, the emergency stop is pressed or silent, or the arm is outside its limits
            (start-up guard).
          RobotError: the arm does not answer; it stays latched.
        """
        self._calls.ask(self._rearm)

    def close(self) -> None:
        """Make `run` return after the cycle under way; the arm keeps holding its last target."""
        self._closing.set()

    # ---- the loop

    def run(self) -> None:
        """Run cycles at the bus rate until `close`; an unexpected error brakes, latches and is raised."""
        settle_memory()
        period_s = self._tick_s / self._config.speed
        began_s = due_s = time.monotonic()
        try:
            while not self._closing.is_set():
                due_s = self._wait(max(due_s + period_s, began_s + SHORTEST_CYCLE * period_s), period_s)
                began_s = time.monotonic()
                self._cycle()
        except Exception as error:
            self._brake(period_s)
            self._leaving = False
            self._latch(f"control loop: {type(error).__name__}: {error}")
            raise
        finally:
            self._episode.finish("shut down")
            self._leaving = False

    def _wait(self, due_s: float, period_s: float) -> float:
        """Sleep until a cycle is due; returns when it was due, or now when more than a whole cycle was missed."""
        wait_s = due_s - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
            return due_s
        self.counters.cycle_late_max_s = max(self.counters.cycle_late_max_s, -wait_s)
        if -wait_s > period_s:
            self.counters.missed_cycles += int(-wait_s / period_s)
            self._miss(-wait_s, period_s)
            return time.monotonic()
        return due_s

    def _miss(self, late_s: float, period_s: float) -> None:
        """Account for cycles that were not run: servos without a goal come to rest, and an old action is an old one."""
        self._episode.mark_gap()
        if late_s > RESTING_CYCLES * period_s:
            self._arm.pause()
        if late_s > self._config.command_timeout_s and self.mode is Mode.MOVING:
            self._latch(f"control loop: expected a cycle every {1e3 * period_s:g} ms, got none for {late_s:.2f} s")

    def _cycle(self) -> None:
        self.counters.cycles += 1
        self._calls.serve()
        reading = self._arm.read()
        if reading is not None:
            self._on_reading(reading)
        stopped = self._emergency_stop.heed()
        if self.mode is Mode.INACTIVE:
            return
        self._supervise(stopped)
        if reading is None:
            self._arm.pause()
            self._episode.mark_gap()
        else:
            self._send(self._command[self.mode](reading))
        if self.mode is Mode.BRAKING and self._arm.at_rest:
            self._leave("deactivated")

    def _supervise(self, stopped: str) -> None:
        """Stop the arm where it is, or park it, where something says so that nobody asked for."""
        lost = self._arm.problem if self._arm.lost else ""
        trouble = stopped or self._arm.complaint or lost
        if trouble:
            self._latch(trouble)
        elif self._arm.hot and self.mode in (Mode.HOLDING, Mode.RESETTING, Mode.MOVING):
            self._park_and_latch(self._arm.hot)

    def _send(self, command: Vector) -> None:
        if not self._arm.send(command):
            self._episode.mark_gap()
        elif self._arm.sent is not None and self._arm.sent.reason & Reason.NOT_FINITE:
            self._latch("command: expected finite joint targets, got NaN or infinity")

    def _brake(self, period_s: float) -> None:
        """Come to rest without reading: for the way out after an error."""
        while not self._arm.at_rest and self._arm.send(self._position()):
            time.sleep(period_s)

    def _position(self) -> Vector:
        """Where the arm was last told to be: (J_all,) rad."""
        return self._home if self._arm.sent is None else self._arm.sent.position

    # ---- modes

    def _hold(self, reading: ArmReading) -> Vector:
        del reading
        return self._position()

    def _give_way(self, reading: ArmReading) -> Vector:
        """Hold, but where the arm stalled: there come back to where it stands, instead of pushing on."""
        if self._arm.stalled.any():
            self._yielding = np.where(self._arm.stalled, reading.position, self._position())
        if self._yielding is None or self._arm.sent is None:
            return self._hold(reading)
        return approach(self._yielding, self._arm.sent, self._tick_s, self._limits)

    def _travel(self, reading: ArmReading) -> Vector:
        """Follow the way under way; at its end comes what it was begun for."""
        if self._way is None or self._arm.sent is None:
            return self._position()
        now_s = self._robot_time(reading)
        problem = self._way.look(reading, self._position(), now_s)
        if problem:
            self._latch(problem)
            return self._position()
        return self._arrive(reading) if self._way.settled(now_s) else self._way.command(self._arm.sent, self._arm.share)

    def _follow_policy(self, reading: ArmReading) -> Vector:
        ended = self._episode.close_step(reading, self._position())
        if ended:
            self._end_episode(ended)
            return self._position()
        command = self._episode.follow(reading, self._position(), self._arm.share)
        self.reason = self._episode.reason
        trouble = self._episode.fault or self.mailbox.fight()
        if trouble:
            self._latch(trouble)
        return command

    # ---- transitions between modes

    def _begin_episode(self, reading: ArmReading) -> Vector:
        reset_s = self._robot_time(reading) - self._way.began_s if self._way else 0.0
        self._episode.begin(reading, self._position(), reset_s)
        self._set(Mode.MOVING, "")
        return self._follow_policy(reading)

    def _end_episode(self, reason: str) -> None:
        self._episode.finish(reason)
        if self._episode.spent:
            self._set(Mode.HOLDING, self._episode.spent)
        else:
            self._set_out(Mode.RESETTING, "", self._begin_episode)

    def _set_out(self, mode: Mode, reason: str, arrive: Callable[[ArmReading], Vector]) -> None:
        """Begin the way home, or to where the arm parks."""
        if self._arm.reading is None:
            raise refuse(f"{mode.value}: reading of the arm", "one", None)
        began_s = self._robot_time(self._arm.reading)
        if mode is Mode.PARKING:
            pose, what, share, timeout_s = self._profile.park_rad, "park", PARK_SHARE, self._config.park_timeout_s
        else:
            pose, what, share, timeout_s = self._home, "reset", 1.0, self._config.reset_timeout_s
        self._way = Homing(
            self._profile, self._config, pose, what=what, began_s=began_s, timeout_s=timeout_s, share=share
        )
        self._arrive = arrive
        self._set(mode, reason)

    def _hold_at_end(self, reason: str) -> Callable[[ArmReading], Vector]:
        def arrive(reading: ArmReading) -> Vector:
            self._set(Mode.HOLDING, reason)
            return self._hold(reading)

        return arrive

    def _is_at_episodes(self) -> bool:
        return self.mode is Mode.MOVING or (self.mode is Mode.RESETTING and self._arrive == self._begin_episode)

    def _begin_reset(self, *, again: bool) -> None:
        what = "start" if again else "reset"
        if self.mode is not Mode.HOLDING or self._arm.reading is None:
            raise refuse(what, "a holding arm", f"{self.mode.value}: {self.reason}")
        self._refuse_pressed_stop(what)
        if again and self._episode.spent:
            raise refuse(what, "budget left (max_steps, episodes)", self._episode.spent)
        self._set_out(Mode.RESETTING, "", self._begin_episode if again else self._hold_at_end("home"))

    def _park(self) -> None:
        if self.mode not in (Mode.HOLDING, Mode.RESETTING, Mode.MOVING) or self._arm.reading is None:
            raise refuse("park", "an arm that holds or moves", f"{self.mode.value}: {self.reason}")
        self._refuse_pressed_stop("park")
        self._episode.finish("parked")
        self._set_out(Mode.PARKING, "", self._hold_at_end("parked"))

    def _park_and_latch(self, reason: str) -> None:
        """Bring an arm to rest that can still be moved, and should no more be."""

        def arrive(reading: ArmReading) -> Vector:
            self._latch(reason)
            return self._hold(reading)

        self._episode.finish(reason)
        self._set_out(Mode.PARKING, reason, arrive)

    def _stop_moving(self, reason: str) -> None:
        self._episode.finish(reason)
        if self._leaving:
            self._set(Mode.BRAKING, reason)
        elif self.mode is Mode.PARKING and self._arm.hot:
            self._latch(self._arm.hot)
        elif self.mode in (Mode.MOVING, Mode.RESETTING, Mode.PARKING):
            self._set(Mode.HOLDING, reason)

    def _refuse_pressed_stop(self, what: str) -> None:
        trouble = self._emergency_stop.trouble()
        if trouble:
            raise refuse(what, "a released emergency stop", trouble)

    def _activate(self) -> None:
        if self.mode is not Mode.INACTIVE:
            raise refuse("activate", "an inactive arm", self.mode.value)
        self._refuse_pressed_stop("activate")
        self._arm.engage()
        self._set(*((Mode.LATCHED, self._latched) if self._latched else (Mode.HOLDING, "activated")))

    def _begin_deactivate(self) -> None:
        if self.mode is Mode.INACTIVE or self._leaving:
            return
        self._episode.finish("deactivated")
        self._leaving = True
        parks = self._config.on_shutdown != "hold" and self.mode is not Mode.LATCHED
        if parks and self._arm.reading is not None and not self._emergency_stop.trouble():
            self._set_out(Mode.PARKING, "deactivating", self._leave_parked)
        else:
            self._set(Mode.BRAKING, "deactivating")

    def _leave_parked(self, reading: ArmReading) -> Vector:
        if self._config.on_shutdown != "limp":
            self._leave("parked")
            return self._hold(reading)
        try:
            self._arm.release()
        except RobotError as error:
            self._latched = self._latched or f"park: {error}"
            self._leave(self._latched)
        else:
            self._leave("parked, torque is off")
        return self._hold(reading)

    def _leave(self, reason: str) -> None:
        self._set(Mode.INACTIVE, reason)
        self._leaving = False

    def _rearm(self) -> None:
        if self.mode is not Mode.LATCHED:
            raise refuse("rearm", "a latched arm", self.mode.value)
        self._refuse_pressed_stop("rearm")
        if not self._arm.at_rest:
            raise refuse("rearm", "an arm at rest", "one that brakes")
        self._arm.engage()
        self._latched, self._yielding = "", None
        self._set(Mode.HOLDING, "re-armed")

    def _latch(self, reason: str) -> None:
        """Brake and hold until somebody re-arms; an arm that is being deactivated goes on with that where it is."""
        if not self._latched:
            self._latched = reason
            self._episode.finish(reason)
        self._set(Mode.BRAKING if self._leaving else Mode.LATCHED, self._latched)

    def _set(self, mode: Mode, reason: str) -> None:
        self.mode, self.reason = mode, reason

    def _robot_time(self, reading: ArmReading) -> float:
        return reading.stamp_s * self._config.speed
