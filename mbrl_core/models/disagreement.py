"""How far the ensemble can be trusted, to go with a policy: its asked members as an ONNX graph, and two bounds.

The bounds are those of the disagreement on the data that the members were fitted to. Above its 0.99 quantile a step is
unusual: there the arm slows. At three times the 0.999 quantile it holds. One step in a thousand of the training data
lies above that quantile (contacts, the first steps of a motion), so it is the edge of what was seen; unseen states that
the members still agree on reach it too, since members agree best where they were fitted, and three times that leaves
room for those. What is unlike all data exceeds it by far: the members' networks differ without bound there.
"""

import onnx
import torch
from torch import Tensor

from mbrl_core.models.ensemble import Ensemble
from mbrl_core.policies.gaussian_mlp import Parameters
from mbrl_core.policies.onnx_graph import export_model, serialised
from mbrl_core.tasks.task import Task

SLOW_QUANTILE, HOLD_QUANTILE, HOLD_FACTOR = 0.99, 0.999, 3.0
BOUNDS = ("slow_above", "hold_above")


@torch.no_grad()
def calibrated(ensemble: Ensemble, inputs: Tensor) -> Parameters:
    """What a gate on disagreement is made of.

    Args:
      ensemble: as it was fitted.
      inputs: (B, I) of its training data.

    Returns:
      What `Ensemble.disagreement_by` takes, and the bounds, () each. Empty where no two members disagree.

    Raises:
      FloatingPointError: the members' disagreement is not finite.
    """
    disagreement = ensemble.disagreement(inputs)
    if not torch.isfinite(disagreement).all():
        raise FloatingPointError("ensemble: expected a finite disagreement on its training data")
    slow, hold = disagreement.quantile(SLOW_QUANTILE), HOLD_FACTOR * disagreement.quantile(HOLD_QUANTILE)
    if not slow < hold:
        return {}
    return ensemble.asked_tensors() | dict(zip(BOUNDS, (slow, hold), strict=True))


class DisagreementGraph:
    """Makes `ensemble.onnx`: exported once, after that the members' numbers are put in: milliseconds."""

    def __init__(self, ensemble: Ensemble, task: Task) -> None:
        """Trace the ensemble behind the task's features; its present numbers do not matter."""
        names = list(ensemble.asked_tensors())
        inputs = {"state": torch.zeros(1, task.state_dim), "action": torch.zeros(1, task.action_dim)}
        inputs |= {name: tensor.detach().cpu() for name, tensor in ensemble.asked_tensors().items()}
        model = export_model(_Disagreement(ensemble, task, names), inputs, ("disagreement",))
        self._shapes = {value.name: value for value in model.graph.input if value.name in names}
        kept = [value for value in model.graph.input if value.name not in names]
        del model.graph.input[:]
        model.graph.input.extend(kept)
        self._model = serialised(model)

    def of(self, tensors: Parameters) -> bytes:
        """Return the graph: inputs state (1, S) and action (1, A), in [-1, 1]; output disagreement ().

        Args:
          tensors: what `calibrated` gave.
        """
        model = onnx.load_from_string(self._model)
        for name in self._shapes:
            array = tensors[name].detach().cpu().numpy()
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        return serialised(model)


class _Disagreement(torch.nn.Module):
    """state (1, S), action (1, A), the ensemble's tensors to disagreement ()."""

    def __init__(self, ensemble: Ensemble, task: Task, names: list[str]) -> None:
        super().__init__()
        self._ensemble, self._task, self._names = ensemble, task, names

    def forward(self, state: Tensor, action: Tensor, *tensors: Tensor) -> Tensor:
        named = dict(zip(self._names, tensors, strict=True))
        return self._ensemble.disagreement_by(named, self._task.model_input(state, action))[0]
