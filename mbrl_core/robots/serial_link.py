"""One half-duplex serial line: a request out, the status packets in, never past a deadline on the monotonic clock.

An answer says who speaks but not what was asked. After an exchange that did not end whole, what is still under way (in
an adapter's buffer, say) would pass for the answer to the next request: a measurement that is one cycle old under a
fresh stamp. So the next exchange is fenced first: one servo is asked for a stretch of a length that nothing else asks
for. Bytes keep their order on the line; when that answer is in, everything older is in too, and is dropped.
"""

import contextlib
import math
import select
import termios
import time
from collections.abc import Sequence
from dataclasses import dataclass

import serial

from mbrl_core.robots.errors import NotConnected
from mbrl_core.robots.wire import Packet, Wire

WRITE_TIMEOUT_S = 0.05  # a device that takes no bytes for so long is gone
GONE = (OSError, ValueError, termios.error)  # SerialException is an OSError; flushing an unplugged port is the third
FENCE_SIZES = range(5, 10)  # params of a fence's answer; in turn, so that a late fence is not taken for the next
READ_AT_ONCE = 512  # bytes; decoding more would overrun a deadline by itself


@dataclass(kw_only=True)
class BusErrors:
    """What went wrong on the wire since the line was opened, counted.

    Attributes:
      timeouts: exchanges that ended with a servo missing, or were given up because the line was not clear.
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


@dataclass(frozen=True, kw_only=True)
class Heard:
    """All that came back on a request.

    Attributes:
      data: the bytes, without the request's own echo.
      echoed: whether that was among them.
      took_s: from the request until so many bytes were in as were expected, s; NaN when they never were.
    """

    data: bytes
    echoed: bool
    took_s: float


class SerialLink:
    """An open port, ours alone.

    Attributes:
      asked_s: when the latest request of `ask` first left, on the clock of `time.monotonic()`.

    Raises:
      NotConnected: the port is not there, is no serial device or is in use.
    """

    def __init__(self, port: str, baud: int, wire: Wire) -> None:
        """Open the port."""
        self.port = port
        self.wire = wire
        self.errors = BusErrors()
        self.asked_s = 0.0
        self._fence_ids: list[int] = []  # empty: the line is clear
        self._fences = 0
        self._longest, self._most = max(FENCE_SIZES), 1  # params of an answer, servos asked at once
        self._took_s: dict[int, float] = {}  # duration of the latest whole exchange, by bytes of answer
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

    def listen(self, request: bytes, expected_bytes: int, *, longest_s: float, quiet_s: float) -> Heard:
        """Send a request and return every byte that follows, whatever it is: for a diagnosis, nothing is thrown away.

        Args:
          request: bytes to send.
          expected_bytes: how many an answer has.
          longest_s: listen at most so long, s.
          quiet_s: once so many bytes are in, listen on until the line was quiet for so long, s.

        Raises:
          NotConnected: the device is gone.
        """
        sent_s = self.send(request)
        end_s, data, took_s = sent_s + longest_s, b"", math.nan
        while True:
            until_s = end_s if math.isnan(took_s) else min(end_s, time.monotonic() + quiet_s)
            fresh = self._receive(until_s)
            if not fresh:
                break
            data += fresh
            if math.isnan(took_s) and len(data) - len(request) * (request in data) >= expected_bytes:
                took_s = time.monotonic() - sent_s
        return Heard(data=data.replace(request, b"", 1), echoed=request in data, took_s=took_s)

    def ask(
        self, request: bytes, servo_ids: Sequence[int], size: int, deadline: float, *, fenced: bool = True
    ) -> dict[int, Packet]:
        """Send a request and gather a status packet with `size` params of every servo, until all came or the deadline.

        A damaged answer is asked for once more while time is left, by the same request; whole ones are kept. After an
        exchange that did not end whole, the line is cleared first; when that leaves too little time, nothing is asked.

        Args:
          request: bytes to send.
          servo_ids: who must answer.
          size: bytes of params in each answer, none of `FENCE_SIZES`.
          deadline: on the clock of `time.monotonic()`, s.
          fenced: False for a ping: a late answer proves as much as a fresh one.

        Returns:
          Packets by servo id; a servo without a whole answer is absent.

        Raises:
          NotConnected: the device is gone.
        """
        self._longest, self._most = max(self._longest, size), max(self._most, len(servo_ids))
        expected_bytes = len(servo_ids) * (size + self.wire.overhead)
        if fenced and not self._clear(servo_ids, expected_bytes, deadline):
            self.errors.timeouts += 1
            return {}
        self.asked_s = time.monotonic()
        found, retried = self._gather(request, set(servo_ids), size, deadline)
        whole = found.keys() == set(servo_ids)
        self.errors.timeouts += not whole
        if whole:
            self._took_s[expected_bytes] = time.monotonic() - self.asked_s
        if fenced and (retried or not whole):
            self._fence_ids = list(found or servo_ids)
        return found

    def _gather(self, request: bytes, wanted: set[int], size: int, deadline: float) -> tuple[dict[int, Packet], bool]:
        """Send a request, once more after damage; return the packets by servo id and whether it was sent twice."""
        self.send(request)
        found = dict[int, Packet]()
        expected_bytes = len(wanted) * (size + self.wire.overhead)
        kept = 2 * (len(request) + expected_bytes)  # bytes; more than that is noise
        received, retried = b"", False
        while True:
            late = time.monotonic() >= deadline
            data = self._receive(deadline)
            received += data
            echoed = request in received
            answer = received.replace(request, b"", 1) if echoed else received
            decoded = self.wire.decode(answer, size, len(wanted))
            here = {p.servo_id: p for p in decoded.packets if p.servo_id in wanted and len(p.params) == size}
            found.update(here)
            whole, ended = wanted <= found.keys(), late or not data
            all_in = decoded.damaged > 0 and not retried and len(answer) >= expected_bytes
            if not (whole or all_in or ended):
                self.errors.noise += max(0, len(received) - kept)
                received = received[-kept:]
                continue
            self._count(decoded.damaged, decoded.noise, len(decoded.packets) - len(here), echoed)
            if whole or ended:
                return found, retried
            self.errors.retries += 1
            received, retried = b"", True
            self.send(request)

    def _clear(self, servo_ids: Sequence[int], expected_bytes: int, deadline: float) -> bool:
        """See late answers out; return whether the line is clear and time is left for an answer of so many bytes."""
        if not self._fence_ids:
            return True
        start = time.monotonic()
        if not self._fence(deadline):
            self._fence_ids = list(servo_ids)
            return False
        self._fence_ids = []
        now = time.monotonic()
        took_s = self._took_s.get(expected_bytes, max(self._took_s.values(), default=0.0))
        return now + took_s + (now - start) <= deadline  # a request that ran late would need a fence again

    def _fence(self, deadline: float) -> bool:
        """Ask one servo for something that no answer under way can be, and drop what comes until it answers."""
        self._fences += 1
        servo_id = self._fence_ids[self._fences % len(self._fence_ids)]
        size = FENCE_SIZES[self._fences % len(FENCE_SIZES)]
        self.send(self.wire.read(servo_id, self.wire.fence, size))
        received = b""
        while True:
            late = time.monotonic() >= deadline
            data = self._receive(deadline)
            received += data
            decoded = self.wire.decode(received, self._longest, self._most)
            here = [p for p in decoded.packets if p.servo_id == servo_id and len(p.params) == size]
            if here or late or not data:
                self._count(decoded.damaged, decoded.noise, len(decoded.packets) - len(here), echoed=False)
                return bool(here)
            self.errors.noise += max(0, len(received) - READ_AT_ONCE)
            received = received[-READ_AT_ONCE:]

    def _receive(self, deadline: float) -> bytes:
        """Return the bytes that are there, waiting for some; empty at the deadline."""
        try:
            ready, _, _ = select.select([self._serial], [], [], max(0.0, deadline - time.monotonic()))
            data: bytes = self._serial.read(READ_AT_ONCE) if ready else b""
        except GONE as error:
            raise NotConnected(f"port: expected {self.port} to stay, got {error}") from error
        return data

    def _count(self, damaged: int, noise: int, unexpected: int, echoed: bool) -> None:
        self.errors.damaged += damaged
        self.errors.noise += noise
        self.errors.unexpected += unexpected
        self.errors.echoes += echoed
