"""What the safety function knows: an arm's limits, what was sent last, and why a command was changed."""

from dataclasses import dataclass, replace
from enum import IntFlag

import numpy as np

from mbrl_core.arm import ArmProfile
from mbrl_core.types import Vector


class Reason(IntFlag):
    """Why a command was changed."""

    NONE = 0
    NOT_FINITE = 1
    POSITION = 2
    VELOCITY = 4
    ACCELERATION = 8
    TCP_SPEED = 16
    JERK = 32
    WORKSPACE = 64
    SELF_COLLISION = 128


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What no command may break; (J_all,) each unless said otherwise."""

    lower: Vector  # rad
    upper: Vector  # rad
    velocity: Vector  # rad/s
    acceleration: Vector  # rad/s^2
    jerk: Vector  # rad/s^3
    tcp_speed_m_s: float
    workspace_low: Vector  # (3,) m
    workspace_high: Vector  # (3,) m

    @staticmethod
    def of(profile: ArmProfile) -> "Limits":
        """The limits of an arm. Its clearance is known to who measures it: `clear` of `safety.limit`."""
        return Limits(
            lower=profile.vector("lower_rad"),
            upper=profile.vector("upper_rad"),
            velocity=profile.vector("velocity_rad_s"),
            acceleration=profile.vector("acceleration_rad_s2"),
            jerk=profile.vector("jerk_rad_s3"),
            tcp_speed_m_s=profile.tcp_speed_m_s,
            workspace_low=np.array(profile.workspace_low_m),
            workspace_high=np.array(profile.workspace_high_m),
        )

    def slowed(self, share: float) -> "Limits":
        """The same with a share of the speeds, in (0, 1]."""
        return replace(self, velocity=share * self.velocity, tcp_speed_m_s=share * self.tcp_speed_m_s)


@dataclass(frozen=True)
class Sent:
    """What went to the wire last, how it moved, and what had changed it.

    Velocity is the change of position in the last cycle over its time, acceleration that of velocity.
    """

    position: Vector  # (J_all,) rad
    velocity: Vector  # (J_all,) rad/s
    acceleration: Vector  # (J_all,) rad/s^2
    reason: Reason = Reason.NONE

    @staticmethod
    def at_rest(position: Vector) -> "Sent":
        """The state before the first command, or after a cycle without one: the servos hold this position."""
        zeros = np.zeros(len(position))
        return Sent(np.array(position, dtype=float), zeros, zeros)
