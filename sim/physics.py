"""The arm's body: MuJoCo rigid bodies with one position servo per joint, in the profile's joint order.

A servo is a DC motor behind a gear: its controller asks for kp * (target - position) - kd * velocity, cut at the
stall torque; back-EMF takes torque away in proportion to speed (the joint's damping); dry friction makes it stick.
All of these stand in the MJCF, so a step runs in C.
"""

from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from mbrl_core.arm import ArmProfile
from mbrl_core.config import refuse
from mbrl_sim.model_names import actuator_id, joint_id, site_id
from mbrl_sim.perturbation import Perturbation, perturbed_model
from mbrl_sim.profile_check import check_profile

Array = NDArray[np.float64]


class ArmPhysics:
    """An arm on its table. Starts at the profile's home pose with every servo holding it.

    Args:
      profile: names the MJCF, the joints and the tool site.
      seed: of `rng`, which whoever measures or perturbs this arm draws from; the motion itself is deterministic.
      perturbation: how this arm differs from its profile; None = not at all.

    Raises:
      ValueError: the profile contradicts its MJCF (`check_profile`), or the perturbation names no joint of it.
    """

    def __init__(self, profile: ArmProfile, *, seed: int = 0, perturbation: Perturbation | None = None) -> None:
        """Load the MJCF and put the arm at home."""
        self.profile = profile
        self.rng = np.random.default_rng(seed)
        differs = perturbation or Perturbation()
        check_profile(profile)
        self.model = perturbed_model(profile, differs)
        self.data = mujoco.MjData(self.model)
        joints = [joint_id(self.model, joint.name) for joint in profile.joints]
        self._qpos = self.model.jnt_qposadr[joints]
        self._dof = self.model.jnt_dofadr[joints]
        self._range: Array = self.model.jnt_range[joints].copy()
        self._actuator = np.array([actuator_id(self.model, joint) for joint in joints])
        self._site = site_id(self.model, profile.tool_site)
        self._gain: Array = self.model.actuator_gainprm[self._actuator, 0].copy()
        self._bias: Array = self.model.actuator_biasprm[self._actuator, :3].copy()
        self.stall_torque: Array = self.model.actuator_forcerange[self._actuator, 1].copy()
        self._stiffness_of_arm: Array = np.array(
            [differs.stiffness if joint.name == differs.joint else 1.0 for joint in profile.joints]
        )
        self._delay_s = differs.delay_s
        self._on_the_way: list[tuple[float, Array]] = []  # s, when a target reaches the servos, and the target
        self._stiffness: Array = np.ones(len(joints))
        self._torque_limit: Array = np.ones(len(joints))
        self._enabled = np.ones(len(joints), dtype=bool)
        self._remainder_s = 0.0
        self._apply_servo()
        self.reset(profile.vector("home_rad"))

    def reset(self, position: Array) -> None:
        """Put the arm at rest at a position, target there too, and the clock at 0.

        Args:
          position: (J_all,), rad.

        Raises:
          ValueError: wrong shape, not finite or outside the MJCF's ranges.
        """
        position = self._checked("position", position)
        outside = np.flatnonzero((position < self._range[:, 0]) | (position > self._range[:, 1]))
        if outside.size:
            index = int(outside[0])
            low, high = self._range[index]
            raise refuse(f"position.{self.profile.joints[index].name}", f"in [{low}, {high}]", float(position[index]))
        mujoco.mj_resetData(self.model, self.data)
        self._remainder_s = 0.0
        self._on_the_way.clear()
        self.data.qpos[self._qpos] = position
        self.data.ctrl[self._actuator] = position
        mujoco.mj_forward(self.model, self.data)

    def push(self, position: Array, joints: NDArray[np.bool_]) -> None:
        """Put some joints, now at rest, where a hand leads them; past the MJCF's range they stop at its end.

        Args:
          position: (J_all,), rad; of the others it says nothing.
          joints: (J_all,), which are led.

        Raises:
          ValueError: wrong shape or not finite.
        """
        position = np.clip(self._checked("position", position), self._range[:, 0], self._range[:, 1])
        self.data.qpos[self._qpos[joints]] = position[joints]
        self.data.qvel[self._dof[joints]] = 0.0
        mujoco.mj_forward(self.model, self.data)

    def set_target(self, position: Array) -> None:
        """Give every servo its goal, which a delayed arm follows later: (J_all,), rad.

        Raises:
          ValueError: wrong shape or not finite.
        """
        self._on_the_way.append((self.time_s + self._delay_s, self._checked("target", position).copy()))
        self._deliver()

    @property
    def torque_enabled(self) -> NDArray[np.bool_]:
        """Which servos drive their joint; the others are limp: (J_all,)."""
        return self._enabled.copy()

    def set_torque_enabled(self, enabled: Any) -> None:
        """Switch servos on or off: one bool for all or (J_all,)."""
        self._enabled[:] = enabled
        self._apply_servo()

    def set_servo(self, index: int, *, stiffness: float, torque_limit: float) -> None:
        """Scale one servo's controller.

        Args:
          index: joint, in the profile's order.
          stiffness: factor on the controller's kp, at least 0.
          torque_limit: fraction of the stall torque, in [0, 1].

        Raises:
          ValueError: a factor out of its bounds.
        """
        if not 0.0 <= stiffness < np.inf:
            raise refuse("stiffness", "at least 0", stiffness)
        if not 0.0 <= torque_limit <= 1.0:
            raise refuse("torque_limit", "in [0, 1]", torque_limit)
        self._stiffness[index], self._torque_limit[index] = stiffness, torque_limit
        self._apply_servo()

    def advance(self, duration_s: float) -> None:
        """Let time pass. What is left over of a time step is carried to the next call.

        Raises:
          ValueError: a duration that is negative or not finite.
        """
        if not 0.0 <= duration_s < np.inf:
            raise refuse("duration_s", "at least 0", duration_s)
        self._deliver()
        step_s = self.model.opt.timestep
        self._remainder_s += duration_s
        steps = int(self._remainder_s / step_s + 1e-6)
        if steps:
            mujoco.mj_step(self.model, self.data, steps)
        self._remainder_s = max(0.0, self._remainder_s - steps * step_s)

    @property
    def time_s(self) -> float:
        """Time since the reset in s."""
        return float(self.data.time) + self._remainder_s

    @property
    def position(self) -> Array:
        """Joint angles now, carried on over the fraction of a step at the present speed: (J_all,), rad."""
        return np.asarray(self.data.qpos[self._qpos] + self._remainder_s * self.data.qvel[self._dof])

    @property
    def velocity(self) -> Array:
        """Joint speeds: (J_all,), rad/s."""
        return np.asarray(self.data.qvel[self._dof])

    @property
    def load(self) -> Array:
        """Torque that each servo's controller asks of its motor: (J_all,), N m."""
        return np.asarray(self.data.actuator_force[self._actuator])

    @property
    def tip(self) -> Array:
        """Position of the tool site in the base frame: (3,), m."""
        mujoco.mj_kinematics(self.model, self.data)
        return np.array(self.data.site_xpos[self._site])

    def _deliver(self) -> None:
        """Let the targets that have arrived by now reach the servos."""
        while self._on_the_way and self._on_the_way[0][0] <= self.time_s + 1e-9:
            self.data.ctrl[self._actuator] = self._on_the_way.pop(0)[1]

    def _checked(self, name: str, values: Array) -> Array:
        values = np.asarray(values, dtype=float)
        if values.shape != self._qpos.shape:
            raise refuse(f"{name}.shape", self._qpos.shape, values.shape)
        if not np.isfinite(values).all():
            raise refuse(name, "finite numbers", values.tolist())
        return values

    def _apply_servo(self) -> None:
        gain = self._stiffness_of_arm * self._stiffness * self._enabled
        limit = self.stall_torque * self._torque_limit * self._enabled
        self.model.actuator_gainprm[self._actuator, 0] = self._gain * gain
        self.model.actuator_biasprm[self._actuator, 1] = self._bias[:, 1] * gain
        self.model.actuator_biasprm[self._actuator, 2] = self._bias[:, 2] * self._enabled
        self.model.actuator_forcerange[self._actuator] = np.stack([-limit, limit], axis=1)
