"""The last policy that validation accepted, and the bundle that is made of it."""

import dataclasses
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mbrl_core.bundle import MAX_MEMBER_BYTES, AdaptationMetadata, Bundle, DisagreementMetadata, describe
from mbrl_core.models.ensemble import Ensemble
from mbrl_core.models.ensemble_graph import BOUNDS, EnsembleGraph
from mbrl_core.models.normaliser import Normaliser
from mbrl_core.policies.export import act_graph, adapt_graph
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
    gate: Parameters = field(default_factory=dict)  # of `models.ensemble_graph.calibrated`, on the ensemble of that id


class BundleMaker:
    """Makes bundles; each graph is exported once, since what changes is an input, or put in afterwards."""

    def __init__(
        self,
        task: Task,
        policy: GaussianMlp,
        *,
        adaptation: AdaptationMetadata | None = None,
        ensemble: Ensemble | None = None,
    ) -> None:
        """Take what policies are for.

        Args:
          task: what they do.
          policy: their shape.
          adaptation: of a method that adapts.
          ensemble: whose disagreement goes with them; its numbers come with each policy.
        """
        self._task, self._policy, self._adaptation, self._ensemble = task, policy, adaptation, ensemble
        self._graph: EnsembleGraph | None = None
        self._gate: tuple[Parameters, bytes] = {}, b""  # the last that was made

    def make(self, accepted: Accepted, member: int | None = None) -> Bundle:
        """Return the bundle of an accepted policy, or of what one member has adapted it to.

        That of a member only acts: it collects the learner's data, and neither adapts nor is watched. An ensemble too
        large for a bundle is left out.
        """
        metadata = describe(
            self._task,
            policy_version=accepted.version,
            real_steps=accepted.real_steps,
            ensemble_id=accepted.ensemble_id,
        )
        trained = accepted.trained
        policy = trained.policy if member is None else {name: part[member] for name, part in trained.adapted.items()}
        bundle = Bundle(
            metadata=metadata,
            act_onnx=act_graph(self._policy),
            theta=_single(self._policy.flatten(policy)),
            obs_mean=_single(accepted.obs_norm.mean),
            obs_scale=_single(accepted.obs_norm.scale),
        )
        return bundle if member is not None else self._with_gate(self._with_inner_step(bundle, trained), accepted.gate)

    def _with_inner_step(self, bundle: Bundle, trained: Trained) -> Bundle:
        if self._adaptation is None:
            return bundle
        return dataclasses.replace(
            bundle,
            metadata=dataclasses.replace(bundle.metadata, adaptation=self._adaptation),
            adapt_onnx=adapt_graph(self._policy, self._adaptation.form),
            step_sizes=_single(self._policy.flatten(trained.step_sizes)),
            value={name: _single(tensor) for name, tensor in trained.value.items()},
        )

    def _with_gate(self, bundle: Bundle, gate: Parameters) -> Bundle:
        if not gate or self._ensemble is None:
            return bundle
        if self._gate[0] is not gate:
            self._graph = self._graph or EnsembleGraph(self._ensemble)
            self._gate = gate, self._graph.of(gate)
        if len(self._gate[1]) > MAX_MEMBER_BYTES:
            return bundle
        bounds = DisagreementMetadata(**{name: float(gate[name]) for name in BOUNDS})
        metadata = dataclasses.replace(bundle.metadata, disagreement=bounds)
        return dataclasses.replace(bundle, metadata=metadata, ensemble_onnx=self._gate[1])


def _single(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().cpu().numpy().astype(np.float32)
    return array
