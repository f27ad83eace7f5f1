"""What goes with a policy of the ensemble that it was improved in: its asked members as an ONNX graph, and two bounds.

The bounds are those of the disagreement on the data that the members were fitted to. Above its 0.99 quantile a step is
unusual: there the arm slows. At three times the 0.999 quantile it holds. One step in a thousand of the training data
lies above that quantile (contacts, the first steps of a motion), so it is the edge of what was seen; unseen states that
the members still agree on reach it too, since members agree best where they were fitted, and three times that leaves
room for those. What is unlike all data exceeds it by far: the members' networks differ without bound there.
"""

import onnx
import torch
from torch import Tensor

from mbrl_core.models.ensemble import Ensemble, spread_of
from mbrl_core.models.normaliser import Normaliser
from mbrl_core.policies.gaussian_mlp import Parameters
from mbrl_core.policies.onnx_graph import export_model, serialised

SLOW_QUANTILE, HOLD_QUANTILE, HOLD_FACTOR = 0.99, 0.999, 3.0
BOUNDS = ("slow_above", "hold_above")


@torch.no_grad()
def calibrated(ensemble: Ensemble, inputs: Tensor) -> Parameters:
    """What a gate on disagreement is made of.

    Args:
      ensemble: as it was fitted.
      inputs: (B, I) of its training data.

    Returns:
      What `Ensemble.standardised_by` takes, and the bounds, () each. Empty where no two members disagree.

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


class EnsembleGraph:
    """Makes `ensemble.onnx`: exported once, after that the members' numbers are put in: milliseconds."""

    def __init__(self, ensemble: Ensemble) -> None:
        """Trace the ensemble; its present numbers do not matter."""
        tensors = {name: tensor.detach().cpu() for name, tensor in ensemble.asked_tensors().items()}
        width = len(tensors["input_mean"])
        inputs = {"inputs": torch.zeros(ensemble.asked, 1009, width)} | tensors
        model = export_model(
            _Members(ensemble, list(tensors)),
            inputs,
            ("mean", "log_var", "disagreement", "features", "scale"),
            batched=("inputs",),
            axis=1,
        )
        self._names = [value.name for value in model.graph.input if value.name in tensors]
        kept = [value for value in model.graph.input if value.name not in tensors]
        del model.graph.input[:]
        model.graph.input.extend(kept)
        self._model = serialised(model)

    def of(self, tensors: Parameters) -> bytes:
        """Return the graph.

        Its input is "inputs" (K, B, I), what each member is asked, raw units. Its outputs are "mean" and "log_var"
        (K, B, D), raw units, "disagreement" (B,), which means something where all members are asked the same,
        "features" (K, B, I), the inputs in standard deviations of the training data, and "scale" (D,), that of the
        targets.

        Args:
          tensors: what `calibrated` gave.
        """
        model = onnx.load_from_string(self._model)
        for name in self._names:
            array = tensors[name].detach().cpu().numpy()
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        return serialised(model)


class _Members(torch.nn.Module):
    """Inputs (K, B, I) and the ensemble's tensors to what `EnsembleGraph.of` says."""

    def __init__(self, ensemble: Ensemble, names: list[str]) -> None:
        super().__init__()
        self._ensemble, self._names = ensemble, names

    def forward(self, inputs: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        named = dict(zip(self._names, tensors, strict=True))
        scale = named["target_scale"]
        features = Normaliser(named["input_mean"], named["input_scale"])(inputs)
        mean, log_var = self._ensemble.standardised_by(named, features)
        raw = mean * scale + named["target_mean"], log_var + 2 * torch.log(scale)
        return *raw, spread_of(mean), features, scale.clone()
