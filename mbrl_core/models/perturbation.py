"""What is made wrong about an ensemble on purpose; by default nothing."""

from dataclasses import dataclass

from mbrl_core.config import setting


@dataclass(frozen=True, kw_only=True)
class PerturbationConfig:
    """Errors added to what members predict, for studies alone; in standard deviations of the target."""

    bias: float = setting(0.0, doc="with every fit each member's error of all outputs is drawn from 0 to this", low=0.0)
    noise: float = setting(0.0, doc="standard deviation of noise added to every predicted change", low=0.0)
