"""What an action means: an increment of the joint targets, in units of `action_scale_rad`, within the arm's limits.

The same function says where a target goes on the robot and in imagination (xp): what is known is not learned.
"""

from array_api_compat import array_namespace

from mbrl_core.arm import ArmProfile
from mbrl_core.kinematics import Chain
from mbrl_core.types import Array

# The step's straight-line tip speed is kept this far below the safety limit, since ramps inside a step are uneven.
SPEED_SHARE = 0.9


class JointIncrement:
    """Actions (A = J) in [-1, 1] move the targets of the controlled joints."""

    def __init__(self, profile: ArmProfile, chain: Chain) -> None:
        """Take scale and limits from the profile."""
        index = profile.controlled
        self.chain = chain
        self.scale_rad = profile.action_scale_rad
        self.lower, self.upper = profile.vector("lower_rad")[index], profile.vector("upper_rad")[index]
        self._max_tip_m = SPEED_SHARE * profile.tcp_speed_m_s * profile.step_s

    def next_target(self, target: Array, action: Array) -> Array:
        """Targets after one policy step (xp).

        Args:
          target: (..., J) rad, present targets.
          action: (..., J), clipped to [-1, 1].

        Returns:
          (..., J) rad: inside the joint limits, and near enough that the tip keeps below its speed limit.
        """
        xp = array_namespace(target, action)
        lower, upper = (xp.asarray(bound, dtype=target.dtype) for bound in (self.lower, self.upper))
        asked = target + self.scale_rad * xp.clip(action, -1.0, 1.0)
        change = xp.minimum(xp.maximum(asked, lower), upper) - target
        moved = self.chain.tip(target + change) - self.chain.tip(target)
        distance = xp.sqrt(xp.sum(moved * moved, axis=-1)) + 1e-9
        share = xp.clip(self._max_tip_m / distance, 0.0, 1.0)
        return target + share[..., None] * change

    def action_between(self, target: Array, next_target: Array) -> Array:
        """The action that a change of targets amounts to: (..., J), the inverse of an unclipped `next_target` (xp)."""
        return (next_target - target) / self.scale_rad
