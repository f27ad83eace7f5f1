"""A joint's positive direction in words, from the arm's model: for a person who shall move it that way by hand."""

import numpy as np

from mbrl_core.arm import ArmProfile
from mbrl_core.kinematics import Chain, Hinge
from mbrl_core.types import Vector

STEP_RAD = 0.3
SEEN_M = 0.02  # a tip that moves by less shows nothing
CLEAR = 0.75  # share of a motion, or of an axis, along one direction that is enough to name it
WAYS = (("forward", "backward"), ("to the arm's left", "to the arm's right"), ("up", "down"))
SIDES = (("the front", "behind"), ("the arm's left", "the arm's right"), ("above", "below"))


def positive_direction(profile: ArmProfile, hinges: list[Hinge], index: int) -> str:
    """Say how a joint moves in its positive direction, from the middle of every range.

    The base frame's x points forward, y to the arm's left, z up.

    Args:
      profile: the arm.
      hinges: its joints in the model, in the profile's order.
      index: of the joint.
    """
    middle = np.array([hinge.middle_rad for hinge in hinges])
    turned = middle.copy()
    turned[index] += min(STEP_RAD, 0.5 * hinges[index].width_rad)
    chain = Chain(profile, whole=True)
    way = np.asarray(chain.tip(turned) - chain.tip(middle))
    if np.linalg.norm(way) > SEEN_M and _clear(way):
        return f"so that the tip goes {_named(way, WAYS)}"
    axis = hinges[index].axis
    nearly = "" if _clear(axis) else "about "
    return f"counter-clockwise, seen from {nearly}{_named(axis, SIDES)}"


def _clear(vector: Vector) -> bool:
    return bool(np.abs(vector).max() > CLEAR * np.linalg.norm(vector))


def _named(vector: Vector, names: tuple[tuple[str, str], ...]) -> str:
    along = int(np.abs(vector).argmax())
    return names[along][0 if vector[along] > 0 else 1]
