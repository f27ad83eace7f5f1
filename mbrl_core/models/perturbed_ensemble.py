"""An ensemble whose members are made wrong on purpose, to see how much model error a method bears.

The robustness study of MB-MPO (Clavera et al. 2018, arXiv 1809.05214): every member's output gets a constant bias,
drawn once from U(0, b), and noise. Here both are in standard deviations of the target, so that a level means the same
for an angle and for a speed. Members are fitted as ever, to what is true: only what they predict is wrong. Biases
differ but have one sign: members disagree, and their mean is wrong too.

Noise is added to the predicted variance, from which next states are drawn: the same as adding it to every draw, and
where the mean is followed there is none. `disagreement` stays that of the fitted members.
"""

import numpy as np
import torch
from torch import Tensor

from mbrl_core.config import check
from mbrl_core.models.ensemble import Ensemble, EnsembleConfig
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

    def replace(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what `tensors` gave; the biases follow from the seed.

        Raises:
          ValueError: a tensor has another shape, as under other settings.
        """
        super().replace(tensors)
        self._draw()

    def _draw(self) -> None:
        """Where in its range each bias lies: (E, D), from 0 to 1."""
        rng = np.random.default_rng((self._seed, _STREAM))
        shares = rng.random((self.config.members, len(self.target_norm.mean)))
        self._shares = torch.as_tensor(shares, dtype=torch.float32, device=self._device)


def make_ensemble(
    input_dim: int, target_dim: int, config: EnsembleConfig, *, seed: int, device: str = "cpu"
) -> Ensemble:
    """Return the ensemble that the settings ask for, perturbed or (the default) as it is fitted.

    Raises:
      ValueError: settings contradict each other.
    """
    perturbed = config.perturbation != PerturbationConfig()
    return (PerturbedEnsemble if perturbed else Ensemble)(input_dim, target_dim, config, seed=seed, device=device)
