"""How much the ensemble's members disagree about a step that is about to be taken. No torch: this runs on the robot.

What they were trained on they agree about; where they do not, the policy acts on guesses. `models/disagreement.py`
says where the two bounds come from.
"""

import numpy as np

from mbrl_core.bundle import ENSEMBLE, Bundle
from mbrl_core.config import refuse
from mbrl_core.onnx_session import load_session
from mbrl_core.types import Vector


class Disagreement:
    """Asks a bundle's ensemble, on one thread."""

    def __init__(self, bundle: Bundle) -> None:
        """Load the graph.

        Raises:
          ValueError: the bundle has no ensemble, or one that ONNX Runtime does not load or that has other inputs.
        """
        bounds = bundle.metadata.disagreement
        if bounds is None:
            raise refuse("bundle.disagreement", "a policy with an ensemble", None)
        self.slow_above, self.hold_above = bounds.slow_above, bounds.hold_above
        self._session = load_session(bundle.ensemble_onnx, ENSEMBLE)
        shapes = {value.name: tuple(value.shape) for value in self._session.get_inputs()}
        state, action = shapes.get("state", ()), shapes.get("action", ())
        if set(shapes) != {"state", "action"} or len(state) != 2 or action != (1, bundle.metadata.action_dim):
            raise refuse(
                f"bundle.{ENSEMBLE}: inputs", f"state (1, S), action (1, {bundle.metadata.action_dim})", shapes
            )
        self._state, self._action = state[1:], action[1:]

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
        for name, array, shape in (("state", state, self._state), ("action", action, self._action)):
            if np.shape(array) != shape or not np.isfinite(array).all():
                raise refuse(name, f"{shape}, finite", array)
        sent = np.asarray(action, dtype=np.float32).clip(-1.0, 1.0)
        feeds = {"state": np.asarray(state, dtype=np.float32)[None], "action": sent[None]}
        return float(self._session.run(None, feeds)[0])
