"""An arm on a port behind the control loop, with a function in the policy's place: what teleop and replay stand on.

Everything that a policy's actions pass, these pass too: increments, watchdog, safety function, supervision. On the way
out, whatever its reason, the episode under way ends, the arm brakes, and its servos go on holding.
"""

import contextlib
import os
import queue
import threading
from collections.abc import Callable
from types import TracebackType

from mbrl_core.arm import ArmProfile
from mbrl_core.control_config import ControlConfig, Mode
from mbrl_core.control_loop import ControlLoop
from mbrl_core.robots.errors import Fault, RobotError
from mbrl_core.robots.servo_arm import ServoArm
from mbrl_core.tasks.reach import ReachTask
from mbrl_core.types import Action, Episode, Observation, Vector
from mbrl_ros.graph import TWIN_BUS_ERRORS
from mbrl_sim.profile_check import check_profile
from mbrl_sim.self_collision import SelfCollision


class DrivenArm:
    """An arm that goes home, then does what `act` answers to each observation, episode after episode.

    Attributes:
      episodes: those that have ended.

    Args:
      profile: the arm.
      port: serial device.
      task: what an episode is.
      act: observation to action (A,), called from the loop's thread: it must be quick.
      episodes: hold after so many; 0 = no limit.
      seed: of the goals.
    """

    def __init__(
        self,
        profile: ArmProfile,
        port: str,
        task: ReachTask,
        act: Callable[[Observation], Vector],
        *,
        episodes: int = 0,
        seed: int = 0,
    ) -> None:
        """Keep the settings; nothing is opened yet. Raises ValueError where the profile contradicts its MJCF."""
        check_profile(profile)
        self.episodes: queue.SimpleQueue[Episode] = queue.SimpleQueue()
        self._arm, self._act = ServoArm(profile, port), act
        on_twin = os.path.realpath(port).startswith("/dev/pts/")
        errors = TWIN_BUS_ERRORS if on_twin else ControlConfig.max_bus_errors
        config = ControlConfig(episodes=episodes, seed=seed, max_bus_errors=errors)
        self._loop = ControlLoop(
            self._arm,
            task,
            config,
            on_observation=self._answer,
            on_episode=self.episodes.put,
            clear=SelfCollision(profile),
        )
        self._thread = threading.Thread(target=self._loop.run, name="control", daemon=True)

    def __enter__(self) -> "DrivenArm":
        """Connect and hold where the arm is.

        Raises:
          RobotError: it is not there, not the profile's, or suffers.
          ValueError: it is found outside its limits.
        """
        self._arm.connect()
        self._thread.start()
        try:
            self._loop.activate()
        except BaseException:
            self._let_go()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Brake, hold, close the port."""
        with contextlib.suppress(RobotError, ValueError):
            if self._thread.is_alive():
                self._loop.deactivate()
        self._let_go()

    def start(self) -> None:
        """Go home and begin episodes. Raises ValueError unless the arm is holding."""
        self._loop.start()

    def end_episode(self) -> None:
        """End the episode under way, if there is one, and hold."""
        self._loop.stop()

    @property
    def moving(self) -> bool:
        """Whether an episode is under way."""
        return self._loop.mode is Mode.MOVING

    def check(self) -> None:
        """See that the arm is well. Raises Fault with the reason where it stopped itself."""
        if self._loop.mode is Mode.LATCHED or not self._thread.is_alive():
            raise Fault(f"the arm stopped and holds: {self._loop.reason}")

    def _answer(self, observation: Observation) -> None:
        action = self._act(observation)
        self._loop.mailbox.offer(Action(seq=observation.seq, episode=observation.episode, action=action))

    def _let_go(self) -> None:
        self._loop.close()
        self._thread.join(timeout=2.0)
        self._arm.close()
