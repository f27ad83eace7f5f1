"""The way from a next command to rest, and what it would break: a command is allowed only if the arm can still stop.

No speed on the way may be too high. What is beyond a limit of place (position, workspace, clearance) must not get
further beyond it: inside the limits that means that none is broken, and an arm found outside one may only come back.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mbrl_core.braking import Joint
from mbrl_core.safety_limits import Limits, Reason, Sent
from mbrl_core.types import Vector

ROUNDING = 1e-9  # rad, m, m/s: less than this beyond a limit is arithmetic
IN_ORDER = (Reason.POSITION, Reason.VELOCITY, Reason.TCP_SPEED, Reason.WORKSPACE)
NOWHERE = np.zeros(1, dtype=bool)
TURN_RAD = 1e-4  # for gradients

Tip = Callable[[Vector], Vector]
Clear = Callable[[Vector], Vector]


class Arm(NamedTuple):
    """What limits an arm as a whole: `tip` and `clear` are those of `safety.limit`."""

    limits: Limits
    tip: Tip
    clear: Clear | None


def joints_of(last: Sent, dt_s: float, limits: Limits) -> list[Joint]:
    """What was sent last, joint by joint."""
    cycle_s = np.full(len(last.position), dt_s)
    rows = (last.position, last.velocity, last.acceleration, limits.acceleration, limits.jerk * dt_s, cycle_s)
    return [Joint(*row) for row in zip(*(vector.tolist() for vector in rows), strict=True)]


def path_of(joints: Sequence[Joint], stopping: Sequence[list[float]]) -> Vector:
    """Positions now, next, and from there to rest: (N, J_all) rad; `stopping` as of each joint."""
    columns = [[joint.position, *path] for joint, path in zip(joints, stopping, strict=True)]
    length = max(map(len, columns))
    return np.asarray(np.array([column + [column[-1]] * (length - len(column)) for column in columns]).T)


def broken_on(path: Vector, dt_s: float, arm: Arm) -> tuple[Reason, float]:
    """What a path of `path_of` breaks; and the share of the tip's speed on it that is allowed, 1 where all is.

    Self-collision, which takes longest, is looked for where nothing else is broken.
    """
    limits = arm.limits
    tips, joints = arm.tip(path), path.shape[1]
    steps = tips[1:] - tips[:-1]
    excess = np.zeros((len(path), 2 * joints + 4))
    excess[:, :joints] = np.maximum(limits.lower - path, path - limits.upper)
    excess[1:, joints:-4] = np.abs(path[1:] - path[:-1]) / dt_s - limits.velocity
    excess[1:, -4] = np.sqrt((steps * steps).sum(axis=1)) / dt_s - limits.tcp_speed_m_s
    excess[:, -3:] = np.maximum(limits.workspace_low - tips, tips - limits.workspace_high)
    grows = _grows(excess)
    if grows.any():
        found = zip(IN_ORDER, np.split(grows, (joints, -4, -3)), strict=True)
        reason = Reason(sum(why for why, columns in found if columns.any()))
        fastest = limits.tcp_speed_m_s + float(excess[1:, -4].max())
        return reason, limits.tcp_speed_m_s / fastest if Reason.TCP_SPEED in reason else 1.0
    if arm.clear is not None and _grows(-arm.clear(path)).any():
        return Reason.SELF_COLLISION, 1.0
    return Reason.NONE, 1.0


def margins_at(position: Vector, arm: Arm) -> tuple[Vector, Vector]:
    """Distances to the faces of the box and to self-collision, and their gradients: (K,) m and (K, J_all) m/rad."""
    poses = position + TURN_RAD * np.vstack([np.zeros(len(position)), np.eye(len(position))])
    tips = arm.tip(poses)
    values = np.hstack([tips - arm.limits.workspace_low, arm.limits.workspace_high - tips])
    if arm.clear is not None:
        values = np.hstack([values, [arm.clear(pose[None]) for pose in poses]])  # exact of a first pose only
    return values[0], (values[1:] - values[0]).T / TURN_RAD


def _grows(excess: Vector) -> NDArray[np.bool_]:
    """In which columns what is beyond a limit gets further beyond it from one row to the next."""
    if excess.max() <= ROUNDING:
        return NOWHERE
    beyond = np.maximum(excess - ROUNDING, 0.0)
    return np.asarray((beyond[1:] > beyond[:-1]).any(axis=0))
