"""A control loop in a thread, over an ideal arm, with a policy that answers in the loop's own thread."""

import threading
import time

import numpy as np
from fakes.ideal_arm import IdealArm

from mbrl_core.action_mailbox import UNKNOWN
from mbrl_core.arm import load_profile
from mbrl_core.control_config import ControlConfig
from mbrl_core.control_loop import ControlLoop
from mbrl_core.tasks.reach import ReachConfig, ReachTask
from mbrl_core.types import Action
from mbrl_sim import profile_path

PROFILE = load_profile(profile_path("so101"))
TASK = ReachTask(PROFILE, ReachConfig(duration_s=0.5))
HOME = PROFILE.vector("home_rad")
CONTROLLED = PROFILE.controlled


class Rig:
    """Entered: the loop runs."""

    def __init__(self, policy, start=HOME, said=None, profile=PROFILE, emergency_stop=None, **settings):
        self.arm, self.sender = IdealArm(start), UNKNOWN
        task = ReachTask(profile, ReachConfig(duration_s=0.5))
        self.episodes, self.observations = [], []
        self.policy, self.said = policy, said or {}  # what is in every action beside the values
        config = ControlConfig(**{"speed": 5.0, "settle_s": 0.02, "command_timeout_s": 0.06, **settings})
        self.loop = ControlLoop(
            self.arm,
            task,
            config,
            on_observation=self.answer,
            on_episode=self.episodes.append,
            emergency_stop=emergency_stop,
        )
        self.thread = threading.Thread(target=self.loop.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.loop.close()
        self.thread.join(5)
        assert not self.thread.is_alive()

    def answer(self, observation):
        self.observations.append(observation)
        values = self.policy(observation)
        if values is not None:
            answered = {"seq": observation.seq, "episode": observation.episode}
            action = Action(action=values, policy_version=3, **answered, **self.said)
            self.loop.mailbox.offer(action, sender=self.sender)

    def wait_for(self, condition, timeout_s=20.0):
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, f"{self.loop.mode}: {self.loop.reason}"
            time.sleep(0.002)


def ones(_):
    return np.ones(TASK.action_dim)


def zeros(_):
    return np.zeros(TASK.action_dim)
