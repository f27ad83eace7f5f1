"""An ensemble whose members are known functions, for tests that compute by hand or by finite differences."""

import torch
from fakes.point_task import STEP

from mbrl_core.models.ensemble import Ensemble


class BendingEnsemble(Ensemble):
    """For PointTask: member m says that the position changes by (m + 1) STEP action + 0.1 sin(3 position).

    `spread` is the standard deviation of what it predicts; computed in the inputs' own precision.
    """

    def __init__(self, spread: float = 0.0) -> None:
        super().__init__(4, 2, seed=0)
        self._log_var = 2 * torch.log(torch.tensor(max(spread, 1e-9))).item()

    def predict(self, inputs):
        gain = torch.arange(1.0, 6.0, dtype=inputs.dtype)[:, None, None] * STEP
        mean = gain * inputs[..., 2:] + 0.1 * torch.sin(3 * inputs[..., :2])
        return mean, torch.full_like(mean, self._log_var)
