"""The settings of each node: the only defaults there are; ROS parameters and flags are derived from them.

robot_interface's own stand beside its loop, in mbrl_core.control_config.
"""

from dataclasses import dataclass

from mbrl_core.config import setting

PROFILE_DOC = "arm: a name under the twin's assets, or the path of a YAML profile"

ALGORITHMS = ("me-ppo", "mb-mpo")  # those that learn beside a robot
ALGORITHM_DOC = "method; mb-mpo's policy can adapt to another arm, and takes longer to learn"

GATE_DOC = "tell the arm how much the ensemble disagrees, so that it slows, then holds, in what training never saw"

DEMONSTRATIONS_DOC = "folder of recorded episodes that learning begins with, or of the run that left them; empty = none"


@dataclass(frozen=True, kw_only=True)
class TwinConfig:
    """The arm's twin behind its emulated bus; how it differs from its profile follows under `perturbation.`."""

    profile: str = setting("so101", doc=PROFILE_DOC)
    port: str = setting("", doc="path to make as a link to the pseudo-terminal; empty = none")
    speed: float = setting(1.0, doc="simulated seconds per wall second", low=0.01, high=100)
    seed: int = setting(0, doc="seed of the twin's noise", low=0)
    clock_hz: float = setting(100.0, doc="rate of /clock, at most", unit="Hz, wall", low=1, high=1000)


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """The node that acts; the settings of adaptation follow under `adaptation.`."""

    profile: str = setting("so101", doc=PROFILE_DOC)
    bundle: str = setting("", doc="policy to start with (.mbrl); empty = random actions until one is published")
    actor: str = setting("learned", doc="what acts", one_of=("learned", "zero", "random"))
    deterministic: bool = setting(False, doc="act by the mean, without exploration noise")
    seed: int = setting(0, doc="seed of the exploration noise", low=0)
    gate: bool = setting(False, doc=GATE_DOC)
    adapted: str = setting("", doc="file that adapted parameters are kept in and go on from; empty = none")


@dataclass(frozen=True, kw_only=True)
class LearningConfig:
    """The learner; the algorithm's own settings follow under `me_ppo.` or `mb_mpo.`."""

    profile: str = setting("so101", doc=PROFILE_DOC)
    algorithm: str = setting("me-ppo", doc=ALGORITHM_DOC, one_of=ALGORITHMS)
    run_dir: str = setting("", doc="folder for episodes, policy.mbrl and progress.csv; required")
    seed: int = setting(0, doc="seed of models, policy and imagination", low=0)
    demonstrations: str = setting("", doc=DEMONSTRATIONS_DOC)
    min_steps: int = setting(
        300, doc="real steps before the first model is fitted; demonstrations are not counted", low=2
    )
    max_steps: int = setting(0, doc="finish once this many real steps arrived; 0 = never", low=0)
    finish_s: float = setting(45.0, doc="learning after the last real step", unit="s", low=0, high=3600)


@dataclass(frozen=True, kw_only=True)
class LifecycleManagerConfig:
    """Which nodes are brought up, and how long they may take."""

    nodes: tuple[str, ...] = setting(("policy", "robot_interface"), doc="lifecycle nodes in the order of activation")
    wait_for: tuple[str, ...] = setting((), doc="other nodes that must be there first")
    auto_start: bool = setting(False, doc="call the service start when all nodes are active")
    timeout_s: float = setting(60.0, doc="longest wait for a node to appear or a transition to end", unit="s", low=0.1)
    stop_timeout_s: float = setting(2.0, doc="longest wait for a deactivation", unit="s", low=0.1)
