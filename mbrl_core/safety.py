"""The safety function: one pure function, last before the wire. It is not certified functional safety.

In this order: finite, position, velocity, acceleration, jerk, TCP speed, workspace, self-collision. A command passes
only if the arm can still come to rest after it with no limit broken on the way (`lookahead.py`, `braking.py`).
Otherwise the nearest one found that allows it is sent; where none is found, the next cycle of the way to rest that was
checked with the command before. So no limit is ever broken, by induction over the commands.

Limits may shrink while the arm moves (`Limits.slowed`). It then brakes, within acceleration and jerk, until its speeds
are below the new limits; all that hold for the old ones hold meanwhile, for they hold on the way to rest.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mbrl_core.braking import STILL_RAD_S, Joint
from mbrl_core.config import refuse
from mbrl_core.lookahead import Arm, Clear, Tip, broken_on, joints_of, margins_at, path_of
from mbrl_core.safety_limits import Limits, Reason, Sent
from mbrl_core.types import Vector

__all__ = ["Clear", "Limits", "Reason", "Sent", "Tip", "approach", "limit"]

TINY = 1e-9
CORRECTIONS = 2  # of a wish, before the line between it and braking is searched
HALVINGS = 3  # of that line
BELOW = 0.995  # of the allowed tip speed is aimed at: the correction is linear, the arm is not
SLIDE_S = 0.1  # time constant at which a margin may be used up
SLIDE_M = 1e-3  # margin that is kept for the curvature


class Bounds(NamedTuple):
    """What a joint by itself must keep on its way to rest; (J_all,) each."""

    low: Vector  # rad
    high: Vector  # rad
    velocity: Vector  # rad/s, where it is not faster already


class _Wish(NamedTuple):
    joints: Sequence[Joint]
    accelerations: list[float]  # rad/s^2
    path: Vector  # of `path_of`


def limit(command: Vector, last: Sent, dt_s: float, limits: Limits, tip: Tip, clear: Clear | None = None) -> Sent:
    """Return a command that breaks no limit, towards the one that is wanted.

    A command that is not finite in any joint is dropped whole: the arm brakes to a hold. The last position as a command
    is a hold too. An arm that is outside a limit may only come back.

    Args:
      command: (J_all,) rad, wanted position of every joint.
      last: what was sent one cycle ago.
      dt_s: cycle time in s.
      limits: the arm's limits.
      tip: forward kinematics, (N, J_all) rad to (N, 3) m.
      clear: how much further apart links are than they must be, (N, J_all) rad to (N,) m, negative where they are too
        near. Of poses after the first it may say less than there is, if positive. None: the arm's shape is not known.

    Raises:
      ValueError: the command has a wrong length (never a wrong motion).
    """
    command = np.asarray(command, dtype=float)
    if command.shape != last.position.shape:
        raise refuse("command", f"{len(last.position)} joints", command.shape)
    reason = Reason.NONE
    if not np.isfinite(command).all():
        command, reason = last.position, Reason.NOT_FINITE
    low, high = np.minimum(limits.lower, last.position), np.maximum(limits.upper, last.position)
    inside = np.minimum(np.maximum(command, low), high)
    if _differ(command, inside):
        reason |= Reason.POSITION
    wanted = (inside - last.position) / dt_s
    velocity = np.minimum(np.maximum(wanted, -limits.velocity), limits.velocity)
    if _differ(wanted, velocity):
        reason |= Reason.VELOCITY
    bounds, arm = Bounds(low, high, limits.velocity), Arm(limits, tip, clear)
    wish, why = _reachable(joints_of(last, dt_s, limits), velocity, bounds)
    allowed, more = _allowed(wish, last, dt_s, bounds, arm)
    return _after(allowed, last, dt_s, reason | why | more)


def approach(goal: Vector, last: Sent, dt_s: float, limits: Limits) -> Vector:
    """Return the next command on the way to a goal that stops there exactly, all joints together: (J_all,) rad."""
    distance = goal - last.position
    far = np.abs(distance)
    slowest = float(np.max(far / limits.velocity))  # s, at full speed
    speed = np.minimum(far / max(slowest, dt_s), limits.velocity)
    low, high = np.minimum(goal, last.position), np.maximum(goal, last.position)
    bounds = Bounds(low, high, limits.velocity)
    wish, _ = _reachable(joints_of(last, dt_s, limits), np.sign(distance) * speed, bounds)
    return _after(wish.accelerations, last, dt_s, Reason.NONE).position


def _reachable(joints: Sequence[Joint], velocity: Vector, bounds: Bounds) -> tuple[_Wish, Reason]:
    """Nearest to velocities (J_all,), what lets every joint by itself stop within its bounds; and what changed it."""
    accelerations, paths, hard, sudden, late = [], [], False, False, False
    rows = (velocity.tolist(), bounds.low.tolist(), bounds.high.tolist(), bounds.velocity.tolist())
    for joint, wish, low, high, fastest in zip(joints, *rows, strict=True):
        wanted = joint.reaching(wish)
        if joint.allows(wanted) and wish != 0.0:
            smooth = wanted
        else:
            smooth = joint.towards(wish)
            if abs(wanted) > joint.strongest + TINY:
                hard = True
            elif abs(wanted - smooth) > TINY:
                sudden = True
        safe, path = joint.within(smooth, low, high, max(fastest, abs(joint.velocity)))
        late = late or safe != smooth
        accelerations.append(safe)
        paths.append(path)
    reason = hard * Reason.ACCELERATION | sudden * Reason.JERK | late * Reason.POSITION
    return _Wish(joints, accelerations, path_of(joints, paths)), Reason(reason)


def _allowed(wish: _Wish, last: Sent, dt_s: float, bounds: Bounds, arm: Arm) -> tuple[Sequence[float], Reason]:
    """The accelerations of a wish, or the nearest found that let the whole arm stop; and what changed them."""
    broken, share = broken_on(wish.path, dt_s, arm)
    reason = broken
    for _ in range(CORRECTIONS):
        if not broken:
            return wish.accelerations, reason
        velocity = last.velocity + np.array(wish.accelerations) * dt_s
        if broken & (Reason.WORKSPACE | Reason.SELF_COLLISION):
            velocity = _slid(velocity, *margins_at(last.position, arm), bounds.velocity)
        if broken & Reason.TCP_SPEED:
            velocity = BELOW * share * velocity
        wish, _ = _reachable(wish.joints, velocity, bounds)
        broken, share = broken_on(wish.path, dt_s, arm)
        reason |= broken
    if not broken:
        return wish.accelerations, reason
    wanted, braking = np.array(wish.accelerations), np.array([joint.towards(0.0) for joint in wish.joints])
    share, part = 0.0, 0.5
    for _ in range(HALVINGS):
        tried = (braking + (share + part) * (wanted - braking)).tolist()
        path = path_of(wish.joints, [joint.stopping(each) for joint, each in zip(wish.joints, tried, strict=True)])
        if not broken_on(path, dt_s, arm)[0]:
            share += part
        part *= 0.5
    return (braking + share * (wanted - braking)).tolist(), reason


def _slid(velocity: Vector, margins: Vector, gradients: Vector, fastest: Vector) -> Vector:
    """Turn velocities so that no margin shrinks faster than at SLIDE_S: along a wall, not into it.

    Only joints that were to move take part: one that is to be held is held.
    """
    moving = velocity != 0.0
    for margin, gradient in zip(margins, gradients * moving, strict=True):
        least, size = (SLIDE_M - margin) / SLIDE_S, float(gradient @ gradient)
        missing = least - float(gradient @ velocity)
        if missing > 0.0 and size > TINY:
            velocity = velocity + gradient * (missing / size)
    return np.asarray(np.clip(velocity, -fastest, fastest))


def _after(accelerations: Sequence[float], last: Sent, dt_s: float, reason: Reason) -> Sent:
    velocity = last.velocity + np.array(accelerations) * dt_s
    velocity[np.abs(velocity) < STILL_RAD_S] = 0.0
    return Sent(last.position + velocity * dt_s, velocity, (velocity - last.velocity) / dt_s, reason)


def _differ(before: Vector, after: Vector) -> bool:
    return bool(np.abs(before - after).max() > TINY)
