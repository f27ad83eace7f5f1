"""How far an arm is from touching itself or the table, by its MuJoCo model: `clear` of `mbrl_core.safety.limit`.

Links keep the profile's clearance from each other and stay out of the table, which they may touch: arms rest on it.
Neighbours, and links without a joint between them, are left out: they overlap where they are joined. A pair that is
nearer than that at home (shapes are primitives, larger than the links) need be no further apart than it is there.
"""

import itertools
from typing import Any

import mujoco
import numpy as np

from mbrl_core.arm import ArmProfile
from mbrl_core.types import Vector
from mbrl_sim.model_names import joint_id

FAR_M = 0.08  # further than this is not measured


class SelfCollision:
    """Measures poses. It keeps one MuJoCo state to work in, so it belongs to one thread."""

    def __init__(self, profile: ArmProfile) -> None:
        """Read the profile's MJCF.

        Raises:
          ValueError: a joint of the profile is not in it.
        """
        self._model = _pairs_only(profile)
        self._data = mujoco.MjData(self._model)
        joints = [joint_id(self._model, joint.name) for joint in profile.joints]
        self._address = self._model.jnt_qposadr[joints]
        self._reach = _reach(self._model, joints)
        pairs = list(zip(self._model.pair_geom1.tolist(), self._model.pair_geom2.tolist(), strict=True))
        self._least = np.zeros((self._model.ngeom, self._model.ngeom))
        self._at(profile.vector("home_rad"))
        for first, second in pairs:
            least = 0.0 if 0 in self._model.geom_bodyid[[first, second]] else profile.clearance_m
            at_home = mujoco.mj_geomDistance(self._model, self._data, first, second, FAR_M, None)
            self._least[first, second] = self._least[second, first] = min(least, at_home)
        self._far = FAR_M - profile.clearance_m  # true of every pair that is not measured

    def __call__(self, poses: Vector) -> Vector:
        """How much further apart than they must be the nearest links are: (N, J_all) rad to (N,) m.

        Negative where they are too near. The first pose is measured; of one that is free by how little it differs from
        the first or the last, no more is found out, and less than the truth is said of it.
        """
        known = self._known_from(0, poses)
        if known.min() <= 0.0 and len(poses) > 1:
            known = np.maximum(known, self._known_from(-1, poses))
        for index in np.flatnonzero(known <= 0.0).tolist():
            known[index] = self._distance(poses[index])
        return known

    def _known_from(self, index: int, poses: Vector) -> Vector:
        """What measuring one of the poses tells of all, (N,) m: at least this much is left."""
        return np.asarray(self._distance(poses[index]) - np.abs(poses - poses[index]) @ self._reach)

    def _at(self, pose: Vector) -> None:
        self._data.qpos[self._address] = pose
        mujoco.mj_kinematics(self._model, self._data)

    def _distance(self, pose: Vector) -> float:
        self._at(pose)
        mujoco.mj_collision(self._model, self._data)
        contact = self._data.contact
        if not self._data.ncon:
            return self._far
        geoms = contact.geom
        return min(self._far, float((contact.dist - self._least[geoms[:, 0], geoms[:, 1]]).min()))


def _pairs_only(profile: ArmProfile) -> Any:
    """The MJCF with contacts between links that are no neighbours, and no others, from FAR_M on."""
    spec = mujoco.MjSpec.from_file(str(profile.mjcf_path))
    for index, geom in enumerate(spec.geoms):
        geom.contype = geom.conaffinity = 0
        geom.name = geom.name or f"geom {index}"
    for listed in (*spec.pairs, *spec.excludes):
        spec.delete(listed)
    model = spec.compile()
    for first, second in itertools.combinations(range(model.ngeom), 2):
        if strangers(model, first, second):
            spec.add_pair(geomname1=model.geom(first).name, geomname2=model.geom(second).name, margin=FAR_M)
    return spec.compile()


def strangers(model: Any, first: int, second: int) -> bool:
    """Whether two geoms belong to links that are no neighbours; a link without a joint is one with its parent."""
    bodies = [int(model.body_weldid[model.geom_bodyid[geom]]) for geom in (first, second)]
    parents = [int(model.body_weldid[model.body_parentid[body]]) for body in bodies]
    return bodies[0] != bodies[1] and bodies[0] != parents[1] and bodies[1] != parents[0]


def _reach(model: Any, joints: list[int]) -> Vector:
    """How far from each joint's axis a point of the arm beyond it can be at most: (J_all,) m."""
    reach = np.zeros(model.njnt)
    for geom in range(model.ngeom):
        body = int(model.geom_bodyid[geom])
        far = float(model.geom_rbound[geom] + np.linalg.norm(model.geom_pos[geom]))
        while body:
            for joint in range(model.body_jntadr[body], model.body_jntadr[body] + model.body_jntnum[body]):
                reach[joint] = max(reach[joint], far)
            far += float(np.linalg.norm(model.body_pos[body]))
            body = int(model.body_parentid[body])
    return np.asarray(reach[joints])
