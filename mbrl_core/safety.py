"""The safety function: one pure function, last before the wire. It is not certified functional safety.

In this order: finite, position, velocity, acceleration, TCP speed. It never lets position, velocity or TCP speed be
broken; acceleration is exceeded only to brake for one of those three.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntFlag

import numpy as np

from mbrl_core.arm import ArmProfile
from mbrl_core.config import refuse
from mbrl_core.types import Vector


class Reason(IntFlag):
    """Why a command was changed."""

    NONE = 0
    NOT_FINITE = 1
    POSITION = 2
    VELOCITY = 4
    ACCELERATION = 8
    TCP_SPEED = 16


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What no command may break; (J_all,) each."""

    lower: Vector  # rad
    upper: Vector  # rad
    velocity: Vector  # rad/s
    acceleration: Vector  # rad/s^2
    tcp_speed_m_s: float

    @staticmethod
    def of(profile: ArmProfile) -> "Limits":
        """The limits of an arm."""
        return Limits(
            lower=profile.vector("lower_rad"),
            upper=profile.vector("upper_rad"),
            velocity=profile.vector("velocity_rad_s"),
            acceleration=profile.vector("acceleration_rad_s2"),
            tcp_speed_m_s=profile.tcp_speed_m_s,
        )

    def slowed(self, share: float) -> "Limits":
        """The same with a share of the speeds, in (0, 1]."""
        return replace(self, velocity=share * self.velocity, tcp_speed_m_s=share * self.tcp_speed_m_s)


@dataclass(frozen=True)
class Sent:
    """What went to the wire last, and what had changed it."""

    position: Vector  # (J_all,) rad
    velocity: Vector  # (J_all,) rad/s
    reason: Reason = Reason.NONE

    @staticmethod
    def at_rest(position: Vector) -> "Sent":
        """The state before the first command: hold what was measured."""
        return Sent(np.array(position, dtype=float), np.zeros(len(position)))


def limit(command: Vector, last: Sent, dt_s: float, limits: Limits, tip: Callable[[Vector], Vector]) -> Sent:
    """Return a command that breaks no limit, towards the one that is wanted.

    A command that is not finite in any joint is dropped whole: the arm brakes to a hold. A start outside the position
    limits may only move inward.

    Args:
      command: (J_all,) rad, wanted position of every joint.
      last: what was sent one cycle ago.
      dt_s: cycle time in s.
      limits: the arm's limits.
      tip: forward kinematics, (J_all,) rad to (3,) m.

    Raises:
      ValueError: the command has a wrong length (never a wrong motion).
    """
    command = np.asarray(command, dtype=float)
    if command.shape != last.position.shape:
        raise refuse("command", f"{len(last.position)} joints", command.shape)
    reason = Reason.NONE
    if not np.isfinite(command).all():
        command, reason = last.position, Reason.NOT_FINITE
    lower, upper = np.minimum(limits.lower, last.position), np.maximum(limits.upper, last.position)
    inside = np.clip(command, lower, upper)
    reason |= _changed(command, inside, Reason.POSITION)
    wanted = (inside - last.position) / dt_s
    velocity = np.clip(wanted, -limits.velocity, limits.velocity)
    reason |= _changed(wanted, velocity, Reason.VELOCITY)
    braking = np.clip(
        velocity,
        -_stoppable(last.position - lower, limits.acceleration, dt_s),
        _stoppable(upper - last.position, limits.acceleration, dt_s),
    )
    change = limits.acceleration * dt_s
    smooth = np.clip(braking, last.velocity - change, last.velocity + change)
    reason |= _changed(velocity, smooth, Reason.ACCELERATION)
    smooth = np.clip(smooth, -limits.velocity, limits.velocity)
    smooth = np.clip(smooth, (lower - last.position) / dt_s, (upper - last.position) / dt_s)
    slow = _slow_tip(smooth, last.position, dt_s, limits.tcp_speed_m_s, tip)
    reason |= _changed(smooth, slow, Reason.TCP_SPEED)
    position = np.clip(last.position + slow * dt_s, lower, upper)
    return Sent(position, slow, reason)


def approach(goal: Vector, last: Sent, dt_s: float, limits: Limits) -> Vector:
    """Return the next command on the fastest way to a goal that stops there within the limits: (J_all,) rad."""
    distance = goal - last.position
    speed = np.minimum(limits.velocity, _stoppable(np.abs(distance), limits.acceleration, dt_s))
    return np.asarray(last.position + np.sign(distance) * np.minimum(speed * dt_s, np.abs(distance)))


def _stoppable(distance: Vector, acceleration: Vector, dt_s: float) -> Vector:
    """Highest speed from which the joint stops within a distance: v dt + v^2 / 2a = d."""
    return np.asarray(acceleration * (np.sqrt(dt_s**2 + 2 * np.maximum(distance, 0.0) / acceleration) - dt_s))


def _slow_tip(
    velocity: Vector, position: Vector, dt_s: float, speed_m_s: float, tip: Callable[[Vector], Vector]
) -> Vector:
    """Scale all joints by one factor so that the tip keeps its direction and stays below its speed limit."""
    if not velocity.any():
        return velocity
    start = tip(position)
    for _ in range(4):
        distance = float(np.linalg.norm(tip(position + velocity * dt_s) - start))
        if distance <= speed_m_s * dt_s:
            return velocity
        velocity = velocity * (0.999 * speed_m_s * dt_s / distance)
    return np.zeros_like(velocity)


def _changed(before: Vector, after: Vector, reason: Reason) -> Reason:
    return reason if np.abs(before - after).max() > 1e-9 else Reason.NONE
