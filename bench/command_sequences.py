"""Hypothesis strategies for commands that try to break the safety function, and what they mean for an arm.

A sequence is a list of pieces of one kind each: what faults, bad policies and wrong units make of commands. Pieces hold
numbers in [-1, 1], so one sequence means something for every arm, and a failure shrinks to a short one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from mbrl_core.arm import ArmProfile
from mbrl_core.kinematics import Chain
from mbrl_core.safety import Clear, Limits, Sent, Tip, approach

Array = NDArray[np.float64]

JOINTS = 6  # the most that an arm of ours has
NEAR_RAD = 0.05
HALVINGS = 10
KINDS = ("jump", "extremes", "step", "ramp", "odd", "all odd", "hold", "hand", "home", "beside", "place", "far")
ODD = (np.nan, np.inf, -np.inf, 1e300, -1e300, 1e9, 1e-300)


@dataclass(frozen=True)
class Piece:
    """So many commands of one kind."""

    kind: str
    ticks: int
    rows: tuple[tuple[float, ...], ...]  # taken in turn
    period: int  # of changes between extremes; which joint is odd
    odd: float


@dataclass(frozen=True)
class Arm:
    """What a piece needs to know of an arm."""

    limits: Limits
    home: Array
    dt_s: float
    tip: Tip
    clear: Clear

    @staticmethod
    def of(profile: ArmProfile, clear: Clear) -> "Arm":
        """A profile's arm; `clear` is that of `safety.limit`."""
        tip = Chain(profile, whole=True).tip
        return Arm(Limits.of(profile), profile.vector("home_rad"), 1.0 / profile.bus_hz, tip, clear)

    def is_free(self, pose: Array) -> bool:
        """Whether a pose breaks no limit."""
        tip = self.tip(pose[None])[0]
        in_box = bool((tip >= self.limits.workspace_low).all() and (tip <= self.limits.workspace_high).all())
        return in_box and float(self.clear(pose[None])[0]) > 0.0

    def pose(self, fractions: Array) -> Array:
        """Between the position limits (J_all,), whatever it breaks."""
        middle, half = 0.5 * (self.limits.lower + self.limits.upper), 0.5 * (self.limits.upper - self.limits.lower)
        return np.asarray(middle + fractions * half)

    def start(self, fractions: Array) -> Array:
        """The pose if it breaks no limit; otherwise one on the way to it from home, close to where that begins."""
        far = self.pose(fractions[: len(self.home)]) - self.home
        if self.is_free(self.home + far):
            return np.asarray(self.home + far)
        share, step = 0.0, 0.5
        for _ in range(HALVINGS):
            if self.is_free(self.home + (share + step) * far):
                share += step
            step *= 0.5
        return np.asarray(self.home + share * far)


fraction = st.floats(-1.0, 1.0)
row = st.tuples(*[st.one_of(fraction, st.sampled_from((-1.0, 0.0, 1.0)))] * JOINTS)
pieces = st.builds(
    Piece,
    kind=st.sampled_from(KINDS),
    ticks=st.integers(1, 20),
    rows=st.lists(row, min_size=1, max_size=3).map(tuple),
    period=st.integers(1, 12),
    odd=st.sampled_from(ODD),
)
sequences = st.lists(pieces, min_size=1, max_size=4)


def commands(sequence: list[Piece], arm: Arm) -> Iterator[Callable[[Sent], Array]]:
    """One function a cycle, from what was sent last to the command: (J_all,) rad."""
    for piece in sequence:
        rows = np.array(piece.rows)[:, : len(arm.home)]
        for tick in range(piece.ticks):
            yield lambda last, tick=tick, piece=piece, rows=rows: _command(piece, tick, rows, last, arm)


def _command(piece: Piece, tick: int, rows: Array, last: Sent, arm: Arm) -> Array:
    row, lower, upper = rows[tick % len(rows)], arm.limits.lower, arm.limits.upper
    if piece.kind == "jump":
        return arm.pose(1.3 * row)
    if piece.kind == "extremes":
        high = (row > 0.0) ^ (tick // piece.period % 2 == 1)
        return np.where(high, upper + 1.0, lower - 1.0)
    if piece.kind == "step":
        return np.asarray(last.position + NEAR_RAD * row)
    if piece.kind == "ramp":  # as a policy's actions come, up to somewhat too fast
        return np.asarray(last.position + 1.2 * arm.limits.velocity * arm.dt_s * rows[0])
    if piece.kind == "odd":
        command = last.position + NEAR_RAD * row
        command[piece.period % len(command)] = piece.odd
        return np.asarray(command)
    if piece.kind == "all odd":
        return np.full(len(row), piece.odd)
    if piece.kind == "hand":  # the tip one way: to a face of its box, into the table or into the arm
        return _pushed(last.position, rows[0][:3], NEAR_RAD * abs(rows[0][3]), arm)
    if piece.kind == "home":
        return approach(arm.home, last, arm.dt_s, arm.limits)
    if piece.kind == "beside":  # within a milliradian of the position limits
        return np.asarray(np.where(rows[0] > 0, upper, lower) + 1e-3 * row)
    if piece.kind == "place":
        return approach(arm.pose(rows[0]), last, arm.dt_s, arm.limits)
    if piece.kind == "far":
        return arm.pose(rows[0])
    return last.position


def _pushed(position: Array, way: Array, most_rad: float, arm: Arm) -> Array:
    poses = position + 1e-4 * np.vstack([np.zeros(len(position)), np.eye(len(position))])
    tips = arm.tip(poses)
    pull = (tips[1:] - tips[0]) @ way
    return np.asarray(position + most_rad * pull / max(float(np.abs(pull).max()), 1e-12))
