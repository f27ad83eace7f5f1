"""What a driver has to know of a servo family beside its protocol: where things stand in its control table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mbrl_core.robots.register import Register
from mbrl_core.robots.wire import Wire


@dataclass(frozen=True, kw_only=True)
class Family:
    """A servo family as data.

    Attributes:
      wires: its protocol; where there are several, the first that a whole bus answers is used.
      registers: model number to control table by our names.
      model_number: where every model of the family keeps its number.
      identity: block that holds what a servo is, `model_number` to `operating_mode` and position limits.
      command: block from `torque_enable` to the last of what a servo was told to do.
      present: block of all that is measured in a cycle.
      motion: registers side by side that are written in one packet when torque comes on, `goal_position` among them.
      at_enable: what they and others must hold then, beside the goal.
      position_mode: value of `operating_mode`.
      load: register of the drive, as a fraction.
      alert: bit of a status packet's error byte that says that `status` is not 0; 0 = `status` is in `present`.
      status_bits: bits of `status` as bits of ServoFault.
      watchdog_counts: what `bus_watchdog` is armed with; 0 = there is none.
      eeprom_lock: whether the register `lock` must be 0 for a write to the EEPROM to be kept.
      homing_moves_wrap: whether `homing_offset` moves the place where the encoder wraps, and not only what it says.
      bauds: rates by the count in `baud_rate`, bit/s.
    """

    wires: tuple[Wire, ...]
    registers: Callable[[int], Mapping[str, Register]]
    model_number: Register
    identity: Register
    command: Register
    present: Register
    motion: tuple[str, ...]
    at_enable: Mapping[str, int]
    position_mode: int
    load: str
    alert: int
    status_bits: Mapping[int, int]
    watchdog_counts: int
    eeprom_lock: bool
    homing_moves_wrap: bool
    bauds: Mapping[int, int]
