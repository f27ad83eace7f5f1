"""How well the control path keeps its rate: read, health, safety function and write on the emulated bus at 1 Mbps.

The twin runs in a process of its own; both ask for real-time scheduling as the nodes do. A cycle is late when it has
not ended by the time at which the next is due. With --learner two processes fit networks with torch beside it, niced as
the learner is. With --silent ID a servo is cut off half-way: then the longest cycle is what counts.

    python bench/control_loop.py --hz 100 --seconds 600 --learner
    python bench/control_loop.py --hz 200 --seconds 60
    python bench/control_loop.py --profile open_manipulator_x --silent 12
"""

import argparse
import contextlib
import dataclasses
import importlib.metadata
import multiprocessing
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection

import numpy as np

from mbrl_core.arm import ArmProfile, load_profile
from mbrl_core.control_config import ControlConfig, Counters
from mbrl_core.guarded_arm import GuardedArm
from mbrl_core.kinematics import Chain
from mbrl_core.robots.realtime import ask_for_realtime, settle_memory
from mbrl_core.robots.servo_arm import ServoArm
from mbrl_sim import profile_path
from mbrl_sim.emulated_bus import Twin
from mbrl_sim.self_collision import SelfCollision

LEARNER = """
import torch
torch.set_num_threads(1)
net = torch.nn.Sequential(torch.nn.Linear(32, 200), torch.nn.SiLU(), torch.nn.Linear(200, 200))
optimiser, batch = torch.optim.Adam(net.parameters()), torch.randn(256, 32)
while True:
    optimiser.zero_grad()
    net(batch).square().mean().backward()
    optimiser.step()
"""


def serve(profile: ArmProfile, pipe: Connection) -> None:
    """Run a twin; a message is the set of servos to cut off, None ends."""
    ask_for_realtime()
    with Twin(profile) as twin:
        pipe.send(twin.port)
        while (silent := pipe.recv()) is not None:
            twin.set_silent(silent)


@contextlib.contextmanager
def learners(count: int) -> Iterator[None]:
    """Processes that fit networks all the time."""
    processes = [subprocess.Popen(["nice", sys.executable, "-c", LEARNER]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure(arm: GuardedArm, cycles: int, period_s: float, half_way: Connection | None, silent: int) -> np.ndarray:
    """Run cycles while one joint swings: (cycles, 2) s, when each began and ended, after its due time."""
    settle_memory()
    times, due = np.empty((cycles, 2)), time.monotonic() + period_s
    home = arm.sent.position.copy() if arm.sent is not None else np.zeros(0)
    for index in range(cycles):
        if half_way is not None and index == cycles // 2:
            half_way.send({silent})
        time.sleep(max(0.0, due - time.monotonic()))
        began = time.monotonic()
        goal = home.copy()
        goal[-2] += 0.2 * np.sin(index * period_s)
        if arm.read() is not None:
            arm.send(goal)
        times[index] = began - due, time.monotonic() - due
        due += period_s
        if time.monotonic() > due + period_s:
            due = time.monotonic()  # as the loop does: a cycle that was missed is not caught up
    return times


def parse() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="so101")
    parser.add_argument("--hz", type=float, default=100.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--learner", action="store_true", help="load every core")
    parser.add_argument("--silent", type=int, default=0, help="servo to cut off half-way")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    args = parse()
    profile = dataclasses.replace(load_profile(profile_path(args.profile)), bus_hz=args.hz)
    pipe, far = multiprocessing.Pipe()
    twin = multiprocessing.get_context("spawn").Process(target=serve, args=(profile, far))
    twin.start()
    period_s, counters = 1.0 / args.hz, Counters()
    with learners((os.cpu_count() or 1) * args.learner):
        driver = ServoArm(profile, pipe.recv())
        driver.connect()
        why_not = ask_for_realtime()
        config = ControlConfig(max_bus_errors=100)
        arm = GuardedArm(driver, profile, config, counters, Chain(profile, whole=True).tip, SelfCollision(profile))
        arm.engage()
        cycles = round(args.seconds * args.hz)
        times = 1e3 * measure(arm, cycles, period_s, pipe if args.silent else None, args.silent)
        driver.close()
    pipe.send(None)
    twin.join()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("mujoco", "numpy", "pyserial"))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}")
    print(
        f"{profile.name}, {args.hz:g} Hz, {cycles} cycles, {'learners on every core' if args.learner else 'alone'}, "
        f"{why_not or 'real-time scheduling'}" + (f", servo {args.silent} silent from half-way" if args.silent else "")
    )
    for title, column in (("began after due", times[:, 0]), ("took", times[:, 1] - times[:, 0])):
        p50, p99 = np.percentile(column, [50, 99])
        print(f"{title:16} p50 {p50:6.2f}  p99 {p99:6.2f}  max {column.max():6.2f} ms")
    late = int((times[:, 1] > 1e3 * period_s).sum())
    print(f"late cycles {late} of {cycles} ({100 * late / cycles:.3f} %), bus errors {counters.bus_errors}")


if __name__ == "__main__":
    main()
