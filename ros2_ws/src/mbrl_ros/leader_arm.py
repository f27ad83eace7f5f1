"""A leader arm: limp, led by hand, read in a thread of its own; its joints are the follower's goal, by name."""

import math
import threading
import time
from types import TracebackType

import numpy as np

from mbrl_core.arm import ArmProfile
from mbrl_core.config import refuse
from mbrl_core.robots.errors import NotConnected, RobotError
from mbrl_core.robots.servo_arm import ServoArm
from mbrl_core.types import Vector

READ_S = 0.02
STALE_S = 0.2  # an older pose is not followed any more


class LeaderArm:
    """Where a second arm is held.

    Args:
      profile: of the leader.
      port: its serial device.
      follower: joints are matched by name with those that its policy moves.

    Raises:
      ValueError: the leader lacks one of them.
    """

    def __init__(self, profile: ArmProfile, port: str, follower: ArmProfile) -> None:
        """Match the joints; nothing is opened yet."""
        names = [joint.name for joint in profile.joints]
        wanted = [follower.joints[index].name for index in follower.controlled]
        missing = [name for name in wanted if name not in names]
        if missing:
            raise refuse("leader_profile", f"an arm with joints {wanted}", f"none called {missing}")
        self._index = np.array([names.index(name) for name in wanted])
        self._arm = ServoArm(profile, port)
        self._pose: tuple[float, Vector] | None = None
        self.lost = ""  # why nothing will be heard of it any more
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, name="leader", daemon=True)

    def __enter__(self) -> "LeaderArm":
        """Connect and let it go limp. Raises RobotError where it is not there or not its profile's."""
        self._arm.connect()
        try:
            self._arm.disable_torque()
        except BaseException:
            self._arm.close()
            raise
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Let go of the port; it stays limp."""
        self._stop.set()
        self._thread.join(timeout=1.0)
        self._arm.close()

    @property
    def pose(self) -> Vector | None:
        """Angles of the follower's controlled joints, (J,) rad; None while the leader has not answered for a while."""
        pose = self._pose
        return None if pose is None or time.monotonic() - pose[0] > STALE_S else pose[1]

    def _read(self) -> None:
        while not self._stop.wait(READ_S):
            try:
                pose = self._arm.read().position[self._index]
            except NotConnected as error:
                self.lost = f"leader: {error}"
                return
            except RobotError:
                continue
            if self._pose is not None:
                pose = nearest_turn(pose, self._pose[1])
            self._pose = time.monotonic(), pose


def nearest_turn(angle: Vector, before: Vector) -> Vector:
    """The same angles, rad, in the turn that is nearest to where they were: an encoder's end is no way round."""
    return np.asarray(before + (angle - before + math.pi) % (2 * math.pi) - math.pi)
