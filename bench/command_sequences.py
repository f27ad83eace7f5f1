"""Command sequences that try to break the safety function: what a fault, an attacker or a bad policy might send."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from mbrl_core.safety import Limits, Sent, Tip, approach

Array = NDArray[np.float64]
Wish = Callable[[Sent], Array]

NEAR_RAD = 0.05
ODD = (np.nan, np.inf, -np.inf, 1e300, -1e300, 1e9)


def sequence(rng: np.random.Generator, home: Array, limits: Limits, dt_s: float, tip: Tip) -> Iterator[Wish]:
    """A few pieces, each of one kind and 1 to 20 commands long; a wish sees what was sent last."""
    kinds = (_jumps, _extremes, _steps, _ramp, _odd, _hold, _hand, _home, _beside)
    for _ in range(int(rng.integers(1, 5))):
        wish = kinds[rng.integers(len(kinds))](rng, home, limits, dt_s, tip)
        yield from [wish] * int(rng.integers(1, 21))


def start(rng: np.random.Generator, home: Array, limits: Limits, free: Callable[[Array], bool]) -> Array:
    """Home, or any pose that breaks no limit, some of them with joints at their ends: (J_all,) rad."""
    while rng.random() < 0.7:
        pose = rng.uniform(limits.lower, limits.upper)
        at_end = rng.random(len(pose)) < 0.1
        pose = np.where(at_end, np.where(rng.random(len(pose)) < 0.5, limits.lower, limits.upper), pose)
        if free(pose):
            return np.asarray(pose)
    return home


def _jumps(rng: np.random.Generator, home: Array, limits: Limits, dt_s: float, tip: Tip) -> Wish:
    return lambda last: rng.uniform(-4.0, 4.0, len(home))


def _extremes(rng: np.random.Generator, home: Array, limits: Limits, dt_s: float, tip: Tip) -> Wish:
    """From end to end and back, every joint at its own period."""
    period, ticks = rng.integers(1, 12, len(home)), iter(range(1000))
    return lambda last: np.where((next(ticks) // period) % 2 == 0, limits.lower - 1.0, limits.upper + 1.0)


def _steps(rng: np.random.Generator, home: Array, limits: Limits, dt_s: float, tip: Tip) -> Wish:
    size = NEAR_RAD * rng.random()
    return lambda last: last.position + rng.uniform(-size, size, len(home))


def _ramp(rng: np.random.Generator, home: Array, limits: Limits, dt_s: float, tip: Tip) -> Wish:
    """As a policy's actions come: a straight line, as fast as the joints may go or somewhat faster."""
    step = rng.uniform(-1.2, 1.2, len(home)) * limits.velocity * dt_s * (rng.random(len(home)) < 0.7)
    return lambda last: last.position + step


def _odd(rng: np.random.Generator, home: Array, limits: Limits, dt_s: float, tip: Tip) -> Wish:
    """One joint that is no angle, or all."""

    def wish(last: Sent) -> Array:
        command, odd = last.position + rng.uniform(-NEAR_RAD, NEAR_RAD, len(home)), ODD[rng.integers(len(ODD))]
        if rng.random() < 0.3:
            return np.full(len(home), odd)
        command[rng.integers(len(home))] = odd
        return command

    return wish


def _hold(rng: np.random.Generator, home: Array, limits: Limits, dt_s: float, tip: Tip) -> Wish:
    return lambda last: last.position


def _hand(rng: np.random.Generator, home: Array, limits: Limits, dt_s: float, tip: Tip) -> Wish:
    """Drive the tip one way, towards a face of its box or into the arm."""
    way, size = rng.standard_normal(3), rng.uniform(0.002, 0.05)

    def wish(last: Sent) -> Array:
        poses = last.position + 1e-4 * np.vstack([np.zeros(len(home)), np.eye(len(home))])
        tips = tip(poses)
        pull = (tips[1:] - tips[0]) @ way
        return np.asarray(last.position + size * pull / max(float(np.abs(pull).max()), 1e-12))

    return wish


def _home(rng: np.random.Generator, home: Array, limits: Limits, dt_s: float, tip: Tip) -> Wish:
    return lambda last: approach(home, last, dt_s, limits)


def _beside(rng: np.random.Generator, home: Array, limits: Limits, dt_s: float, tip: Tip) -> Wish:
    """One place, a hair's breadth inside or outside the position limits in some joints."""
    place = np.where(rng.random(len(home)) < 0.5, limits.lower, limits.upper) + rng.uniform(-1e-3, 1e-3, len(home))
    place = np.where(rng.random(len(home)) < 0.4, place, rng.uniform(limits.lower, limits.upper))
    return lambda last: place
