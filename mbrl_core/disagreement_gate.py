"""The disagreement gate: where the ensemble knows less than it did on its training data, the arm moves less, or holds.

It asks less of the arm and is no safety function: the limits come after it, and stay last before the wire.
"""

import math


def share_allowed(disagreement: float, slow_above: float, hold_above: float) -> float:
    """Which share of an action may be asked of the arm: 1 up to slow_above, then falling straight to 0 at hold_above.

    Args:
      disagreement: the ensemble's, at the observation and the action; dimensionless, at least 0.
      slow_above: disagreement above which the arm slows, at least 0.
      hold_above: disagreement from which on it holds, at least slow_above; 0 = there is no gate.

    Returns:
      clip((hold_above - disagreement) / (hold_above - slow_above), 0, 1). A number that is not finite or contradicts
      the above gives 0: the arm holds.
    """
    if not all(map(math.isfinite, (disagreement, slow_above, hold_above))):
        return 0.0
    if hold_above == 0.0:
        return 1.0
    if disagreement < 0.0 or not 0.0 <= slow_above <= hold_above or disagreement >= hold_above:
        return 0.0
    if disagreement <= slow_above:
        return 1.0
    return (hold_above - disagreement) / (hold_above - slow_above)
