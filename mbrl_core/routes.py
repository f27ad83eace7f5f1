"""The two ways to take inner steps on real episodes, for the policy node, the command line and the bench alike."""

from collections.abc import Sequence

from mbrl_core.adaptation_rules import Route, Theta
from mbrl_core.adapter import Adapter
from mbrl_core.bundle import Bundle
from mbrl_core.imagined_config import ImaginedStepsConfig
from mbrl_core.imagined_steps import ImaginedSteps
from mbrl_core.types import Episode


def begin_steps(
    route: str,
    bundle: Bundle,
    adapter: Adapter,
    theta: Theta,
    episodes: Sequence[Episode],
    config: ImaginedStepsConfig,
) -> Route:
    """Return what takes inner steps, and judges where they lead.

    Args:
      route: "imagined", on fresh rollouts in the bundle's ensemble, set right by the episodes; "real", on these alone.
      bundle: the policy as it was trained.
      adapter: takes a step.
      theta: (P,), what acted in all of the episodes.
      episodes: exploring ones.
      config: of imagined steps.

    Raises:
      ValueError: no step of the episodes counts, one does not fit the task, or there is no ensemble to imagine in.
    """
    if route == "imagined":
        steps = ImaginedSteps(bundle, adapter.task, adapter, episodes, config)
        return Route(steps, steps.earned)
    batch = adapter.batch(episodes, [theta] * len(episodes))
    return Route(lambda now: adapter.step(now, batch))
