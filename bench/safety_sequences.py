"""Does any sequence of commands break a limit, how often is a command changed and why, and what does one call take?

Hypothesis draws the sequences (`command_sequences.py`: at most 4 pieces of up to 20 commands, from a start that breaks
no limit or lies at the edge of one) for all profiles in turn; `limit_checker.py` judges what was sent, with the way to
rest. Batches have seeds of their own, so a run can be cut into parts: --first 20000 goes on where --sequences 20000
ended.

    python bench/safety_sequences.py --sequences 2000
    python bench/safety_sequences.py --sequences 100000 --processes 2
    python bench/safety_sequences.py --policy

With --policy actions drawn as a policy draws them come 20 times a second, each a straight line of five commands: what
share of them is changed, and how far from its target a step ends, in actions (0.1 is a tenth of a full action).
"""

import argparse
import collections
import importlib.metadata
import multiprocessing
import os
import platform
import sys
import time

import numpy as np
from command_sequences import JOINTS, Arm, Piece, commands, sequences
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from limit_checker import ALLOWED, Checker, broken

from mbrl_core.arm import ArmProfile, load_profile
from mbrl_core.safety import Reason, Sent, limit
from mbrl_sim import profile_path
from mbrl_sim.self_collision import SelfCollision

PROFILES = ("so101", "so100", "koch", "open_manipulator_x", "so101_ros2_control")
BATCH = 500  # sequences; Hypothesis remembers what it has drawn, so its runs are kept short
POLICIES = ((1.0, 0.0), (0.3, 0.0), (0.1, 0.0), (1.0, 0.9))  # standard deviation, correlation from step to step

starts = st.tuples(*[st.floats(-1, 1)] * JOINTS)


class Tally:
    """What has come out so far, of one profile."""

    def __init__(self) -> None:
        """Nothing."""
        self.sequences = self.commands = self.changed = 0
        self.worst = dict.fromkeys(ALLOWED, -np.inf)
        self.reasons: collections.Counter[str] = collections.Counter()
        self.times_s: list[tuple[float, float]] = []  # on the clock, and of the processor
        self.violations: list[str] = []

    def count(self, sent: Sent, took_s: tuple[float, float]) -> None:
        """One call."""
        self.commands += 1
        self.changed += bool(sent.reason)
        self.reasons.update(reason.name or "" for reason in Reason if reason & sent.reason)
        self.times_s.append(took_s)

    def add(self, other: "Tally") -> None:
        """What another process has found."""
        self.sequences += other.sequences
        self.commands += other.commands
        self.changed += other.changed
        self.worst = {name: max(most, other.worst[name]) for name, most in self.worst.items()}
        self.reasons += other.reasons
        self.times_s += other.times_s
        self.violations += other.violations


def call(command: np.ndarray, last: Sent, arm: Arm, tally: Tally) -> Sent:
    """One timed call of the safety function."""
    began, began_cpu = time.perf_counter(), time.thread_time()
    sent = limit(command, last, arm.dt_s, arm.limits, arm.tip, arm.clear)
    tally.count(sent, (time.perf_counter() - began, time.thread_time() - began_cpu))
    return sent


def run(sequence: list[Piece], start: np.ndarray, arm: Arm, checker: Checker, tally: Tally) -> None:
    """Send a sequence, come to rest, and judge."""
    sent = [Sent.at_rest(arm.start(start))]
    for command in commands(sequence, arm):
        sent.append(call(command(sent[-1]), sent[-1], arm, tally))
    while sent[-1].velocity.any():
        sent.append(limit(sent[-1].position, sent[-1], arm.dt_s, arm.limits, arm.tip, arm.clear))
    excess = checker.excess(np.array([each.position for each in sent]), arm.dt_s, arm.limits)
    tally.sequences += 1
    tally.worst = {name: max(most, excess[name]) for name, most in tally.worst.items()}
    if names := broken(excess):
        tally.violations.append(f"{ {name: excess[name] for name in names} } by {sequence} from {start.tolist()}")


