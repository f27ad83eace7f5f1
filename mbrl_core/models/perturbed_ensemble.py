"""An ensemble whose members are made wrong on purpose, to see how much model error a method bears.

The robustness study of MB-MPO (Clavera et al. 2018, arXiv 1809.05214), as its authors' code has it
(`bad_dynamics_ensemble.py`): with every fit each member draws one bias from U(0, b), which is added to all outputs
alike, and noise; both are in standard deviations of the target, so that a level means the same for an angle and for a
speed. Members are fitted as ever, to what is true: only what they predict is wrong. Biases differ but have one sign:
members disagree, and their mean is wrong too.

Noise is added to the predicted variance, from which next states are drawn: the same as adding it to every draw, and
where the mean is followed there is none. `disagreement` stays that of the fitted members.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mbrl_core.config import check
from mbrl_core.models.ensemble import Ensemble, EnsembleConfig, Fit
from mbrl_core.models.perturbation import PerturbationConfig

_STREAM = 64  # of the seed; members' bootstraps have 0 to 63


class PerturbedEnsemble(Ensemble):
    """An ensemble in all but what it predicts."""

    def __init__(
        self, input_dim: int, target_dim: int, config: EnsembleConfig, *, seed: int, device: str = "cpu"
    ) -> None:
        """Draw weights and biases. Raises ValueError for a setting that is out of bounds."""
        check(config.perturbation)
        super().__init__(input_dim, target_dim, config, seed=seed, device=device)
        own = int(np.random.default_rng((seed, _STREAM)).integers(2**63))
        self._bias_generator = torch.Generator(device).manual_seed(own)
        self._draw()

    @property
    def bias(self) -> Tensor:
        """Error of every member and output, raw units: (E, D)."""
        return self._shares * self.config.perturbation.bias * self.target_norm.scale

    def predict(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Predict as the fitted members do, wrongly: mean and log-variance, (K, B, D) each, raw units.

        Raises:
          ValueError: a dimension differs from the model's.
        """
        mean, log_var = super().predict(inputs)
        noise = self.config.perturbation.noise * self.target_norm.scale
        return mean + self._of_elite(self.bias)[:, None], torch.logaddexp(log_var, 2 * torch.log(noise))

    def fit(
        self,
        inputs: Tensor,
        targets: Tensor,
        held_inputs: Tensor,
        held_targets: Tensor,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Fit:
        """Train as ever, then be wrong in another way.

        Raises:
          FloatingPointError: a member never had a finite error.
        """
        fit = super().fit(inputs, targets, held_inputs, held_targets, should_stop)
        self._draw()
        return fit

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a fit depends on beside the settings, and the biases with the generator of the next."""
        return super().tensors() | {"bias_shares": self._shares, "bias_generator": self._bias_generator.get_state()}

    def replace(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what `tensors` gave.

        Raises:
          ValueError: a tensor has another shape, as under other settings.
        """
        super().replace(tensors)
        self._shares = tensors["bias_shares"]
        self._bias_generator.set_state(tensors["bias_generator"].cpu())

    def _draw(self) -> None:
        """Where in its range each member's bias lies: (E, 1), from 0 to 1."""
        self._shares = torch.rand((self.config.members, 1), generator=self._bias_generator, device=self._device)


def make_ensemble(
    input_dim: int, target_dim: int, config: EnsembleConfig, *, seed: int, device: str = "cpu"
) -> Ensemble:
    """Return the ensemble that the settings ask for, perturbed or (the default) as it is fitted.

    Raises:
      ValueError: settings contradict each other.
    """
    perturbed = config.perturbation != PerturbationConfig()
    return (PerturbedEnsemble if perturbed else Ensemble)(input_dim, target_dim, config, seed=seed, device=device)
