"""The last policy that validation accepted, and the bundle that is made of it."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mbrl_core.bundle import Bundle, describe
from mbrl_core.models.normaliser import Normaliser
from mbrl_core.policies.export import act_graph
from mbrl_core.policies.gaussian_mlp import GaussianMlp, Parameters
from mbrl_core.tasks.task import Task


class Trained(NamedTuple):
    """What a method improves."""

    policy: Parameters
    value: Parameters
    step_sizes: Parameters = {}  # of the inner step, for methods that adapt
    adapted: Parameters = {}  # the policies adapted last, one per member asked, with a leading axis K; likewise

    def copied(self) -> "Trained":
        """The same numbers, on their own."""
        return Trained(*({name: tensor.detach().clone() for name, tensor in part.items()} for part in self))


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """A policy with its value function and what they were learned from."""

    version: int  # 0 = the initial policy, which nobody has accepted
    trained: Trained
    obs_norm: Normaliser
    real_steps: int = 0
    ensemble_id: str = ""


class BundleMaker:
    """Makes bundles; the graph is exported once, since parameters are its inputs."""

    def __init__(self, task: Task, policy: GaussianMlp) -> None:
        """Take the task and the policy's shape."""
        self._task, self._policy = task, policy
        self._graph = b""

    def make(self, accepted: Accepted, member: int | None = None) -> Bundle:
        """Return the bundle of an accepted policy, or of what one member has adapted it to."""
        self._graph = self._graph or act_graph(self._policy)
        metadata = describe(
            self._task,
            policy_version=accepted.version,
            real_steps=accepted.real_steps,
            ensemble_id=accepted.ensemble_id,
        )
        trained = accepted.trained
        policy = trained.policy if member is None else {name: part[member] for name, part in trained.adapted.items()}
        tensors = {
            "theta": self._policy.flatten(policy),
            "obs_mean": accepted.obs_norm.mean,
            "obs_scale": accepted.obs_norm.scale,
        }
        arrays = {name: tensor.detach().cpu().numpy().astype(np.float32) for name, tensor in tensors.items()}
        return Bundle(metadata=metadata, act_onnx=self._graph, **arrays)
