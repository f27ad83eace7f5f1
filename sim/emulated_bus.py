"""The twin: the arm's physics behind its servos' bus, on a pseudo-terminal that any serial program can open."""

import contextlib
import fcntl
import os
import select
import struct
import threading
import time
import tty
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbrl_core.arm import ArmProfile
from mbrl_core.config import refuse
from mbrl_sim.bus_faults import BusFaults
from mbrl_sim.perturbation import Perturbation
from mbrl_sim.physics import ArmPhysics
from mbrl_sim.servo_bank import ServoBank
from mbrl_sim.servo_families import family_of
from mbrl_sim.sim_clock import SimClock

IDLE_S = 0.01  # the physics advances at least this often when the bus is quiet
GRAIN_S = 0.0005  # answers closer together than this leave in one piece
STOP, UNPLUG, REPLUG = b"x", b"u", b"p"  # orders to the serving thread
LATE_CREDIT_S = 0.0002  # how much oversleeping the next wait makes up for
TERMIOS2 = struct.Struct("4IB19B2I")  # asm-generic/termbits.h: flags, line discipline, characters, speeds in and out
TCGETS2 = 0x802C542A


class Twin:
    """An arm that answers on `port` as the real one does, in real time or at a given speed.

    One thread serves the bus and advances the physics: to the present moment at every packet, so that a goal acts and
    a position is sampled when the wire carries them, and every 10 ms when nobody asks. Its process should outlive the
    client's, as a real arm would; a client may close and open the port again at any time. Should the thread meet an
    error of its own, it keeps it and ends: the arm is then silent, and whoever owns the twin must look at `failed`.

    Attributes:
      faults: the switchboard of what goes wrong.
      port: path of the terminal; another one after `replug`.
      failed: set when the bus is served no more because of an error.
      error: that error.

    Args:
      profile: the arm.
      speed: simulated seconds per real second; the wire is sped up as well.
      seed: of the encoder noise.
      link: where to put a symbolic link to the port, for a fixed name.
      paced: whether bytes take their time on the wire.
      perturbation: how this arm differs from its profile; None = not at all.
      assembled: the profile with the zeros and signs that the horns were really put on with, which may lie across the
        encoders' ends; None = those of the profile.

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
        assembled: ArmProfile | None = None,
    ) -> None:
        """Open the port and start."""
        self._clock = SimClock(speed)
        self.faults = BusFaults(seed=seed)
        self._family = family_of(profile)
        physics = ArmPhysics(profile, seed=seed, perturbation=perturbation)
        self._bank = ServoBank(assembled or profile, physics, self.faults, self._family.make)
        self._byte_s = 10.0 / profile.bus.baud if paced else 0.0
        self._late_s = 0.0
        self._lock = threading.Lock()
        self._link_path = link
        self._plugged = False
        self._plug_in()
        self._wake_read, self._wake_write = os.pipe()
        self.failed = threading.Event()
        self.error: Exception | None = None
        self._closed = False
        self._obeyed = threading.Event()
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
        return self.faults.silent

    def set_silent(self, servo_ids: set[int]) -> None:
        """Cut servos off the bus by id; they neither hear nor answer."""
        self.faults.silent = frozenset(servo_ids)

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
        """Wait until no client holds the port exclusively, as `ServoArm` does; return whether that came true."""
        deadline = time.monotonic() + timeout_s
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._slave, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fcntl.flock(self._slave, fcntl.LOCK_UN)
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(IDLE_S)

    def unplug(self) -> None:
        """Pull the adapter out: the port goes, under the client's hands; the servos keep their power and their goals.

        Raises:
          ValueError: it is out already.
        """
        if not self._plugged:
            raise refuse("plugged", "true", False)
        self._order(UNPLUG)

    def replug(self) -> None:
        """Put the adapter back in: `link` leads to the new `port`.

        Raises:
          ValueError: it is in.
        """
        if self._plugged:
            raise refuse("plugged", "false", True)
        self._order(REPLUG)

    def close(self) -> None:
        """Stop and remove the port and its link."""
        if self._closed:
            return
        self._closed = True
        os.write(self._wake_write, STOP)
        self._thread.join()
        if self._plugged:
            self._pull_out()
        for descriptor in (self._wake_read, self._wake_write):
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
            ends = [self._wake_read, self._master] if self._plugged else [self._wake_read]
            ready, _, _ = select.select(ends, [], [], IDLE_S)
            if self._wake_read in ready:
                order = os.read(self._wake_read, 1)
                if order == STOP:
                    return
                self._plug_in() if order == REPLUG else self._pull_out()
                rest = b""
                self._obeyed.set()
            elif not ready:
                with self._lock:
                    self._catch_up()
            else:
                rest = self._hear(rest)

    def _hear(self, rest: bytes) -> bytes:
        """Take what has arrived, answer the whole requests in it and return what may become another."""
        arrived = time.monotonic()
        fresh = os.read(self._master, 4096)
        decoded = self._family.decode(rest + fresh)
        self._handle(decoded.packets, arrived, fresh)
        return decoded.rest

    def _handle(self, packets: list[Any], arrived: float, fresh: bytes) -> None:
        """Answer packets after the time that they, and the answers, take on the wire."""
        byte_s = self._byte_s / self._clock.speed
        due = arrived - self._late_s + len(fresh) * byte_s
        outgoing = fresh if self.faults.echo else b""
        baud = self._client_baud()
        for packet in packets:
            with self._lock:
                self._catch_up()
                replies = self._family.answer(self._bank, packet, baud)
            if replies:
                due += self.faults.latency_s
            for reply in [spoiled for answer in replies for spoiled in self.faults.spoil(answer)]:
                due += reply.delay_s / self._clock.speed + len(reply.data) * byte_s
                outgoing += reply.data
                if due - time.monotonic() > GRAIN_S:
                    _sleep_until(due)
                    outgoing = self._send(outgoing)
        _sleep_until(due)
        self._late_s = min(max(0.0, time.monotonic() - due), LATE_CREDIT_S) if byte_s else 0.0
        self._send(outgoing)

    def _client_baud(self) -> int:
        """Bits per second that the client has set, which a pseudo-terminal keeps but does not heed."""
        return int(TERMIOS2.unpack(fcntl.ioctl(self._slave, TCGETS2, bytes(TERMIOS2.size)))[-1])

    def _send(self, data: bytes) -> bytes:
        """Write to whoever listens; a full buffer means that nobody does. Returns what is left: nothing."""
        if data:
            with contextlib.suppress(BlockingIOError):
                os.write(self._master, data)
        return b""

    def _catch_up(self) -> None:
        self._bank.advance_to(self._clock.catch_up(self._bank.physics.time_s))

    def _order(self, order: bytes) -> None:
        """Have the serving thread do something between two packets, and wait for it."""
        self._obeyed.clear()
        os.write(self._wake_write, order)
        while self._thread.is_alive() and not self._obeyed.wait(IDLE_S):
            pass

    def _plug_in(self) -> None:
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)  # the slave stays open here: without it the master fails when a client leaves
        os.set_blocking(self._master, False)
        self.port = os.ttyname(self._slave)
        self._link = _make_link(self._link_path, self.port)
        self._plugged = True

    def _pull_out(self) -> None:
        self._plugged = False
        if self._link is not None and self._link.is_symlink() and os.readlink(self._link) == self.port:
            self._link.unlink()
        os.close(self._master)
        os.close(self._slave)


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
