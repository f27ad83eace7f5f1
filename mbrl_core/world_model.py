"""The ensemble that travels with a policy: what its members predict. No torch: this runs on the robot."""

from typing import NamedTuple

import numpy as np

from mbrl_core.bundle import ENSEMBLE, Bundle
from mbrl_core.config import refuse
from mbrl_core.onnx_session import load_session
from mbrl_core.tasks.task import Task
from mbrl_core.types import Vector

OUTPUTS = ("mean", "log_var", "disagreement", "features", "scale")


class Prediction(NamedTuple):
    """What K members predict of B inputs each."""

    mean: Vector  # (K, B, D), of the target, raw units
    log_var: Vector  # (K, B, D), raw units
    disagreement: Vector  # (B,), spreads of the training data; means something where all members are asked the same
    features: Vector  # (K, B, I), the inputs in standard deviations of the training data
    scale: Vector  # (D,), standard deviation of the target in the training data


class WorldModel:
    """Asks a bundle's ensemble, on one thread."""

    def __init__(self, bundle: Bundle, task: Task) -> None:
        """Load the graph and ask it once.

        Raises:
          ValueError: the bundle has no ensemble, or one that does not run or is of another task.
        """
        if not bundle.ensemble_onnx:
            raise refuse("bundle.ensemble", "a policy with an ensemble", None)
        self._session = load_session(bundle.ensemble_onnx, ENSEMBLE)
        shapes = {value.name: value.shape for value in self._session.get_inputs()}
        shape = shapes.get("inputs", [])
        if set(shapes) != {"inputs"} or len(shape) != 3 or shape[2] != task.input_dim:
            raise refuse(f"bundle.{ENSEMBLE}: inputs", f"inputs (K, B, {task.input_dim})", shapes)
        self.members = int(shape[0])
        try:
            learned = self.predict(np.zeros((self.members, 1, task.input_dim))).mean.shape
        except Exception as error:  # ONNX Runtime's exceptions have no common class of their own
            raise refuse(f"bundle.{ENSEMBLE}", "a graph that runs", str(error)) from error
        if learned != (self.members, 1, task.learned_dim):
            raise refuse(f"bundle.{ENSEMBLE}: mean", f"({self.members}, 1, {task.learned_dim})", learned)

    def predict(self, inputs: Vector) -> Prediction:
        """Ask every member.

        Args:
          inputs: (K, B, I), each member its own; raw units.

        Returns:
          Numbers that are not finite where the members' own are not.
        """
        feeds = {"inputs": np.asarray(inputs, dtype=np.float32)}
        return Prediction(*(np.asarray(part, dtype=np.float64) for part in self._session.run(OUTPUTS, feeds)))

    def predict_all(self, inputs: Vector) -> Prediction:
        """Ask all members the same: (B, I), raw units."""
        return self.predict(np.broadcast_to(inputs, (self.members, *inputs.shape)))
