"""`mbrl teleop`: moves an arm by keyboard or by a leader arm, and records episodes. No ROS, no torch.

The operator stands where a policy would: every motion passes the safety function. Episodes begin at home and land in
files that `--demonstrations FOLDER` takes. After Ctrl-C or Esc the arm holds where it is.
"""

import contextlib
import dataclasses
import queue
from pathlib import Path

import numpy as np

from mbrl_core.arm import ArmProfile
from mbrl_core.calibration import load_fitted
from mbrl_core.config import refuse, setting
from mbrl_core.control_config import CALIBRATION_DOC
from mbrl_core.replay import Replay
from mbrl_core.robots.errors import NotConnected
from mbrl_core.robots.realtime import ask_for_realtime
from mbrl_core.tasks.reach import ReachConfig, ReachTask
from mbrl_core.types import Episode, Observation, Vector
from mbrl_ros.driven_arm import DrivenArm
from mbrl_ros.leader_arm import LeaderArm
from mbrl_ros.prompt import Prompt
from mbrl_ros.stop_request import StopRequest, StopRequested
from mbrl_ros.teleop_keys import DROP, STOP, TeleopKeys
from mbrl_sim import profile_path

POLL_S = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeleopConfig:
    """Move an arm by hand, at the keyboard or with a leader arm, and record what it does."""

    profile: str = setting("so101", doc="arm: a name under the twin's assets, or the path of a YAML profile")
    port: str = setting("", doc="serial port of the arm, for example /dev/ttyUSB0")
    calibration: str = setting("", doc=CALIBRATION_DOC)
    leader_port: str = setting("", doc="serial port of a leader arm, which goes limp; empty = the keyboard")
    leader_profile: str = setting("", doc="the leader's profile, by name or path; empty = as the arm's")
    leader_calibration: str = setting("", doc="calibration file of the leader")
    out: str = setting("", doc="folder that episodes are added to; empty = none is kept")
    episodes: int = setting(0, doc="end after so many episodes that are kept; 0 = no limit", low=0)
    seconds: float = setting(10.0, doc="length of an episode", unit="s", low=0.5, high=600)
    seed: int = setting(0, doc="seed of the goals", low=0)
    yes: bool = setting(False, doc="begin without asking whether the arm may go home")


def teleop(config: TeleopConfig) -> int:
    """Move the arm until somebody ends it; returns the exit status.

    Raises:
      ValueError: a wrong setting or file, or an arm outside its limits.
      RobotError: an arm is not there, not its profile's, or stopped itself.
    """
    if not config.port:
        raise refuse("port", "a serial port of a servo bus, for example /dev/ttyUSB0", config.port)
    profile = load_fitted(profile_path(config.profile), config.calibration)
    task = ReachTask(profile, ReachConfig(duration_s=config.seconds))
    kept = Replay(Path(config.out)) if config.out else None
    keys = TeleopKeys([profile.joints[index].name for index in profile.controlled])
    leader = _leader(config, profile)
    operator = _Operator(task, keys, leader)
    if not config.yes:
        Prompt().ask("the arm goes home first: make room, a hand on its switch, then press Enter")
    print(keys.help if leader is None else keys.help.splitlines()[-1], flush=True)
    ask_for_realtime()
    with StopRequest() as stop, contextlib.ExitStack() as stack:
        stack.enter_context(keys)
        if leader is not None:
            stack.enter_context(leader)
        arm = stack.enter_context(DrivenArm(profile, config.port, task, operator.act, seed=config.seed))
        try:
            _run(config, arm, operator, kept, stop)
        except StopRequested as end:
            print(f"{end}; the arm holds")
            return end.code
    print("the arm holds")
    return 0


class _Operator:
    """Stands in the policy's place."""

    def __init__(self, task: ReachTask, keys: TeleopKeys, leader: LeaderArm | None) -> None:
        self._task, self.keys, self._leader = task, keys, leader

    def act(self, observation: Observation) -> Vector:
        """What the keys ask, or the way from the targets to the leader's pose: (A,)."""
        if self._leader is None:
            return self.keys.action()
        pose, targets = self._leader.pose, observation.state[self._task.learned_dim :]
        if pose is None:
            return np.zeros(self._task.action_dim)
        return np.clip(self._task.increment.action_between(targets, pose), -1.0, 1.0)

    def check(self) -> None:
        """See that the leader is there. Raises NotConnected."""
        if self._leader is not None and self._leader.lost:
            raise NotConnected(self._leader.lost)

    @property
    def gone(self) -> bool:
        """Whether nobody can ask for anything any more."""
        return self._leader is None and self.keys.ended


def _leader(config: TeleopConfig, follower: ArmProfile) -> LeaderArm | None:
    if not config.leader_port:
        return None
    profile = load_fitted(profile_path(config.leader_profile or config.profile), config.leader_calibration)
    return LeaderArm(profile, config.leader_port, follower)


def _run(config: TeleopConfig, arm: DrivenArm, operator: _Operator, kept: Replay | None, stop: StopRequest) -> None:
    """Episode after episode, until that many are kept, Esc, or the input ends."""
    stop.check()
    arm.start()
    count, announced = 0, False
    while not operator.gone:
        word = operator.keys.poll(POLL_S)
        stop.check()
        arm.check()
        operator.check()
        if word == STOP:
            return
        if arm.moving and not announced:
            print("go", flush=True)
        announced = arm.moving
        if word and arm.moving:
            arm.end_episode()
        with contextlib.suppress(queue.Empty):
            episode = arm.episodes.get_nowait()
            if word == DROP:
                print("dropped", flush=True)
            else:
                count += 1
                print(_line(count, episode, kept), flush=True)
            if 0 < config.episodes <= count:
                arm.end_episode()
                return
        if word and not arm.moving:
            arm.end_episode()
            arm.start()


def _line(count: int, episode: Episode, kept: Replay | None) -> str:
    """Keep an episode and say what it was."""
    path = None if kept is None else kept.add(episode)
    flags = int((episode.flags > 0).sum())
    marked = f", {flags} of them marked" if flags else ""
    what = f"episode {count}: {episode.steps} steps{marked}, tip {100 * episode.final_distance_m:.1f} cm from its goal"
    return f"{what}; {path}" if path else what
