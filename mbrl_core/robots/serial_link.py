"""One half-duplex serial line: a request out, the status packets in, never past a deadline on the monotonic clock."""

import contextlib
import select
import termios
import time
from collections.abc import Sequence
from dataclasses import dataclass

import serial

from mbrl_core.robots.errors import NotConnected
from mbrl_core.robots.feetech_protocol import Packet, decode

WRITE_TIMEOUT_S = 0.05  # a device that takes no bytes for so long is gone
GONE = (OSError, ValueError, termios.error)  # SerialException is an OSError; flushing an unplugged port is the third


@dataclass(kw_only=True)
class BusErrors:
    """What went wrong on the wire since the line was opened, counted.

    Attributes:
      timeouts: exchanges that ended with a servo missing.
      damaged: packets with a wrong checksum.
      noise: bytes that belonged to no packet.
      unexpected: whole packets from an id that was not asked, or of a wrong size.
      echoes: requests that came back, as a half-duplex adapter may do.
      retries: requests sent again because an answer was damaged.
    """

    timeouts: int = 0
    damaged: int = 0
    noise: int = 0
    unexpected: int = 0
    echoes: int = 0
    retries: int = 0


class SerialLink:
    """An open port, ours alone.

    Raises:
      NotConnected: the port is not there, is no serial device or is in use.
    """

    def __init__(self, port: str, baud: int) -> None:
        """Open the port."""
        self.port = port
        self.errors = BusErrors()
        try:
            self._serial = serial.Serial(port, baud, timeout=0, write_timeout=WRITE_TIMEOUT_S, exclusive=True)
        except GONE as error:
            expected = "a serial device that nothing else uses"
            raise NotConnected(f"port: expected {expected}, got {port!r} ({error})") from error
        with contextlib.suppress(*GONE, NotImplementedError):  # only real USB adapters have the mode
            self._serial.set_low_latency_mode(True)

    def close(self) -> None:
        """Give the port back."""
        self._serial.close()

    def send(self, request: bytes) -> float:
        """Drop what is left of earlier answers, send, and return the time of sending (`time.monotonic()`).

        Raises:
          NotConnected: the device is gone.
        """
        try:
            self._serial.reset_input_buffer()
            self._serial.write(request)
        except GONE as error:
            raise NotConnected(f"port: expected {self.port} to stay, got {error}") from error
        return time.monotonic()

    def ask(self, request: bytes, servo_ids: Sequence[int], size: int, deadline: float) -> dict[int, Packet]:
        """Send a request and gather a status packet with `size` params of every servo, until all came or the deadline.

        A damaged answer is asked for once more while time is left, by the same request; whole ones are kept.

        Args:
          request: bytes to send.
          servo_ids: who must answer.
          size: bytes of params in each answer.
          deadline: on the clock of `time.monotonic()`, s.

        Returns:
          Packets by servo id; a servo without a whole answer is absent.

        Raises:
          NotConnected: the device is gone.
        """
        self.send(request)
        wanted, found = set(servo_ids), dict[int, Packet]()
        expected_bytes = len(servo_ids) * (size + 6)
        received, retried = b"", False
        while True:
            data = self._receive(deadline)
            received += data
            echoed = request in received
            answer = received.replace(request, b"", 1) if echoed else received
            decoded = decode(answer, longest=size + 2)
            here = {p.servo_id: p for p in decoded.packets if p.servo_id in wanted and len(p.params) == size}
            whole = wanted <= found.keys() | here.keys()
            all_in = decoded.damaged > 0 and not retried and len(answer) >= expected_bytes
            if not (whole or all_in or not data):
                continue
            found.update(here)
            self._count(decoded.damaged, decoded.noise, len(decoded.packets) - len(here), echoed)
            if whole or not data:
                self.errors.timeouts += not whole
                return found
            self.errors.retries += 1
            received, retried = b"", True
            self.send(request)

    def _receive(self, deadline: float) -> bytes:
        """Return the bytes that are there, waiting for some; empty at the deadline."""
        try:
            ready, _, _ = select.select([self._serial], [], [], max(0.0, deadline - time.monotonic()))
            data: bytes = self._serial.read(4096) if ready else b""
        except GONE as error:
            raise NotConnected(f"port: expected {self.port} to stay, got {error}") from error
        return data

    def _count(self, damaged: int, noise: int, unexpected: int, echoed: bool) -> None:
        self.errors.damaged += damaged
        self.errors.noise += noise
        self.errors.unexpected += unexpected
        self.errors.echoes += echoed
