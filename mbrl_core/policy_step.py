"""The policy step under way in the control loop."""

from dataclasses import dataclass, field

from mbrl_core.types import Action, StepFlag, Vector


@dataclass
class PolicyStep:
    """Begins empty; `action` and what follows from it come with the answer, if one comes."""

    tick: int = 0  # bus cycles done
    action: Action | None = None
    share: float = 1.0  # of the action, cut to [-1, 1], that the disagreement gate let through
    target: Vector | None = None  # (J,) rad, at the end of the step
    flags: StepFlag = field(default_factory=lambda: StepFlag(0))
