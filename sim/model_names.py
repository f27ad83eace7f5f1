"""Joints, actuators and sites of a MuJoCo model by the names of a profile."""

from typing import Any

import mujoco
import numpy as np

from mbrl_core.config import refuse


def joint_id(model: Any, name: str) -> int:
    """A hinge by its name.

    Raises:
      ValueError: no such joint, or no hinge.
    """
    index: int = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, name)
    if index < 0 or model.jnt_type[index] != mujoco.mjtJoint.mjJNT_HINGE:
        known = _names(model, mujoco.mjtObj.mjOBJ_JOINT, model.njnt)
        raise refuse("joints", f"a hinge joint of the MJCF, which has {known}", name)
    return index


def actuator_id(model: Any, joint: int) -> int:
    """The one actuator of a joint.

    Raises:
      ValueError: none or several.
    """
    found = np.flatnonzero(model.actuator_trnid[:, 0] == joint)
    if found.size != 1:
        name = mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_JOINT, joint)
        raise refuse(f"MJCF actuators of joint {name}", "1", int(found.size))
    return int(found[0])


def site_id(model: Any, name: str) -> int:
    """A site by its name.

    Raises:
      ValueError: no such site.
    """
    index: int = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE, name)
    if index < 0:
        known = _names(model, mujoco.mjtObj.mjOBJ_SITE, model.nsite)
        raise refuse("tool_site", f"a site of the MJCF, which has {known}", name)
    return index


def _names(model: Any, kind: int, count: int) -> list[str | None]:
    return [mujoco.mj_id2name(model, kind, index) for index in range(count)]
