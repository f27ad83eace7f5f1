"""What an arm reports in one bus cycle, whatever the servo family."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class ArmReading:
    """One cycle's measurements in the profile's joint order.

    Attributes:
      position: (J_all,), rad.
      velocity: (J_all,), rad/s.
      load: (J_all,), fraction of the motor's full drive, in [-1, 1]; times the stall torque it is about a torque.
      current_a: (J_all,), A; NaN where the servo measures none.
      voltage_v: (J_all,), V.
      temperature_c: (J_all,), degrees Celsius.
      status: (J_all,), the servo's complaints as bits of ServoFault, 0 when well.
      stamp_s: `time.monotonic()` when the request left.
    """

    position: NDArray[np.float64]
    velocity: NDArray[np.float64]
    load: NDArray[np.float64]
    current_a: NDArray[np.float64]
    voltage_v: NDArray[np.float64]
    temperature_c: NDArray[np.float64]
    status: NDArray[np.uint8]
    stamp_s: float
