"""How one joint changes its speed, and comes to rest, within acceleration and jerk: in discrete time, exactly.

Velocity is the change of position in one cycle over its time, acceleration that of velocity, jerk that of acceleration.
The law is the time-optimal one for a double integrator that is sampled (J. Han, "From PID to Active Disturbance
Rejection Control", 2009, there `fhan`), with acceleration bounded too: from any state within the limits the joint is at
rest after finitely many cycles. Plain floats, because for six joints numpy takes longer than the sums do.
"""

import math
import operator
from typing import NamedTuple

STILL_RAD_S = 1e-10  # slower than this is at rest: what rounding leaves
ROUNDING_RAD = 1e-10  # what rounding may add to a bound
HALVINGS = 8


class Joint(NamedTuple):
    """A joint in the cycle last sent, and what it may do."""

    position: float  # rad
    velocity: float  # rad/s
    acceleration: float  # rad/s^2
    strongest: float  # rad/s^2, limit of the acceleration
    jerk_step: float  # rad/s^2, most that the acceleration may change in one cycle
    dt_s: float

    def reaching(self, velocity: float) -> float:
        """The acceleration that gives a velocity in one cycle, whether it is allowed or not: rad/s^2."""
        return (velocity - self.velocity) / self.dt_s

    def allows(self, acceleration: float) -> bool:
        """Whether acceleration and jerk allow an acceleration next."""
        return abs(acceleration) <= self.strongest and abs(acceleration - self.acceleration) <= self.jerk_step

    def towards(self, velocity: float) -> float:
        """The next acceleration on the fastest way to a velocity that ends there without acceleration: rad/s^2."""
        return _towards(velocity, self.velocity, self.acceleration, self.strongest, self.jerk_step, self.dt_s)

    def stopping(self, acceleration: float) -> list[float]:
        """Positions after a cycle at an acceleration and from there to rest: rad."""
        strongest, jerk_step, dt_s = self.strongest, self.jerk_step, self.dt_s
        position, velocity = _move(self.position, self.velocity, acceleration, dt_s)
        path = [position]
        while velocity != 0.0 or abs(acceleration) > jerk_step:
            acceleration = _towards(0.0, velocity, acceleration, strongest, jerk_step, dt_s)
            position, velocity = _move(position, velocity, acceleration, dt_s)
            path.append(position)
        return path

    def within(self, wanted: float, low: float, high: float, speed: float) -> tuple[float, list[float]]:
        """Find the acceleration nearest the wanted one after which the joint can still stop inside bounds.

        Args:
          wanted: rad/s^2, within acceleration and jerk.
          low: rad, lowest position on the way to rest.
          high: rad, highest.
          speed: rad/s, highest speed on that way.

        Returns:
          rad/s^2, that of braking where nothing nearer is found; and its `stopping`.
        """
        low, high, step = low - ROUNDING_RAD, high + ROUNDING_RAD, (speed + ROUNDING_RAD) * self.dt_s
        path = self.stopping(wanted)
        if self._keeps(path, low, high, step):
            return wanted, path
        nearest = braking = self.towards(0.0)
        path, share, part = self.stopping(braking), 0.0, 0.5
        for _ in range(HALVINGS):
            tried = braking + (share + part) * (wanted - braking)
            way = self.stopping(tried)
            if self._keeps(way, low, high, step):
                nearest, path, share = tried, way, share + part
            part *= 0.5
        return nearest, path

    def _keeps(self, path: list[float], low: float, high: float, step: float) -> bool:
        if min(path) < low or max(path) > high or abs(path[0] - self.position) > step:
            return False
        return len(path) < 2 or max(map(abs, map(operator.sub, path[1:], path))) <= step


def _towards(
    wanted: float, velocity: float, acceleration: float, strongest: float, jerk_step: float, dt_s: float
) -> float:
    """Joint.towards on plain floats.

    While it is taken back in steps of the jerk, an acceleration x = m step + r changes the velocity by
    dt ((m + 1) x - m (m + 1) / 2 step) altogether; this solves for x.
    """
    error = (wanted - velocity) / dt_s
    size = abs(error)
    if size > jerk_step:
        steps = int((math.sqrt(1.0 + 8.0 * size / jerk_step) - 1.0) / 2.0)
        size = (size + 0.5 * jerk_step * steps * (steps + 1)) / (steps + 1)
    size = min(size, strongest)
    return min(max(size if error > 0 else -size, acceleration - jerk_step), acceleration + jerk_step)


def _move(position: float, velocity: float, acceleration: float, dt_s: float) -> tuple[float, float]:
    velocity += acceleration * dt_s
    if abs(velocity) < STILL_RAD_S:
        return position, 0.0
    return position + velocity * dt_s, velocity
