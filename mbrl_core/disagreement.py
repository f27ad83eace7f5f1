"""How much the ensemble's members disagree about a step that is about to be taken. No torch: this runs on the robot.

What they were trained on they agree about; where they do not, the policy acts on guesses. `models/ensemble_graph.py`
says where the two bounds come from.
"""

import numpy as np

from mbrl_core.bundle import Bundle
from mbrl_core.config import refuse
from mbrl_core.tasks.task import Task
from mbrl_core.types import Vector
from mbrl_core.world_model import WorldModel


class Disagreement:
    """Asks a bundle's ensemble, on one thread."""

    def __init__(self, bundle: Bundle, task: Task) -> None:
        """Load the graph.

        Raises:
          ValueError: the bundle has no ensemble, or one that does not run or is of another task.
        """
        bounds = bundle.metadata.disagreement
        if bounds is None:
            raise refuse("bundle.disagreement", "a policy with an ensemble", None)
        self.slow_above, self.hold_above = bounds.slow_above, bounds.hold_above
        self._task, self._model = task, WorldModel(bundle, task)

    def __call__(self, state: Vector, action: Vector) -> float:
        """Return `Ensemble.disagreement` of one step, in spreads of the training data.

        Args:
          state: (S,).
          action: (A,); what lies outside [-1, 1] is asked about as it would be sent, cut to it.

        Returns:
          A number that is not finite where the members' own are not: whoever moves by it must hold then.

        Raises:
          ValueError: a shape is wrong, or an input is not finite.
        """
        task = self._task
        for name, array, shape in (("state", state, (task.state_dim,)), ("action", action, (task.action_dim,))):
            if np.shape(array) != shape or not np.isfinite(array).all():
                raise refuse(name, f"{shape}, finite", array)
        sent = np.asarray(action, dtype=np.float64).clip(-1.0, 1.0)
        inputs = task.model_input(np.asarray(state, dtype=np.float64)[None], sent[None])
        return float(self._model.predict_all(np.asarray(inputs)).disagreement[0])
