"""A policy as an ONNX graph whose parameters are an input, so that a new policy is new numbers and no new graph."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from mbrl_core.models.normaliser import Normaliser
from mbrl_core.policies.gaussian_mlp import GaussianMlp

OPSET = 20


class _Act(torch.nn.Module):
    """theta (P,), obs_mean (O,), obs_scale (O,), obs (B, O) to mean (B, A), log_std (A,)."""

    def __init__(self, policy: GaussianMlp) -> None:
        super().__init__()
        self._policy = policy

    def forward(self, theta: Tensor, obs_mean: Tensor, obs_scale: Tensor, obs: Tensor) -> tuple[Tensor, Tensor]:
        normalised = Normaliser(obs_mean, obs_scale)(obs)
        return self._policy.distribution(self._policy.unflatten(theta), normalised)


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of optional packages that are not there and of its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def act_graph(policy: GaussianMlp) -> bytes:
    """Return `act.onnx`: inputs theta, obs_mean, obs_scale, obs; outputs mean and log_std; the batch is free.

    Node metadata is removed: the exporter writes stack traces with local file paths into it.
    """
    obs_dim = policy.sizes[0]
    example = (torch.zeros(policy.count), torch.zeros(obs_dim), torch.ones(obs_dim), torch.zeros(3, obs_dim))
    with _quiet():
        program = torch.onnx.export(
            _Act(policy),
            example,
            input_names=["theta", "obs_mean", "obs_scale", "obs"],
            output_names=["mean", "log_std"],
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=({}, {}, {}, {0: torch.export.Dim("batch", min=1)}),
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    model = program.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer):
        del value.metadata_props[:]
    graph: bytes = model.SerializeToString(deterministic=True)
    return graph
