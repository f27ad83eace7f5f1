"""Ctrl-C and SIGTERM as a flag that is looked at between two steps, so that they never tear a step apart."""

import signal
from types import FrameType, TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequested(Exception):  # noqa: N818  a request, not an error
    """Somebody asked the process to stop; `code` is the exit status that says so."""

    def __init__(self, number: int) -> None:
        """Remember the signal's number."""
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.code = 128 + number


class StopRequest:
    """Notes the first signal while it is entered; later ones change nothing, because stopping is bounded anyway."""

    def __init__(self) -> None:
        """Nothing was requested yet."""
        self.number = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        """Take over the signals."""
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def check(self) -> None:
        """Raise StopRequested if a signal came."""
        if self.number:
            raise StopRequested(self.number)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = self.number or number
