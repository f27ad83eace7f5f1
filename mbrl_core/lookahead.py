"""The way from a next command to rest, and what it would break: a command is allowed only if the arm can still stop.

One rule for every limit: nothing that is beyond a limit gets further beyond it. Inside all limits that means that none
is broken; an arm that is found outside one, or whose speed limit has just shrunk, may only come back.
"""

from collections.abc import Callable, Sequence

import numpy as np

from mbrl_core.braking import Joint
from mbrl_core.safety_limits import Limits, Reason, Sent
from mbrl_core.types import Vector

ROUNDING = 1e-9  # rad, m, m/s: less than this beyond a limit is arithmetic
IN_ORDER = (Reason.POSITION, Reason.VELOCITY, Reason.TCP_SPEED, Reason.WORKSPACE, Reason.SELF_COLLISION)
TURN_RAD = 1e-4  # for gradients

Tip = Callable[[Vector], Vector]
Clear = Callable[[Vector], Vector]


def joints_of(last: Sent, dt_s: float, limits: Limits) -> list[Joint]:
    """What was sent last, joint by joint."""
    cycle_s = np.full(len(last.position), dt_s)
    rows = (last.position, last.velocity, last.acceleration, limits.acceleration, limits.jerk * dt_s, cycle_s)
    return [Joint(*row) for row in zip(*(vector.tolist() for vector in rows), strict=True)]


def path_of(joints: Sequence[Joint], stopping: Sequence[list[float]]) -> Vector:
    """Positions one cycle ago, now, next, and from there to rest: (N, J_all) rad; `stopping` as of each joint."""
    columns = [
        [joint.position - joint.velocity * joint.dt_s, joint.position, *path]
        for joint, path in zip(joints, stopping, strict=True)
    ]
    length = max(map(len, columns))
    return np.asarray(np.array([column + [column[-1]] * (length - len(column)) for column in columns]).T)


def broken_on(path: Vector, dt_s: float, limits: Limits, tip: Tip, clear: Clear | None) -> tuple[Reason, float]:
    """What a path of `path_of` breaks; and the share of the tip's speed on it that is allowed, 1 where all is."""
    tips, joints = tip(path), path.shape[1]
    now, tips_now = path[1:], tips[1:]
    steps = tips_now - tips[:-1]
    excess = np.empty((len(now), 2 * joints + 5))
    excess[:, :joints] = np.maximum(limits.lower - now, now - limits.upper)
    excess[:, joints:-5] = np.abs(now - path[:-1]) / dt_s - limits.velocity
    excess[:, -5] = np.sqrt((steps * steps).sum(axis=1)) / dt_s - limits.tcp_speed_m_s
    excess[:, -4:-1] = np.maximum(limits.workspace_low - tips_now, tips_now - limits.workspace_high)
    excess[:, -1] = 0.0 if clear is None else -clear(now)
    if excess.max() <= ROUNDING:
        return Reason.NONE, 1.0
    beyond = np.maximum(excess - ROUNDING, 0.0)
    grows = (beyond[1:] > beyond[:-1]).any(axis=0)
    reason, share = Reason.NONE, 1.0
    for why, columns in zip(IN_ORDER, np.split(grows, (joints, -5, -4, -1)), strict=True):
        if columns.any():
            reason |= why
    if Reason.TCP_SPEED in reason:
        share = limits.tcp_speed_m_s / (limits.tcp_speed_m_s + float(beyond[1:, -5].max()))
    return reason, share


def margins_at(position: Vector, limits: Limits, tip: Tip, clear: Clear | None) -> tuple[Vector, Vector]:
    """Distances to the faces of the box and to self-collision, and their gradients: (K,) m and (K, J_all) m/rad."""
    poses = position + TURN_RAD * np.vstack([np.zeros(len(position)), np.eye(len(position))])
    tips = tip(poses)
    values = np.hstack([tips - limits.workspace_low, limits.workspace_high - tips])
    if clear is not None:
        values = np.hstack([values, [clear(pose[None]) for pose in poses]])  # exact of a first pose only
    return values[0], (values[1:] - values[0]).T / TURN_RAD
