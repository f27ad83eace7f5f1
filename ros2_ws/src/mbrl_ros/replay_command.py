"""`mbrl replay EPISODE`: goes home, does again what an episode did, says how far the arm deviated. No ROS, no torch.

The recorded joint targets are asked for step by step at the recorded rate, through the safety function; from a target
that was not reached the next is asked for all the same. Afterwards, and after Ctrl-C, the arm holds where it is.
"""

import contextlib
import dataclasses
import queue
from pathlib import Path

import numpy as np

from mbrl_core.arm import ArmProfile
from mbrl_core.calibration import load_fitted
from mbrl_core.config import refuse, setting
from mbrl_core.control_config import CALIBRATION_DOC, ControlConfig
from mbrl_core.replay import read_episode
from mbrl_core.robots.realtime import ask_for_realtime
from mbrl_core.tasks.reach import ReachConfig, ReachTask
from mbrl_core.types import TIME_LIMIT, Episode, Observation, StepFlag, Vector
from mbrl_ros.driven_arm import DrivenArm
from mbrl_ros.prompt import Prompt
from mbrl_ros.stop_request import StopRequest, StopRequested
from mbrl_sim import profile_path

POLL_S = 0.05
FAILED = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReplayConfig:
    """Do again what a recorded episode did, and compare."""

    episode: str = setting(doc="episode file (.safetensors)")
    profile: str = setting("so101", doc="arm: a name under the twin's assets, or the path of a YAML profile")
    port: str = setting("", doc="serial port of the arm, for example /dev/ttyUSB0")
    calibration: str = setting("", doc=CALIBRATION_DOC)
    yes: bool = setting(False, doc="begin without asking whether the arm may go home")


def replay(config: ReplayConfig) -> int:
    """Replay the episode and print the deviation; return 1 where it did not run to its end.

    Raises:
      ValueError: the episode is damaged, of another arm or task, or did not begin at home; a wrong setting.
      RobotError: the arm is not there, not its profile's, or stopped itself.
    """
    if not config.port:
        raise refuse("port", "a serial port of a servo bus, for example /dev/ttyUSB0", config.port)
    profile = load_fitted(profile_path(config.profile), config.calibration)
    if not Path(config.episode).is_file():
        raise refuse("episode", "an episode file (.safetensors)", config.episode)
    recorded = read_episode(Path(config.episode))
    task = ReachTask(profile, ReachConfig(duration_s=recorded.steps / profile.policy_hz))
    _check_fits(recorded, task)
    if not config.yes:
        Prompt().ask("the arm goes home and moves as recorded: make room, a hand on its switch, then press Enter")
    ask_for_realtime()
    arm = DrivenArm(profile, config.port, task, _Playback(recorded, task).act, episodes=1)
    with StopRequest() as stop:
        try:
            with arm:
                stop.check()
                arm.start()
                again = _wait(arm, stop)
        except StopRequested as end:
            print(f"{end}; the arm holds")
            return end.code
    _report(recorded, again, task, profile)
    whole = again.end_reason.startswith(TIME_LIMIT)
    print("the arm holds" if whole else f"it ended early ({again.end_reason}); the arm holds")
    return 0 if whole else FAILED


class _Playback:
    """Asks for the recorded targets, one after another."""

    def __init__(self, recorded: Episode, task: ReachTask) -> None:
        self._task, self._targets, self._step = task, recorded.states[:, task.learned_dim :], 0

    def act(self, observation: Observation) -> Vector:
        """The way from the present targets to the recorded ones of the next step: (A,)."""
        self._step = 1 if observation.first else min(self._step + 1, len(self._targets) - 1)
        present = observation.state[self._task.learned_dim :]
        return np.clip(self._task.increment.action_between(present, self._targets[self._step]), -1.0, 1.0)


def _check_fits(recorded: Episode, task: ReachTask) -> None:
    for name, wanted in (("arm", task.profile.name), ("task", task.name)):
        if getattr(recorded, name) != wanted:
            raise refuse(f"episode.{name}", repr(wanted), getattr(recorded, name))
    if recorded.states.shape[1] != task.state_dim:
        raise refuse("episode.states", f"width {task.state_dim}", recorded.states.shape[1])
    away = float(np.abs(recorded.states[0, task.learned_dim :] - task.home).max())
    if away > ControlConfig.reset_tolerance_rad:
        raise refuse("episode", "one that began at home", f"{away:.2f} rad from there")


def _wait(arm: DrivenArm, stop: StopRequest) -> Episode:
    while True:
        stop.check()
        arm.check()
        with contextlib.suppress(queue.Empty):
            return arm.episodes.get(timeout=POLL_S)


def _report(recorded: Episode, again: Episode, task: ReachTask, profile: ArmProfile) -> None:
    """Deviation of what was measured, step by step, over as many steps as both have."""
    rows = min(recorded.steps, again.steps) + 1
    before, after = recorded.states[:rows], again.states[:rows]
    apart = np.abs(after[:, : task.joints] - before[:, : task.joints])
    for index, joint in enumerate(profile.controlled):
        rms = float(np.sqrt((apart[:, index] ** 2).mean()))
        print(f"  {profile.joints[joint].name:14} rms {rms:.4f} rad, at most {apart[:, index].max():.4f} rad")
    tip_m = np.linalg.norm(np.asarray(task.tip(after)) - np.asarray(task.tip(before)), axis=-1)
    clamped = int((again.flags & StepFlag.CLAMPED > 0).sum())
    print(f"{rows - 1} of {recorded.steps} steps, {clamped} clamped; tip at most {1e3 * tip_m.max():.1f} mm apart")
