"""Another arm than the one that was learned on: what may differ between two robots of one kind.

Each is a change of the physics behind the bus; the profile, and so everything that the robot computes, stays that of
the unperturbed arm. Built by editing the MJCF's model before it is compiled, so a step still runs in C.
"""

import math
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from mbrl_core.arm import ArmProfile
from mbrl_core.config import check, refuse, setting


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """How this arm differs from its profile; by default not at all."""

    payload_kg: float = setting(0.0, doc="point mass carried at the tool site", unit="kg", low=0.0, high=2.0)
    stiffness: float = setting(1.0, doc="factor on the position gain of the servo of `joint`", low=0.0, high=10.0)
    friction: float = setting(1.0, doc="factor on every joint's dry friction", low=0.0, high=100.0)
    delay_s: float = setting(0.0, doc="from a command to the servo that follows it", unit="s", low=0.0, high=1.0)
    bend_m: float = setting(0.0, doc="the link before `joint` is longer by this", unit="m", low=-0.1, high=0.1)
    bend_rad: float = setting(0.0, doc="and bent by this, about the joint's axis", unit="rad", low=-0.5, high=0.5)
    joint: str = setting("", doc="joint that stiffness and bend are about; empty = none")


def perturbed_model(profile: ArmProfile, perturbation: Perturbation) -> Any:
    """Compile the profile's MJCF with the perturbation in it.

    Raises:
      ValueError: a value out of bounds, or a stiffness or bend without a joint of the profile.
    """
    check(perturbation)
    spec = mujoco.MjSpec.from_file(str(profile.mjcf_path))
    names = [joint.name for joint in profile.joints]
    about_a_joint = perturbation.stiffness != 1.0 or perturbation.bend_m != 0.0 or perturbation.bend_rad != 0.0
    if perturbation.joint not in names and (about_a_joint or perturbation.joint):
        raise refuse("perturbation.joint", f"one of {names}", perturbation.joint)
    if perturbation.payload_kg > 0.0:
        _add_payload(spec, profile.tool_site, perturbation.payload_kg)
    if perturbation.bend_m != 0.0 or perturbation.bend_rad != 0.0:
        _bend(spec.joint(perturbation.joint).parent, perturbation)
    for joint in spec.joints:
        joint.frictionloss *= perturbation.friction
    return spec.compile()


def _add_payload(spec: Any, site: str, mass_kg: float) -> None:
    """A small sphere that touches nothing, at the tool site."""
    at = spec.site(site)
    body = at.parent.add_body(name="payload", pos=at.pos)
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.01, 0, 0], mass=mass_kg, contype=0, conaffinity=0)


def _bend(body: Any, perturbation: Perturbation) -> None:
    """Move a link's far end along the link, and turn what follows about the joint's axis."""
    length = float(np.linalg.norm(body.pos))
    body.pos = body.pos * (1.0 + perturbation.bend_m / length)
    half = 0.5 * perturbation.bend_rad
    turn = np.array([math.cos(half), *(math.sin(half) * np.asarray(body.joints[0].axis))])
    turned = np.zeros(4)
    mujoco.mju_mulQuat(turned, np.asarray(body.quat, dtype=float), turn)
    body.quat = turned
