"""The inner step on the robot: real episodes in, adapted parameters out, by ONNX Runtime and numpy. No torch.

The graph in the bundle is the step of training (`algorithms.inner_step.adapt`), and the batch is made by the code that
training uses (`real_batch`), so a policy adapts here as it would have there. Nothing is kept between calls: which
parameters act, and whether a step is taken, is the caller's to decide; `why_refused` has the rule.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mbrl_core.bundle import ACT, ADAPT, Bundle, check_fits
from mbrl_core.config import refuse
from mbrl_core.critic import critic
from mbrl_core.log_density import log_density
from mbrl_core.onnx_session import load_session
from mbrl_core.real_batch import RealBatch, Single, observations, real_batch
from mbrl_core.tasks.task import Task
from mbrl_core.types import Episode, Vector


class AdaptedStep(NamedTuple):
    """What one inner step came to."""

    theta: Single  # (P,)
    loss: float  # the negative surrogate before the step, dimensionless
    loss_after: float  # likewise after it, on the same batch
    kl: float  # mean KL(before | after) over the batch, nats
    gradient_norm: float  # of the loss


class Adapter:
    """Takes inner steps from any parameters of one bundle's policy."""

    def __init__(self, bundle: Bundle, task: Task) -> None:
        """Load the graphs and try a step of size 0.

        Raises:
          ValueError: the bundle does not adapt, is for another task or arm, or its graphs do not fit its parameters.
        """
        adaptation = bundle.metadata.adaptation
        if adaptation is None or bundle.step_sizes is None:
            raise refuse("bundle.adaptation", "a policy of a method with an inner step", None)
        check_fits(bundle, task.profile, task)
        self.metadata = adaptation
        self.task, self._size, self._value = task, len(bundle.theta), bundle.value
        self._norm = {"obs_mean": bundle.obs_mean, "obs_scale": bundle.obs_scale}
        self._step_sizes = bundle.step_sizes
        self._act, self._adapt = load_session(bundle.act_onnx, ACT), load_session(bundle.adapt_onnx, ADAPT)
        self._try(bundle)

    def log_prob(self, theta: Single, obs: Vector | Single, actions: Vector | Single) -> Vector:
        """Log density of drawn actions.

        Args:
          theta: (P,), of the policy that drew them.
          obs: (B, O), raw units.
          actions: (B, A), before any limit.

        Returns:
          (B,) nats.

        Raises:
          ValueError: theta has a wrong length or is not finite.
        """
        return log_density(*self.distribution(theta, obs), np.asarray(actions, dtype=np.float64))

    def distribution(self, theta: Single, obs: Vector | Single) -> tuple[Vector, Vector]:
        """Mean (B, A) and log standard deviation (A,) of the action, given raw observations (B, O).

        Raises:
          ValueError: theta has a wrong length or is not finite.
        """
        feeds = self._norm | {"theta": self._checked(theta), "obs": np.asarray(obs, dtype=np.float32)}
        mean, log_std = (np.asarray(part, dtype=np.float64) for part in self._act.run(["mean", "log_std"], feeds))
        return mean, log_std

    def value(self, obs: Vector) -> Vector:
        """The critic's value of raw observations, (..., O), in units of the reward: (...)."""
        rows = (obs - self._norm["obs_mean"]) / self._norm["obs_scale"]
        return np.asarray(critic(self._value, rows.reshape(-1, rows.shape[-1]))).reshape(rows.shape[:-1])

    def batch(self, episodes: Sequence[Episode], thetas: Sequence[Single]) -> RealBatch:
        """Make the batch of a step; `thetas` holds, for each episode, the parameters that acted in it: (P,) each.

        Raises:
          ValueError: no step counts, an episode does not fit the task, or thetas are not one for each.
        """
        if len(thetas) != len(episodes):
            raise refuse("thetas", f"one for each of {len(episodes)} episodes", len(thetas))
        log_probs = [
            self.log_prob(theta, observations(self.task, episode)[:-1], episode.actions_asked)
            for episode, theta in zip(episodes, thetas, strict=True)
        ]
        discount, trace = self.metadata.discount, self.metadata.trace
        return real_batch(self.task, episodes, log_probs, self.value, discount=discount, trace=trace)

    def step(self, theta: Single, batch: RealBatch, *, scale: float = 1.0) -> AdaptedStep:
        """Take one inner step from theta (P,); nothing is changed.

        Args:
          theta: where it begins.
          batch: steps of the policy that acted.
          scale: factor on the step sizes.

        Raises:
          ValueError: the batch is empty, contradicts itself, has a number that is not finite or no step that counts,
            theta does not fit, or the step's result is not finite.
        """
        rows = _checked_batch(batch, self.task)
        outputs = self._run({"theta": self._checked(theta), "step_sizes": np.float32(scale) * self._step_sizes}, rows)
        if not all(np.isfinite(output).all() for output in outputs):
            raise refuse("adapt.onnx: outputs", "finite numbers", "NaN or infinity")
        return AdaptedStep(np.asarray(outputs[0]), *(float(output) for output in outputs[1:]))

    def why_refused(self, step: AdaptedStep, *, max_kl: float = 0.0) -> str:
        """Why the policy that a step came from should stay: one sentence; empty where the step is a good one.

        Args:
          step: of this adapter.
          max_kl: the furthest that it may move the policy, nats; 0 = the bundle's own bound.
        """
        bound = max_kl or self.metadata.max_kl
        if not step.kl <= bound:  # so that NaN is refused, too
            return f"KL of the step: expected at most {bound:g} nats, got {step.kl:g}"
        if not step.loss_after <= step.loss:
            return f"loss after the step: expected at most {step.loss:g}, got {step.loss_after:g}"
        return ""

    def _checked(self, theta: Single) -> Single:
        theta = np.asarray(theta, dtype=np.float32)
        if theta.shape != (self._size,) or not np.isfinite(theta).all():
            raise refuse("theta", f"({self._size},), finite", theta.shape)
        return theta

    def _run(self, parameters: dict[str, Single], batch: RealBatch) -> list[np.ndarray]:
        names = ["theta_adapted", "loss", "loss_after", "kl", "gradient_norm"]
        outputs: list[np.ndarray] = self._adapt.run(names, self._norm | parameters | batch._asdict())
        return outputs

    def _try(self, bundle: Bundle) -> None:
        """A step of size 0 on two steps at the mean observation, so that a bad bundle is refused at once."""
        zeros, size = np.zeros(2, dtype=np.float32), self._size
        obs, actions = np.stack([bundle.obs_mean] * 2), np.zeros((2, self.task.action_dim), dtype=np.float32)
        batch = RealBatch(obs, actions, zeros, zeros, zeros + 1)
        try:
            self.log_prob(bundle.theta, obs, actions)
            outputs = self._run({"theta": bundle.theta, "step_sizes": np.zeros(size, dtype=np.float32)}, batch)
        except Exception as error:  # ONNX Runtime's exceptions have no common class of their own
            raise refuse(f"bundle.{ADAPT}", "a graph that fits the bundle's parameters", str(error)) from error
        shapes = [output.shape for output in outputs]
        if shapes != [(size,), (), (), (), ()] or not np.array_equal(outputs[0], bundle.theta):
            raise refuse(f"bundle.{ADAPT}: outputs", "theta where the step has size 0, and four numbers", shapes)


def _checked_batch(batch: RealBatch, task: Task) -> RealBatch:
    """The same in float32; a single step gets a second one that weighs nothing, since the graph takes two or more."""
    count = len(batch.obs)
    if not count:
        raise refuse("batch", "at least one step", count)
    widths = {"obs": (task.obs_dim,), "actions": (task.action_dim,), "log_prob": (), "advantages": (), "weights": ()}
    for name, width in widths.items():
        array = getattr(batch, name)
        if array.shape != (count, *width):
            raise refuse(f"batch.{name}", (count, *width), array.shape)
        if not np.isfinite(array).all():
            raise refuse(f"batch.{name}", "finite numbers", "NaN or infinity")
    if (batch.weights < 0).any() or not batch.weights.any():
        raise refuse("batch.weights", "none below 0, and one above", batch.weights.tolist())
    single = RealBatch(*(np.asarray(part, dtype=np.float32) for part in batch))
    if count > 1:
        return single
    twice = RealBatch(*(np.concatenate([part, part]) for part in single))
    return twice._replace(weights=np.array([single.weights[0], 0.0], dtype=np.float32))
