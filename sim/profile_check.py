"""Does a profile agree with its MJCF? A contradiction is refused with both values before anything moves.

What only the arm can tell is left to `mbrl calibrate`: whether an encoder counts up in the model's positive direction
(where the encoder's middle is the range's, both signs fit), and where a horn was put on its spline.
"""

import itertools
import math
import sys
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from mbrl_core.arm import ArmProfile, Joint, load_profile
from mbrl_core.config import refuse
from mbrl_core.kinematics import Chain
from mbrl_sim.model_names import actuator_id, joint_id, site_id
from mbrl_sim.reachable import nearest
from mbrl_sim.self_collision import strangers

Array = NDArray[np.float64]
SAME_TIP_M = 1e-6
TOUCHING_M = 1e-3  # depth that a link of primitives may have in the table
FAR_M = 0.01  # distances beyond what is asked for by more than this are not computed
REACHED_M = 0.01  # goals' corners lie this near to where the tip can go


def check_profile(profile: ArmProfile) -> None:
    """Compare a profile with its MJCF.

    Raises:
      ValueError: a joint, its actuator or the tool site is missing; soft limits outside the joint's range, or its
        mirror image; limits beyond the encoder's turn; the home pose in the table or in the arm itself; the tip at home
        or the goals outside the workspace; goals out of reach.
    """
    if not profile.mjcf_path.is_file():
        raise refuse(f"{profile.name}.mjcf", "a file", str(profile.mjcf_path))
    model = mujoco.MjModel.from_xml_path(str(profile.mjcf_path))
    _check_joints(profile, model)
    _check_encoders(profile)
    data = mujoco.MjData(model)
    data.qpos[[model.jnt_qposadr[joint_id(model, joint.name)] for joint in profile.joints]] = profile.vector("home_rad")
    mujoco.mj_forward(model, data)
    _check_kinematics(profile, model, data)
    _check_home(profile, model, data)
    _check_boxes(profile, model, data)


def _check_joints(profile: ArmProfile, model: Any) -> None:
    site_id(model, profile.tool_site)
    for joint in profile.joints:
        index = joint_id(model, joint.name)
        actuator_id(model, index)
        if model.jnt_limited[index]:
            _check_range(joint, *(float(bound) for bound in model.jnt_range[index]))
        else:
            raise refuse(f"{profile.mjcf}: joint {joint.name}.range", "a range", "none")


def _check_range(joint: Joint, low: float, high: float) -> None:
    if low <= joint.lower_rad and joint.upper_rad <= high:
        return
    span = f"inside the MJCF's range [{low}, {high}]"
    if low <= -joint.upper_rad and -joint.lower_rad <= high:
        turned = f"{span}; its mirror image fits: joint or axis is turned round"
        raise refuse(f"{joint.name}.lower_rad, upper_rad", turned, [joint.lower_rad, joint.upper_rad])
    if joint.lower_rad < low:
        raise refuse(f"{joint.name}.lower_rad", span, joint.lower_rad)
    raise refuse(f"{joint.name}.upper_rad", span, joint.upper_rad)


def _check_encoders(profile: ArmProfile) -> None:
    """Zero, sign and soft limits must lie in one turn of the encoder; otherwise say whether the other sign would do."""
    if profile.bus.protocol == "ros2_control":
        return
    last = profile.bus.counts_per_turn - 1
    per_rad = profile.bus.counts_per_turn / (2 * math.pi)
    for joint in profile.joints:
        span = joint.lower_rad, joint.upper_rad
        counts, turned = (
            [joint.zero_count + sign * per_rad * angle for angle in span] for sign in (joint.sign, -joint.sign)
        )
        for name, count in zip(("lower_rad", "upper_rad"), counts, strict=True):
            if not 0 <= count <= last:
                hint = f"; with sign {-joint.sign} it would be" if all(0 <= other <= last for other in turned) else ""
                expected = f"within encoder counts 0 to {last} (zero_count {joint.zero_count}, sign {joint.sign}){hint}"
                raise refuse(f"{joint.name}.{name}", expected, round(count))


def _check_kinematics(profile: ArmProfile, model: Any, data: Any) -> None:
    there = data.site_xpos[site_id(model, profile.tool_site)]
    tip = np.asarray(Chain(profile).tip(profile.vector("home_rad")[profile.controlled]))
    if np.linalg.norm(tip - there) > SAME_TIP_M:
        raise refuse(f"{profile.mjcf}: tip at home", f"{there.round(4).tolist()} (MuJoCo)", tip.round(4).tolist())


def _check_home(profile: ArmProfile, model: Any, data: Any) -> None:
    """Compare every pair of links that are no neighbours; to the table they need no clearance."""
    for pair in itertools.combinations(range(model.ngeom), 2):
        if not strangers(model, *pair):
            continue
        bodies = [model.geom_bodyid[geom] for geom in pair]
        least = profile.clearance_m if all(bodies) else -TOUCHING_M
        distance = mujoco.mj_geomDistance(model, data, *pair, least + FAR_M, None)
        if distance < least:
            expected = f"links {profile.clearance_m} m apart and none in the table (world)"
            names = [model.body(body).name for body in bodies]
            raise refuse(f"{profile.name}: home pose", expected, f"{names} at {distance:.4f} m")


def _check_boxes(profile: ArmProfile, model: Any, data: Any) -> None:
    low, high = np.array(profile.workspace_low_m), np.array(profile.workspace_high_m)
    tip = data.site_xpos[site_id(model, profile.tool_site)].copy()
    box = f"inside the workspace {low.tolist()} to {high.tolist()}"
    if (tip < low).any() or (tip > high).any():
        raise refuse(f"{profile.name}: tip at home", box, tip.round(4).tolist())
    for name in ("goal_low_m", "goal_high_m"):
        corner = np.array(getattr(profile, name))
        if (corner < low).any() or (corner > high).any():
            raise refuse(f"{profile.name}.{name}", box, corner.tolist())
    bounds = np.stack([profile.goal_low_m, profile.goal_high_m])
    for corner in itertools.product(*bounds.T):
        there = nearest(profile, model, data, np.array(corner))
        if np.linalg.norm(there - corner) > REACHED_M:
            got = f"corner {[float(value) for value in corner]}, nearest tip {there.round(3).tolist()}"
            raise refuse(f"{profile.name}.goal_low_m, goal_high_m", "a box within reach", got)


def main(arguments: list[str] | None = None) -> int:
    """Check the profiles whose files are named; say where the tip is at home. Returns the exit status."""
    for name in sys.argv[1:] if arguments is None else arguments:
        try:
            profile = load_profile(name)
            check_profile(profile)
        except ValueError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 2
        tip = Chain(profile).tip(profile.vector("home_rad")[profile.controlled])
        print(f"{profile.name} agrees with {profile.mjcf}; tip at home {', '.join(f'{value:.3f}' for value in tip)} m")
    return 0


if __name__ == "__main__":
    sys.exit(main())
