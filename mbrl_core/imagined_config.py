"""Settings of the model-based inner step on the robot (`imagined_steps.py`) and of what sets its world right."""

from dataclasses import dataclass

from mbrl_core.config import setting


@dataclass(frozen=True, kw_only=True)
class GapConfig:
    """How much real episodes must say before they are believed."""

    ridge: float = setting(3.0, doc="real steps that the ensemble's own prediction is worth, in every direction", low=0)
    goal_prior: float = setting(
        0.1, doc="standard deviation of the goal's offset, in spreads of the task's goals; 0 = none is fitted", low=0.0
    )


@dataclass(frozen=True, kw_only=True)
class ImaginedStepsConfig:
    """The model-based inner step."""

    rollouts: int = setting(200, doc="rollouts of a step, at least; shared evenly among the members", low=1)
    horizon: int = setting(40, doc="steps of a rollout", low=1, high=1000)
    step_kl: float = setting(0.02, doc="how far the first step moves the policy", unit="nats", low=1e-6, high=1.0)
    half_after: float = setting(
        40.0, doc="after so many steps they are half as long as the first, after twice as many a third", low=1.0
    )
    seed: int = setting(0, doc="seed of starts, goals and noise", low=0)
    gap: GapConfig = setting(GapConfig(), doc="how the ensemble is set right")
