"""Settings of adaptation on the robot, who acts in an episode, and what there is to tell."""

import math
from dataclasses import dataclass

from mbrl_core.bundle import Bundle
from mbrl_core.config import setting
from mbrl_core.imagined_config import ImaginedStepsConfig

MOST_INNER_STEPS = 200
MOST_EXPLORED = 50  # the latest exploring episodes of the present parameters that are kept in memory
ADAPT_AFTER_DOC = "exploring episodes after which the policy adapts by itself, once; 0 = only when asked"
INNER_STEPS_DOC = "most inner steps of one adaptation; 0 = 80 imagined ones, or 1 on real episodes"
ROUTE_DOC = "inner steps on rollouts imagined in the bundle's ensemble, set right by real episodes, or on those alone"
ROUTES = ("imagined", "real")
USUAL_STEPS = {"imagined": 80, "real": 1}


def route_and_steps(bundle: Bundle, route: str, inner_steps: int) -> tuple[str, int]:
    """The route that a bundle can go, real where it has no ensemble, and how many steps at most; 0 = the usual ones."""
    possible = route if bundle.ensemble_onnx else "real"
    return possible, inner_steps or USUAL_STEPS[possible]


@dataclass(frozen=True, kw_only=True)
class AdaptationConfig:
    """When the policy adapts, how far, and what takes it back."""

    after_episodes: int = setting(0, doc=ADAPT_AFTER_DOC, low=0, high=MOST_EXPLORED)
    explore_episodes: int = setting(
        5, doc="exploring episodes to collect when asked and there are none", low=1, high=MOST_EXPLORED
    )
    evaluate_episodes: int = setting(
        5, doc="episodes by the mean before a step, and after it until the first comparison", low=2, high=100
    )
    route: str = setting("imagined", doc=ROUTE_DOC, one_of=ROUTES)
    inner_steps: int = setting(0, doc=INNER_STEPS_DOC, low=0, high=MOST_INNER_STEPS)
    imagined: ImaginedStepsConfig = setting(ImaginedStepsConfig(), doc="imagined inner steps")
    max_kl: float = setting(
        0.0, doc="refuse a step that moves the policy further; 0 = the bundle's own bound", unit="nats", low=0
    )
    significance: float = setting(
        0.05, doc="chance of taking an adapted policy back that is as good as before", low=1e-6, high=0.5
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Turn:
    """Who acts in an episode, from its first step to its last."""

    bundle: Bundle  # with the parameters that act
    inner_steps: int
    exploring: bool


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Where adaptation stands and how its last step ended: what mbrl_msgs/AdaptationStatus shows."""

    phase: str  # evaluating, exploring, adapted, fallen_back or off
    policy_version: int
    inner_steps: int
    exploration_episodes: int
    evaluation_episodes: int
    episodes_used: int = 0
    kl: float = 0.0  # nats
    surrogate: float = 0.0  # improvement predicted
    gradient_norm: float = 0.0
    return_before: float = math.nan
    return_after: float = math.nan
    accepted: bool = False
    reason: str = ""
    granted: bool = True  # what was asked for is done, or has begun
