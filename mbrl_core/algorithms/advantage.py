"""Generalised advantage estimation (Schulman et al. 2016, arXiv 1506.02438, eq. 16).

The same code for torch (imagined rollouts) and numpy (real episodes, also on the robot) (xp).
"""

from array_api_compat import array_namespace

from mbrl_core.types import Array


def gae(
    rewards: Array,
    values: Array,
    discount: float,
    trace: float,
    terminated: Array | None = None,
    truncated: Array | None = None,
) -> tuple[Array, Array]:
    """Advantages A_t = sum_l (discount * trace)^l delta_{t+l}, delta_t = r_t + discount * V_{t+1} - V_t (xp).

    Args:
      rewards: (H, B).
      values: (H+1, B); the last row is the value bootstrapped at the horizon.
      discount: gamma, per step.
      trace: lambda.
      terminated: (H, B) bool, where no value follows; without it, nowhere.
      truncated: (H, B) bool, after which the value of the state that is reached follows but no step, as at the
        horizon; without it, nowhere.

    Returns:
      Advantages (H, B) and returns (H, B), advantage plus value.
    """
    xp = array_namespace(rewards)
    follows = xp.ones_like(rewards) if terminated is None else xp.astype(~terminated, rewards.dtype)
    traced = follows if truncated is None else follows * xp.astype(~truncated, rewards.dtype)
    delta = rewards + discount * follows * values[1:] - values[:-1]
    advantages = xp.empty_like(rewards)
    running = xp.zeros_like(rewards[0])
    for step in range(len(rewards) - 1, -1, -1):
        running = delta[step] + discount * trace * traced[step] * running
        advantages[step] = running
    return advantages, advantages + values[:-1]


def standardised_advantages(advantages: Array, weights: Array, axis: tuple[int, ...]) -> Array:
    """Give advantages mean 0 and spread 1 over the steps that count, so that a step size means one thing (xp).

    Args:
      advantages: (...).
      weights: (...), 1 where a step counts, 0 elsewhere.
      axis: over which there is one mean and one spread.

    Returns:
      (...), 0 where a step does not count.
    """
    xp = array_namespace(advantages)
    count = xp.clip(xp.sum(weights, axis=axis, keepdims=True), min=1.0)
    centred = advantages - xp.sum(advantages * weights, axis=axis, keepdims=True) / count
    spread = xp.sqrt(xp.sum(centred * centred * weights, axis=axis, keepdims=True) / count)
    return centred / xp.clip(spread, min=1e-6) * weights
