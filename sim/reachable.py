"""Where the tool tip can go: damped least squares on a MuJoCo model, within the soft limits."""

from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from mbrl_core.arm import ArmProfile
from mbrl_sim.model_names import joint_id, site_id

Array = NDArray[np.float64]
STEPS = 100
NEAR_M = 1e-3
STEP_RAD = 0.2
DAMPING = 1e-4


def nearest(profile: ArmProfile, model: Any, data: Any, goal: Array) -> Array:
    """Move the tip from home towards a goal with the controlled joints; `data` is left in that pose.

    Args:
      profile: joints, soft limits and home.
      model: of the profile's MJCF.
      data: of that model; its joints are moved.
      goal: (3,) m, base frame.

    Returns:
      (3,) m, the tip when it is within a millimetre of the goal, or when it has come no nearer for too long.
    """
    joints = [joint_id(model, profile.joints[index].name) for index in profile.controlled]
    address, dof = model.jnt_qposadr[joints], model.jnt_dofadr[joints]
    lower, upper = profile.vector("lower_rad")[profile.controlled], profile.vector("upper_rad")[profile.controlled]
    everything = [model.jnt_qposadr[joint_id(model, joint.name)] for joint in profile.joints]
    data.qpos[everything] = profile.vector("home_rad")
    site, jacobian = site_id(model, profile.tool_site), np.zeros((3, model.nv))
    for _ in range(STEPS):
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        error = goal - data.site_xpos[site]
        if np.linalg.norm(error) < NEAR_M:
            break
        mujoco.mj_jacSite(model, data, jacobian, None, site)
        active = jacobian[:, dof]
        step = active.T @ np.linalg.solve(active @ active.T + DAMPING * np.eye(3), error)
        data.qpos[address] = np.clip(data.qpos[address] + np.clip(step, -STEP_RAD, STEP_RAD), lower, upper)
    return np.array(data.site_xpos[site])
