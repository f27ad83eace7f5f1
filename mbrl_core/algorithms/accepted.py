"""The last policy that validation accepted, and the bundle that is made of it."""

from dataclasses import dataclass

import numpy as np

from mbrl_core.bundle import Bundle, describe
from mbrl_core.models.normaliser import Normaliser
from mbrl_core.policies.export import act_graph
from mbrl_core.policies.gaussian_mlp import GaussianMlp, Parameters
from mbrl_core.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """A policy with its value function and what they were learned from."""

    version: int  # 0 = the initial policy, which nobody has accepted
    policy: Parameters
    value: Parameters
    obs_norm: Normaliser
    real_steps: int = 0
    ensemble_id: str = ""


class BundleMaker:
    """Makes bundles; the graph is exported once, since parameters are its inputs."""

    def __init__(self, task: Task, policy: GaussianMlp) -> None:
        """Take the task and the policy's shape."""
        self._task, self._policy = task, policy
        self._graph = b""

    def make(self, accepted: Accepted) -> Bundle:
        """Return the bundle of an accepted policy."""
        self._graph = self._graph or act_graph(self._policy)
        metadata = describe(
            self._task,
            policy_version=accepted.version,
            real_steps=accepted.real_steps,
            ensemble_id=accepted.ensemble_id,
        )
        tensors = {
            "theta": self._policy.flatten(accepted.policy),
            "obs_mean": accepted.obs_norm.mean,
            "obs_scale": accepted.obs_norm.scale,
        }
        arrays = {name: tensor.detach().cpu().numpy().astype(np.float32) for name, tensor in tensors.items()}
        return Bundle(metadata=metadata, act_onnx=self._graph, **arrays)
