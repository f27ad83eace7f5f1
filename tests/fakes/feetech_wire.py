"""Six Feetech servos as plain register tables behind a pseudo-terminal: a fake at the wire, damaged on purpose."""

import contextlib
import os
import select
import threading
import time
import tty
from collections import deque
from collections.abc import Callable

from mbrl_core.robots.feetech_protocol import (
    READ,
    REGISTERS,
    SYNC_READ,
    SYNC_WRITE,
    Packet,
    decode,
    encode,
)

Mangle = Callable[[bytes, list[bytes]], bytes]


def untouched(_: bytes, replies: list[bytes]) -> bytes:
    """Send the answers as they are."""
    return b"".join(replies)


class FakeWire:
    """Six plain register tables behind a pseudo-terminal; `mangle(request, replies)` decides what really leaves.

    Answers leave in order, `latency_s` after their request, as an adapter's buffer lets them.
    """

    def __init__(self, servo_ids: range = range(1, 7)) -> None:
        self.tables = {servo_id: bytearray(128) for servo_id in servo_ids}
        for servo_id in servo_ids:
            self.set(servo_id, "model_number", 777)
            self.set(servo_id, "max_position", 4095)
            self.set(servo_id, "torque_limit", 1000)
            self.set(servo_id, "present_position", 2048)
        self.mangle: Mangle = untouched
        self.latency_s = 0.0
        self.requests: list[Packet] = []
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def set(self, servo_id: int, name: str, value: int) -> None:
        register = REGISTERS[name]
        self.tables[servo_id][register.address : register.address + register.size] = register.pack(value)

    def say(self, data: bytes) -> None:
        """Put bytes on the line that nobody asked for, as many as it takes."""
        os.set_blocking(self._master, False)
        if select.select([], [self._master], [], 0.01)[1]:
            self._write(data)

    def unplug(self) -> None:
        """Take the device away, as pulling the plug does."""
        if not self._stopping.is_set():
            self._stopping.set()
            self._thread.join()
            os.close(self._slave)
            os.close(self._master)

    def seen(self, code: int, address: int) -> list[Packet]:
        return [p for p in self.requests if p.code == code and p.params[:1] == bytes((address,))]

    def _write(self, data: bytes) -> None:
        """What a full line does not take is lost, as on a wire."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._master, data)

    def _serve(self) -> None:
        rest, leaving = b"", deque[tuple[float, bytes]]()
        while not self._stopping.is_set():
            while leaving and leaving[0][0] <= time.monotonic():
                self._write(leaving.popleft()[1])
            if not select.select([self._master], [], [], 0.001 if leaving else 0.02)[0]:
                continue
            decoded = decode(rest + os.read(self._master, 4096))
            rest = decoded.rest
            for packet in decoded.packets:
                self.requests.append(packet)
                data = self.mangle(encode(*packet), self._answer(packet))
                if self.latency_s or leaving:
                    leaving.append((time.monotonic() + self.latency_s, data))
                else:
                    self._write(data)

    def _answer(self, packet: Packet) -> list[bytes]:
        code, params = packet.code, packet.params
        if code == SYNC_WRITE:
            address, size = params[0], params[1]
            for start in range(2, len(params), size + 1):
                self.tables[params[start]][address : address + size] = params[start + 1 : start + 1 + size]
            return []
        asked = params[2:] if code == SYNC_READ else bytes((packet.servo_id,))
        span = slice(params[0], params[0] + params[1]) if code in (READ, SYNC_READ) else slice(0, 0)
        return [encode(i, 0, bytes(self.tables[i][span])) for i in asked if i in self.tables]
