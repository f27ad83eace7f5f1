"""By how much commands break an arm's limits, recomputed from nothing but their positions.

Independent of `mbrl_core.safety`: differences for velocity, acceleration and jerk, MuJoCo's own kinematics for the tip,
`mj_geomDistance` for links. Rounding is allowed for: a difference of third order of angles of some rad, at 10 ms, is
uncertain by 1e-9 rad/s^3, and the safety function takes speeds under 1e-10 rad/s for none, which is 1e-4 rad/s^3; the
profile's kinematics and MuJoCo's agree to a nanometre.
"""

from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from mbrl_core.arm import ArmProfile
from mbrl_core.safety import Limits

Array = NDArray[np.float64]
ALLOWED = {
    "finite": 0.0,
    "position_rad": 1e-8,
    "velocity_rad_s": 1e-6,
    "acceleration_rad_s2": 1e-5,
    "jerk_rad_s3": 1e-3,
    "tcp_speed_m_s": 1e-6,
    "workspace_m": 1e-8,
    "clearance_m": 1e-8,
}


class Checker:
    """Measures commands for one arm."""

    def __init__(self, profile: ArmProfile) -> None:
        """Load the profile's MJCF as it is."""
        self._model = mujoco.MjModel.from_xml_path(str(profile.mjcf_path))
        self._data = mujoco.MjData(self._model)
        ids = [mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_JOINT, joint.name) for joint in profile.joints]
        self._address = self._model.jnt_qposadr[ids]
        self._site = mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_SITE, profile.tool_site)
        self._clearance = profile.clearance_m
        self._pairs = [pair for pair in np.ndindex(self._model.ngeom, self._model.ngeom) if self._apart(*pair)]
        home = profile.vector("home_rad")
        self._allowance = {pair: 0.0 for pair in self._pairs}
        self._put(home)
        for pair in self._pairs:
            self._allowance[pair] = max(0.0, self._too_near(pair))

    def excess(self, positions: Array, dt_s: float, limits: Limits) -> dict[str, float]:
        """How far each limit is exceeded at most, negative where it is not.

        Args:
          positions: (T, J_all) rad, of which the first was at rest.
          dt_s: time between them in s.
          limits: what was to be kept.
        """
        if not np.isfinite(positions).all():
            return dict.fromkeys(ALLOWED, np.inf)
        moved = np.vstack([np.repeat(positions[:1], 3, axis=0), positions])
        velocity, acceleration, jerk = (np.diff(moved, order, axis=0) / dt_s**order for order in (1, 2, 3))
        tips, nearest = zip(*(self._at(position) for position in positions), strict=True)
        tip = np.array(tips)
        speed = np.linalg.norm(np.diff(tip, axis=0, prepend=tip[:1]), axis=1) / dt_s
        return {
            "finite": 0.0,
            "position_rad": float(np.maximum(limits.lower - positions, positions - limits.upper).max()),
            "velocity_rad_s": float((np.abs(velocity) - limits.velocity).max()),
            "acceleration_rad_s2": float((np.abs(acceleration) - limits.acceleration).max()),
            "jerk_rad_s3": float((np.abs(jerk) - limits.jerk).max()),
            "tcp_speed_m_s": float(speed.max() - limits.tcp_speed_m_s),
            "workspace_m": float(np.maximum(limits.workspace_low - tip, tip - limits.workspace_high).max()),
            "clearance_m": max(nearest),
        }

    def _put(self, position: Array) -> None:
        self._data.qpos[self._address] = position
        mujoco.mj_kinematics(self._model, self._data)

    def _at(self, position: Array) -> tuple[Array, float]:
        """The tip, and by how much links are too near."""
        self._put(position)
        return self._data.site_xpos[self._site].copy(), max(self._too_near(pair) for pair in self._pairs)

    def _too_near(self, pair: tuple[int, int]) -> float:
        on_table = 0 in self._model.geom_bodyid[list(pair)]
        least = 0.0 if on_table else self._clearance
        distance = mujoco.mj_geomDistance(self._model, self._data, *pair, 2 * least + 0.01, None)
        return float(least - distance - self._allowance[pair])

    def _apart(self, first: int, second: int) -> bool:
        """Whether the links of two geoms are neither one nor neighbours, joints counted."""
        model: Any = self._model
        links = [int(model.body_weldid[model.geom_bodyid[geom]]) for geom in (first, second)]
        above = [int(model.body_weldid[model.body_parentid[link]]) for link in links]
        return first < second and links[0] != links[1] and links[0] != above[1] and links[1] != above[0]


def broken(excess: dict[str, float]) -> list[str]:
    """Which limits an `excess` breaks by more than rounding."""
    return [name for name, most in excess.items() if most > ALLOWED[name]]
