"""A torch module as a plain ONNX graph: standard operators, no trace of the machine that made it."""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import onnx
import torch
from torch import Tensor

OPSET = 20


def export_model(
    module: torch.nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    *,
    batched: Sequence[str] = (),
    smallest: int = 1,
    axis: int = 0,
) -> onnx.ModelProto:
    """Trace a module.

    Args:
      module: takes the inputs in their order.
      inputs: examples, by name; a size that is free must coincide with no other size.
      outputs: names.
      batched: inputs that have an axis of free size, the same for all.
      smallest: that size at least.
      axis: which axis that is.

    Returns:
      The model. Node metadata is removed: the exporter writes stack traces with local file paths into it.
    """
    batch = {axis: torch.export.Dim("batch", min=smallest)}
    with _quiet():
        program = torch.onnx.export(
            _Positional(module),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=(tuple(batch if name in batched else {} for name in inputs),),
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    model: onnx.ModelProto = program.model_proto
    _strip(model)
    return model


class _Positional(torch.nn.Module):
    """Any number of inputs under one name, as torch.export wants their free sizes: those of a module with *inputs."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self._module = module

    def forward(self, *inputs: Tensor) -> Any:
        return self._module(*inputs)


def serialised(model: onnx.ModelProto) -> bytes:
    """The bytes of a model; the same model gives the same bytes."""
    graph: bytes = model.SerializeToString(deterministic=True)
    return graph


def _strip(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer):
        del value.metadata_props[:]


@contextmanager
def _quiet() -> Iterator[Any]:
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
