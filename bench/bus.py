"""Cycle time of read + write over the emulated bus, and what the twin costs, with twin and client in two processes.

Run: python bench/bus.py
"""

import argparse
import importlib.metadata
import multiprocessing
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import numpy as np

from mbrl_core.arm import load_profile
from mbrl_core.robots.realtime import ask_for_realtime
from mbrl_core.robots.servo_arm import ServoArm
from mbrl_sim import ASSETS
from mbrl_sim.emulated_bus import Twin

PROFILE = ASSETS / "so101.yaml"
PACKAGES = ("mujoco", "numpy", "pyserial")


def serve(speed: float, paced: bool, pipe: Connection) -> None:
    """Run a twin until told to stop; answer "cpu" with its CPU time so far in s. Inherits the scheduling."""
    with Twin(load_profile(PROFILE), speed=speed, paced=paced) as twin:
        pipe.send(twin.port)
        while pipe.recv() == "cpu":
            pipe.send(time.process_time())


@contextmanager
def holding_arm(speed: float, paced: bool) -> Iterator[tuple[ServoArm, Callable[[], float]]]:
    """Yield an arm that holds its home pose, and a function that returns the twin's CPU time in s."""
    pipe, far = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(speed, paced, far))
    process.start()

    def cpu_s() -> float:
        pipe.send("cpu")
        return float(pipe.recv())

    try:
        arm = ServoArm(load_profile(PROFILE), pipe.recv(), deadline_s=0.05)
        arm.connect()
        arm.enable_torque()
        yield arm, cpu_s
        arm.close()
    finally:
        pipe.send("stop")
        process.join()


def cycle_times(arm: ServoArm, cycles: int, period_s: float) -> np.ndarray:
    """Duration of each read + write in s; `period_s` apart, or back to back when it is 0."""
    home = arm.profile.vector("home_rad")
    durations, due = np.empty(cycles), time.monotonic()
    for index in range(cycles):
        time.sleep(max(0.0, due - time.monotonic()))
        due += period_s
        start = time.monotonic()
        arm.read()
        arm.write(home)
        durations[index] = time.monotonic() - start
    return durations


def report(title: str, speed: float, paced: bool, cycles: int, period_s: float) -> None:
    """Measure one setting and print it as a row."""
    with holding_arm(speed, paced) as (arm, cpu_s):
        cycle_times(arm, 50, period_s)
        before, client, start = cpu_s(), time.process_time(), time.monotonic()
        durations_ms = 1e3 * cycle_times(arm, cycles, period_s)
        client, wall = time.process_time() - client, time.monotonic() - start
        twin = cpu_s() - before
        p50, p99 = np.percentile(durations_ms, [50, 99])
        shares = f"{100 * twin / wall:5.0f} % {100 * client / wall:5.0f} %"
        rate = f"{cycles / wall:6.0f} Hz"
        print(f"{title:34} {p50:7.2f} {p99:7.2f} {durations_ms.max():7.2f} {rate} {shares} {arm.errors.timeouts:8d}")


@contextmanager
def busy_cores() -> Iterator[None]:
    """Keep every core busy with niced processes, as learning does."""
    hogs = [subprocess.Popen(["nice", sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for process in hogs:
            process.kill()
            process.wait()


def main() -> None:
    """Print the machine, the versions and a row per setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=2000, help="of read and write, for each setting")
    cycles = parser.parse_args().cycles
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    print(f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}")
    print(f"Python {platform.python_version()}, {versions}; {cycles} cycles each; times in ms\n")
    print(f"{'':34} {'p50':>7} {'p99':>7} {'max':>7} {'rate':>9} {'twin':>7} {'client':>7} {'timeouts':>8}")
    report("1 Mbps, speed 1, back to back", 1.0, True, cycles, 0.0)
    report("1 Mbps, speed 1, 100 Hz", 1.0, True, cycles // 2, 0.01)
    report("1 Mbps, speed 5, 500 Hz", 5.0, True, cycles, 0.002)
    report("unpaced, speed 1, back to back", 1.0, False, cycles, 0.0)
    with busy_cores():
        report("100 Hz, all cores busy (niced)", 1.0, True, cycles // 2, 0.01)
        why_not = ask_for_realtime()
        title = f"the same, {'ordinary: ' + why_not if why_not else 'real-time scheduling'}"
        report(title, 1.0, True, cycles // 2, 0.01)


if __name__ == "__main__":
    main()
