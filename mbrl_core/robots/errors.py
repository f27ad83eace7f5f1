"""What can go wrong with a device. Bad input is a ValueError instead: it is the caller's fault, not the arm's."""

import typing

if typing.TYPE_CHECKING:
    from mbrl_core.robots.reading import ArmReading


class RobotError(Exception):
    """The arm cannot do what was asked of it."""


class NotConnected(RobotError):  # noqa: N818 (the name says a state, like the others below)
    """The port cannot be opened, the servos behind it are not the profile's, or the link is gone."""


class StaleState(RobotError):  # noqa: N818
    """Not every servo answered within the deadline.

    Attributes:
      missing_ids: servos without a whole answer.
      partial: the reading with NaN where a servo is missing; None when nothing at all was read.
    """

    def __init__(self, message: str, missing_ids: tuple[int, ...] = (), partial: "ArmReading | None" = None) -> None:
        """Name the silent servos."""
        super().__init__(message)
        self.missing_ids = missing_ids
        self.partial = partial


class LimitExceeded(RobotError):  # noqa: N818
    """A command that the servo could not represent or would silently clamp."""


class Fault(RobotError):  # noqa: N818
    """A servo contradicts what it was told, or a command came in the wrong state."""