def batch(job: tuple[str, int, int]) -> tuple[str, Tally]:
    """Draw and run so many sequences for one profile; (profile, sequences, seed)."""
    name, count, number = job
    profile, tally = load_profile(profile_path(name)), Tally()
    arm, checker = Arm.of(profile, SelfCollision(profile)), Checker(profile)
    quiet = settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )

    @seed(number)
    @quiet
    @given(sequences, starts)
    def draw(sequence: list[Piece], start: tuple[float, ...]) -> None:
        if tally.sequences < count:
            run(sequence, np.array(start), arm, checker, tally)

    draw()
    return name, tally


def follow(profile: ArmProfile, spread: float, correlation: float, steps: int, rng: np.random.Generator) -> None:
    """Print how a policy of Gaussian actions fares, with a return home every 2 s."""
    arm, index, tally = Arm.of(profile, SelfCollision(profile)), profile.controlled, Tally()
    last, action, missed = Sent.at_rest(arm.home), np.zeros(len(index)), []
    lower, upper = arm.limits.lower[index], arm.limits.upper[index]
    for step in range(steps):
        if step % 40 == 0:
            last = Sent.at_rest(arm.home)
        drawn = rng.standard_normal(len(index))
        action = correlation * action + np.sqrt(1.0 - correlation**2) * spread * drawn
        target = last.position.copy()
        target[index] = np.clip(target[index] + profile.action_scale_rad * np.clip(action, -1, 1), lower, upper)
        for left in range(profile.ticks_per_step, 0, -1):
            last = call(last.position + (target - last.position) / left, last, arm, tally)
        missed.append(np.abs(last.position - target)[index].mean() / profile.action_scale_rad)
    print(f"{profile.name}: actions of deviation {spread}, correlation {correlation}: {shares(tally)}")
    print(f"  end of a step from its target: mean {np.mean(missed):.3f} actions; {timing(tally)}")


def shares(tally: Tally) -> str:
    """How many commands were changed, and why."""
    whys = ", ".join(f"{name} {count / tally.commands:.2%}" for name, count in tally.reasons.most_common())
    return f"{tally.changed / tally.commands:.1%} of {tally.commands} commands changed ({whys})"


def timing(tally: Tally) -> str:
    """What a call took: a machine that others use too shows in the difference."""
    texts = []
    for name, taken in zip(("on the clock", "of the processor"), 1e3 * np.array(tally.times_s).T, strict=True):
        p50, p99 = np.quantile(taken, [0.5, 0.99])
        texts.append(f"{name} mean {taken.mean():.3f} p50 {p50:.3f} p99 {p99:.3f} max {taken.max():.3f} ms")
    return f"a call takes {', '.join(texts)}"


def main() -> int:
    """Run and print; the exit status is 1 where a limit was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="sequences of this seed that were run before")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--policy", action="store_true", help="only how drawn actions pass")
    options = parser.parse_args()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "mujoco", "hypothesis"))
    print(f"{os.cpu_count()} cores, {platform.platform()}; Python {platform.python_version()}, {versions}")
    if options.policy:
        for name in PROFILES:
            for spread, correlation in POLICIES:
                follow(load_profile(profile_path(name)), spread, correlation, 400, np.random.default_rng(options.seed))
        return 0
    numbers = range(options.first // BATCH, -(-(options.first + options.sequences) // BATCH))
    jobs = [(PROFILES[number % len(PROFILES)], BATCH, 1_000_000 * options.seed + number) for number in numbers]
    if options.sequences % BATCH:
        jobs[-1] = (jobs[-1][0], options.sequences % BATCH, jobs[-1][2])
    tallies: dict[str, Tally] = collections.defaultdict(Tally)
    with multiprocessing.Pool(options.processes) as pool:
        for name, tally in pool.imap_unordered(batch, jobs):
            tallies[name].add(tally)
    for name, tally in tallies.items():
        worst = ", ".join(f"{limited} {most:+.1e}" for limited, most in tally.worst.items() if limited != "finite")
        print(
            f"{name}: {tally.sequences} sequences, {len(tally.violations)} violations\n  most beyond a limit: {worst}"
        )
        print(f"  {shares(tally)}\n  {timing(tally)}")
        print(*tally.violations[:3], sep="\n", end="\n" if tally.violations else "")
    total = sum(len(tally.violations) for tally in tallies.values())
    print(f"all: {sum(tally.sequences for tally in tallies.values())} sequences, {total} violations")
    return int(total > 0)


if __name__ == "__main__":
    sys.exit(main())
