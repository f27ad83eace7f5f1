"""Every method at a size that learns the toy task in seconds, and how well it has."""

import numpy as np
from fakes.point_task import PointTask, point_episode

from mbrl_core.actor import Actor
from mbrl_core.algorithms.bptt import BpttConfig, bptt
from mbrl_core.algorithms.mb_mpo import MbMpoConfig, OuterStepConfig, mb_mpo
from mbrl_core.algorithms.me_ppo import MePpoConfig, me_ppo
from mbrl_core.algorithms.me_trpo import MeTrpoConfig, me_trpo
from mbrl_core.algorithms.ppo import PpoConfig
from mbrl_core.algorithms.trpo import TrpoConfig
from mbrl_core.algorithms.validation import ValidationConfig
from mbrl_core.algorithms.value_fit import ValueConfig
from mbrl_core.algorithms.vanilla import vanilla
from mbrl_core.models.ensemble import EnsembleConfig
from mbrl_core.models.imagination import ImaginationConfig

SMALL = {
    "iterations": 15,
    "ensemble": EnsembleConfig(hidden=(16, 16), max_steps=100),
    "imagination": ImaginationConfig(rollouts=100, horizon=10),
}
# A policy soon, good or not: for what does not depend on how well it has learned.
BRIEF = {"iterations": 3, "validation": ValidationConfig(ratio=0.0)}
PPO = PpoConfig(minibatch=250, learning_rate=3e-3)
VALUE = ValueConfig(minibatch=250, learning_rate=3e-3)
METHODS = {
    "me-ppo": (me_ppo, MePpoConfig(**SMALL, ppo=PPO)),
    "vanilla": (vanilla, MePpoConfig(**SMALL, ppo=PPO)),
    "me-trpo": (me_trpo, MeTrpoConfig(**SMALL, value=VALUE, trpo=TrpoConfig(max_kl=0.05))),
    "bptt": (bptt, BpttConfig(**SMALL, value=VALUE, learning_rate=1e-2)),
    "mb-mpo": (mb_mpo, MbMpoConfig(**SMALL, value=VALUE, outer=OuterStepConfig(learning_rate=3e-3))),
    "mb-mpo, trpo": (
        mb_mpo,
        MbMpoConfig(**SMALL, value=VALUE, outer=OuterStepConfig(method="trpo", trpo=TrpoConfig(max_kl=0.05))),
    ),
}


def success(learner) -> float:
    """Share of 20 fresh goals that the last good policy reaches."""
    if learner.version == 0:
        return 0.0
    actor, rng = Actor(learner.bundle()), np.random.default_rng(1)
    goals = PointTask().sample_goal(rng, 20)
    return np.mean([point_episode(rng, actor.act, goal=goal).success for goal in goals])


def everything(learner):
    """All tensors of the last good policy, by name."""
    parts = (part.items() for part in learner._good.trained)
    return {(index, name): tensor for index, part in enumerate(parts) for name, tensor in part}
