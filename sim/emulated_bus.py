"""The twin: the arm's physics behind its servos' bus, on a pseudo-terminal that any serial program can open."""

import contextlib
import fcntl
import os
import select
import threading
import time
import tty
from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mbrl_core.arm import ArmProfile
from mbrl_core.config import refuse
from mbrl_core.robots.feetech_protocol import Packet, decode
from mbrl_sim.perturbation import Perturbation
from mbrl_sim.physics import ArmPhysics
from mbrl_sim.servo_bank import ServoBank
from mbrl_sim.sim_clock import SimClock

IDLE_S = 0.01  # the physics advances at least this often when the bus is quiet
GRAIN_S = 0.0005  # answers closer together than this leave in one piece
LATE_CREDIT_S = 0.0002  # how much oversleeping the next wait makes up for


class Twin:
    """An arm that answers on `port` as the real one does, in real time or at a given speed.

    One thread serves the bus and advances the physics: to the present moment at every packet, so that a goal acts and
    a position is sampled when the wire carries them, and every 10 ms when nobody asks. Its process should outlive the
    client's, as a real arm would; a client may close and open the port again at any time. Should the thread meet an
    error of its own, it keeps it and ends: the arm is then silent, and whoever owns the twin must look at `failed`.

    Attributes:
      failed: set when the bus is served no more because of an error.
      error: that error.

    Args:
      profile: the arm.
      speed: simulated seconds per real second; the wire is sped up as well.
      seed: of the encoder noise.
      link: where to put a symbolic link to the port, for a fixed name.
      paced: whether bytes take their time on the wire.
      perturbation: how this arm differs from its profile; None = not at all.

    Raises:
      ValueError: a speed that is not positive, or a link that would replace something that is no link.
    """

    def __init__(
        self,
        profile: ArmProfile,
        *,
        speed: float = 1.0,
        seed: int = 0,
        link: str | Path | None = None,
        paced: bool = True,
        perturbation: Perturbation | None = None,
    ) -> None:
        """Open the port and start."""
        self._clock = SimClock(speed)
        self._bank = ServoBank(profile, ArmPhysics(profile, seed=seed, perturbation=perturbation))
        self._byte_s = 10.0 / profile.bus.baud if paced else 0.0
        self._late_s = 0.0
        self._lock = threading.Lock()
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)  # the slave stays open here: without it the master fails when a client leaves
        os.set_blocking(self._master, False)
        self.port = os.ttyname(self._slave)
        self._link = _make_link(link, self.port)
        self._wake_read, self._wake_write = os.pipe()
        self.failed = threading.Event()
        self.error: Exception | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="twin", daemon=True)
        self._thread.start()

    @property
    def time_s(self) -> float:
        """Simulated time since the start in s."""
        with self._lock:
            self._catch_up()
            return self._bank.physics.time_s

    @property
    def position(self) -> NDArray[np.float64]:
        """True joint angles, which no servo reports: (J_all,), rad."""
        with self._lock:
            self._catch_up()
            return self._bank.physics.position

    @property
    def tip(self) -> NDArray[np.float64]:
        """True position of the tool tip in the base frame: (3,), m."""
        with self._lock:
            self._catch_up()
            return self._bank.physics.tip

    @property
    def silent(self) -> frozenset[int]:
        """Ids of servos that do not answer."""
        return frozenset(self._bank.silent)

    def set_silent(self, servo_ids: set[int]) -> None:
        """Cut servos off the bus by id; they neither hear nor answer."""
        with self._lock:
            self._bank.silent = set(servo_ids)

    def power_cycle(self, servo_ids: Collection[int]) -> None:
        """Cut servos' power for a moment, by id: they come back limp and with their registers at the defaults.

        With `set_silent` before and after, the cut has a length.

        Raises:
          ValueError: an id that no servo here has.
        """
        with self._lock:
            self._catch_up()
            self._bank.power_cycle(servo_ids)

    def push(self, position: NDArray[np.float64]) -> None:
        """Lead the limp joints by hand to a position; the hand holds them there until any torque comes on.

        Args:
          position: (J_all,), rad; joints whose servo drives them do not yield.

        Raises:
          ValueError: wrong shape or not finite.
        """
        with self._lock:
            self._catch_up()
            self._bank.push(position)

    def set_speed(self, speed: float) -> None:
        """Let simulated time run at another speed from now on.

        Raises:
          ValueError: a speed that is not positive.
        """
        with self._lock:
            self._catch_up()
            self._clock.set_speed(speed)

    def wait_until_closed_by_client(self, timeout_s: float) -> bool:
        """Wait until no client holds the port exclusively, as `FeetechArm` does; return whether that came true."""
        deadline = time.monotonic() + timeout_s
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._slave, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fcntl.flock(self._slave, fcntl.LOCK_UN)
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(IDLE_S)

    def close(self) -> None:
        """Stop and remove the port and its link."""
        if self._closed:
            return
        self._closed = True
        os.write(self._wake_write, b"x")
        self._thread.join()
        if self._link is not None and self._link.is_symlink() and os.readlink(self._link) == self.port:
            self._link.unlink()
        for descriptor in (self._master, self._slave, self._wake_read, self._wake_write):
            os.close(descriptor)

    def __enter__(self) -> "Twin":
        """Return the running twin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _run(self) -> None:
        try:
            self._serve()
        except Exception as error:  # whatever it is, an arm that falls silent must not do so unseen
            self.error = error
            self.failed.set()

    def _serve(self) -> None:
        rest = b""
        while True:
            ready, _, _ = select.select([self._master, self._wake_read], [], [], IDLE_S)
            if self._wake_read in ready:
                return
            if not ready:
                with self._lock:
                    self._catch_up()
                continue
            arrived = time.monotonic()
            received = rest + os.read(self._master, 4096)
            decoded = decode(received)
            rest = decoded.rest
            self._handle(decoded.packets, arrived, len(received) - len(rest))

    def _handle(self, packets: list[Packet], arrived: float, received: int) -> None:
        """Answer packets after the time that they, and the answers, take on the wire."""
        byte_s = self._byte_s / self._clock.speed
        due = arrived - self._late_s + received * byte_s
        outgoing = b""
        for packet in packets:
            with self._lock:
                self._catch_up()
                replies = self._bank.answer(packet)
            for reply in replies:
                due += reply.delay_s / self._clock.speed + len(reply.data) * byte_s
                outgoing += reply.data
                if due - time.monotonic() > GRAIN_S:
                    _sleep_until(due)
                    outgoing = self._send(outgoing)
        _sleep_until(due)
        self._late_s = min(max(0.0, time.monotonic() - due), LATE_CREDIT_S) if byte_s else 0.0
        self._send(outgoing)

    def _send(self, data: bytes) -> bytes:
        """Write to whoever listens; a full buffer means that nobody does. Returns what is left: nothing."""
        if data:
            with contextlib.suppress(BlockingIOError):
                os.write(self._master, data)
        return b""

    def _catch_up(self) -> None:
        self._bank.advance_to(self._clock.catch_up(self._bank.physics.time_s))


def _sleep_until(due: float) -> None:
    remaining = due - time.monotonic()
    if remaining > 0:
        time.sleep(remaining)


def _make_link(link: str | Path | None, target: str) -> Path | None:
    if link is None:
        return None
    path = Path(link)
    if path.exists() and not path.is_symlink():
        raise refuse("link", "a free path or a symbolic link", str(link))
    if not path.parent.is_dir():
        raise refuse("link", "a path in a folder that exists", str(link))
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.symlink_to(target)
    fresh.replace(path)
    return path
