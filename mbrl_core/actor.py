"""Who acts: a learned policy on ONNX Runtime, a random explorer or nobody. No torch: this runs on the robot.

All have `version`, `act(obs, rng)`, whose actions lie in [-1, 1], and `draw(obs, rng)`, which gives them before that
limit: what a policy gradient needs, since a clipped action has no density.
"""

import hashlib
import math

import numpy as np
import onnxruntime

from mbrl_core.bundle import ACT, Bundle
from mbrl_core.config import refuse
from mbrl_core.onnx_session import load_session
from mbrl_core.types import Vector


class Actor:
    """Acts by a bundle's policy, on one thread; `draw` and `update` are called from the same one."""

    def __init__(self, bundle: Bundle) -> None:
        """Load the graph and try it once.

        Raises:
          ValueError: the graph does not run, or its shapes are not the bundle's.
        """
        self._graph_hash = b""
        self._session: onnxruntime.InferenceSession
        self.update(bundle)

    def update(self, bundle: Bundle) -> None:
        """Change to another policy; when this raises, the old one is still in place.

        Raises:
          ValueError: as for the constructor.
        """
        graph_hash = hashlib.sha256(bundle.act_onnx).digest()
        session = self._session if graph_hash == self._graph_hash else load_session(bundle.act_onnx, ACT)
        _try(session, bundle)
        inputs = _inputs(bundle)
        self._binding, self._inputs = _bound(session, inputs), inputs  # kept: the binding has no copy of its own
        self._session, self._graph_hash = session, graph_hash
        self.version = bundle.version

    def act(self, obs: Vector, rng: np.random.Generator | None = None) -> Vector:
        """Return what `draw` does, clipped: (A,), in [-1, 1]. Raises ValueError as it does."""
        return np.minimum(np.maximum(self.draw(obs, rng), -1.0), 1.0)  # half the time of np.clip

    def draw(self, obs: Vector, rng: np.random.Generator | None = None) -> Vector:
        """Return the policy's mean, or with a generator a sample.

        Args:
          obs: (O,), raw units.
          rng: draws the exploration noise.

        Returns:
          (A,), before any limit.

        Raises:
          ValueError: the observation has a wrong shape, or something is not finite.
        """
        obs = np.asarray(obs, dtype=np.float64)
        if obs.shape != self._inputs["obs_mean"].shape or not _is_finite(obs):
            raise refuse("obs", f"{self._inputs['obs_mean'].shape}, finite", obs)
        self._binding.bind_cpu_input("obs", obs.astype(np.float32)[None])
        self._session.run_with_iobinding(self._binding)
        mean, log_std = self._binding.copy_outputs_to_cpu()
        action: Vector = mean[0].astype(np.float64)
        if rng is not None:
            action = action + np.exp(log_std.astype(np.float64)) * rng.standard_normal(len(action))
        if not _is_finite(action):
            raise refuse("action", "finite numbers", action)
        return action


class RandomActor:
    """Explores before there is a policy: uniform actions, each held for some steps and then, on an arm, taken back.

    Held, so that the arm gets somewhere; taken back, so that it stays where it started: a drifting arm hits the table
    in every fourth episode, and the contacts then spoil the first models.
    """

    version = 0

    def __init__(self, action_dim: int, *, hold_steps: int = 10, take_back: bool = True) -> None:
        """Take A, the number of steps that an action is held, and whether it is then taken back."""
        self._action_dim, self._hold_steps, self._take_back = action_dim, hold_steps, take_back
        self._action: Vector = np.zeros(action_dim)
        self._left, self._back = 0, False

    def act(self, obs: Vector, rng: np.random.Generator | None = None) -> Vector:
        """Return a random action: (A,), in [-1, 1].

        Raises:
          ValueError: no generator is given.
        """
        if rng is None:
            raise refuse("rng", "a generator", None)
        if self._left == 0:
            self._action = -self._action if self._back else rng.uniform(-1.0, 1.0, self._action_dim)
            self._left, self._back = self._hold_steps, self._take_back and not self._back
        self._left -= 1
        return np.array(self._action)

    draw = act  # within the limits as it is


class ZeroActor:
    """Does nothing: a baseline."""

    version = 0

    def __init__(self, action_dim: int) -> None:
        """Take A."""
        self._action_dim = action_dim

    def act(self, obs: Vector, rng: np.random.Generator | None = None) -> Vector:
        """Return (A,) zeros."""
        return np.zeros(self._action_dim)

    draw = act  # likewise


def _is_finite(vector: Vector) -> bool:
    """Whether all numbers are; their squares must be too, which leaves room up to 1e150."""
    return math.isfinite(vector @ vector)


def _inputs(bundle: Bundle) -> dict[str, np.ndarray]:
    parts = {"theta": bundle.theta, "obs_mean": bundle.obs_mean, "obs_scale": bundle.obs_scale}
    return {name: np.ascontiguousarray(array) for name, array in parts.items()}


def _bound(session: onnxruntime.InferenceSession, inputs: dict[str, np.ndarray]) -> onnxruntime.IOBinding:
    """All but the observation; a third faster than handing over the parameters with every call."""
    binding = session.io_binding()
    for name, array in inputs.items():
        binding.bind_cpu_input(name, array)
    for name in ("mean", "log_std"):
        binding.bind_output(name)
    return binding


def _try(session: onnxruntime.InferenceSession, bundle: Bundle) -> None:
    """Run once on the mean observation, so that a bad bundle is refused before the arm moves."""
    action_dim = bundle.metadata.action_dim
    try:
        mean, log_std = session.run(["mean", "log_std"], _inputs(bundle) | {"obs": bundle.obs_mean[None]})
    except Exception as error:  # as above
        raise refuse("bundle.act.onnx", "a graph that fits the bundle's parameters", str(error)) from error
    if mean.shape != (1, action_dim) or log_std.shape != (action_dim,):
        raise refuse("bundle.act.onnx: outputs", f"(1, {action_dim}), ({action_dim},)", (mean.shape, log_std.shape))
    if not (np.isfinite(mean).all() and np.isfinite(log_std).all()):
        raise refuse("bundle.act.onnx: outputs", "finite numbers", "NaN or infinity")
