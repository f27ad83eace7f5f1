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
TURN_RAD = 1e-4  # for gradients

Tip = Callable[[Vector], Vector]
Clear = Callable[[Vector], Vector]


def joints_of(last: Sent, dt_s: float, limits: Limits) -> list[Joint]:
    """What was sent last, joint by joint."""
    cycle_s = np.full(len(last.position), dt_s)
    rows = (last.position, last.velocity, last.acceleration, limits.acceleration, limits.jerk * dt_s, cycle_s)
    return [Joint(*row) for row in zip(*(vector.tolist() for vector in rows), strict=True)]


def path_of(joints: Sequence[Joint], accelerations: Sequence[float]) -> Vector:
    """Positions one cycle ago, now, after a cycle at (J_all,) rad/s^2, and from there to rest: (N, J_all) rad."""
    columns = [
        [joint.position - joint.velocity * joint.dt_s, joint.position, *joint.stopping(acceleration)]
        for joint, acceleration in zip(joints, accelerations, strict=True)
    ]
    length = max(map(len, columns))
    return np.array([column + [column[-1]] * (length - len(column)) for column in columns], dtype=float).T


def broken_on(path: Vector, dt_s: float, limits: Limits, tip: Tip, clear: Clear | None) -> tuple[Reason, float]:
    """What a path of `path_of` breaks; and the share of the tip's speed on it that is allowed, 1 where all is."""
    reason, share = Reason.NONE, 1.0
    if _grows(np.maximum(limits.lower - path, path - limits.upper)[1:]):
        reason |= Reason.POSITION
    if _grows(np.abs(np.diff(path, axis=0)) / dt_s - limits.velocity):
        reason |= Reason.VELOCITY
    tips = tip(path)
    steps = np.diff(tips, axis=0)
    speeds = np.sqrt(np.einsum("ij,ij->i", steps, steps)) / dt_s
    if _grows(speeds - limits.tcp_speed_m_s):
        reason, share = reason | Reason.TCP_SPEED, min(1.0, limits.tcp_speed_m_s / float(speeds[1:].max()))
    if _grows(np.maximum(limits.workspace_low - tips, tips - limits.workspace_high)[1:]):
        reason |= Reason.WORKSPACE
    if clear is not None and _grows(-clear(path[1:])):
        reason |= Reason.SELF_COLLISION
    return reason, share


def margins_at(position: Vector, limits: Limits, tip: Tip, clear: Clear | None) -> tuple[Vector, Vector]:
    """Distances to the faces of the box and to self-collision, and their gradients: (K,) m and (K, J_all) m/rad."""
    poses = position + TURN_RAD * np.vstack([np.zeros(len(position)), np.eye(len(position))])
    tips = tip(poses)
    values = np.hstack([tips - limits.workspace_low, limits.workspace_high - tips])
    if clear is not None:
        values = np.hstack([values, clear(poses)[:, None]])
    return values[0], (values[1:] - values[0]).T / TURN_RAD


def _grows(excess: Vector) -> bool:
    """Whether anything that is beyond a limit gets further beyond it from one row to the next."""
    if excess.max() <= ROUNDING:
        return False
    beyond = np.maximum(excess - ROUNDING, 0.0)
    return bool((beyond[1:] > beyond[:-1]).any())
