"""Speed of the robot's side on one core: acting, one adaptation step, the ensemble's disagreement.

Run: python bench/adapt_speed.py [--calls 1000000] [--steps 200]
"""

import argparse
import dataclasses
import importlib.metadata
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from mbrl_core.actor import Actor
from mbrl_core.adapter import Adapter
from mbrl_core.algorithms.accepted import Accepted, BundleMaker, Trained
from mbrl_core.algorithms.inner_step import uniform_step_sizes
from mbrl_core.algorithms.value import ValueMlp
from mbrl_core.arm import load_profile
from mbrl_core.bundle import AdaptationMetadata, Bundle
from mbrl_core.disagreement import Disagreement
from mbrl_core.imagined_config import ImaginedStepsConfig
from mbrl_core.imagined_steps import ImaginedSteps
from mbrl_core.models.ensemble import Ensemble
from mbrl_core.models.ensemble_graph import calibrated
from mbrl_core.models.normaliser import Normaliser
from mbrl_core.policies.gaussian_mlp import GaussianMlp
from mbrl_core.real_batch import RealBatch
from mbrl_core.tasks.reach import ReachTask
from mbrl_sim import profile_path
from mbrl_sim.reach_env import ReachEnv, run_episode

BATCHES = (256, 4000)
WARM_UP = 100
PACKAGES = ("onnxruntime", "numpy", "torch")


def whole_bundle(task: ReachTask) -> Bundle:
    """A 2x64 policy, its inner step and the default ensemble, as they are drawn: speed does not depend on numbers."""
    generator = torch.Generator().manual_seed(0)
    policy, value = GaussianMlp(task.obs_dim, task.action_dim), ValueMlp((task.obs_dim, 64, 64, 1))
    theta = policy.initial(generator)
    ensemble = Ensemble(task.input_dim, task.learned_dim, seed=0)
    accepted = Accepted(
        version=1,
        trained=Trained(theta, value.initial(generator), uniform_step_sizes(theta, 0.01)),
        obs_norm=Normaliser(torch.zeros(task.obs_dim), torch.ones(task.obs_dim)),
        gate=calibrated(ensemble, torch.randn(1000, task.input_dim, generator=generator)),
    )
    facts = AdaptationMetadata(form="lvc", discount=0.98, trace=0.95, max_kl=0.05, value_layers=3)
    return BundleMaker(task, policy, adaptation=facts, ensemble=ensemble).make(accepted)


def random_batch(adapter: Adapter, theta: np.ndarray, task: ReachTask, count: int) -> RealBatch:
    """Steps that the policy may have drawn."""
    rng = np.random.default_rng(0)
    obs, actions = rng.standard_normal((count, task.obs_dim)), 0.4 * rng.standard_normal((count, task.action_dim))
    rest = adapter.log_prob(theta, obs, actions), rng.standard_normal(count), np.ones(count)
    return RealBatch(*(np.asarray(part, dtype=np.float32) for part in (obs, actions, *rest)))


def memory_mib() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure(title: str, calls: int, call: Callable[[], object]) -> None:
    """Time every call, and print a row: median, 99th percentile and worst, and what memory has grown by."""
    durations_s = np.full(calls, np.nan)  # written before: its own pages are no growth
    for _ in range(WARM_UP):
        call()
    before = memory_mib()
    for index in range(calls):
        start = time.perf_counter()
        call()
        durations_s[index] = time.perf_counter() - start
    grown = memory_mib() - before
    middle, high = np.percentile(durations_s, [50, 99]) * 1e3
    print(f"{title:34} {calls:9,d} {middle:9.4f} {high:9.4f} {durations_s.max() * 1e3:9.3f} {grown:9.2f}", flush=True)


def main() -> None:
    """Print the machine, the versions and a row per thing that is timed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=1_000_000, help="actions, one after the other")
    parser.add_argument("--steps", type=int, default=200, help="adaptation steps at each batch")
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    task = ReachTask(load_profile(profile_path("so101")))
    bundle = whole_bundle(task)
    actor, adapter, disagreement = Actor(bundle), Adapter(bundle, task), Disagreement(bundle, task)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    print(f"{cpu_model()}, one core of {os.cpu_count()}, {platform.system()} {platform.release()}")
    print(f"Python {platform.python_version()}, {versions}; load {os.getloadavg()[0]:.1f}")
    print(f"policy 2x64, {len(bundle.theta):,} parameters, {task.obs_dim} observations, {task.action_dim} actions\n")
    print(f"{'':34} {'calls':>9} {'median ms':>9} {'99 % ms':>9} {'worst ms':>9} {'MiB more':>9}")
    rng, state = np.random.default_rng(0), np.zeros(task.state_dim)
    obs, action = np.asarray(task.observe(state, np.array([0.2, 0.0, 0.1]))), np.zeros(task.action_dim)
    measure("act, the mean", args.calls, lambda: actor.act(obs))
    measure("act, drawn", max(1, args.calls // 10), lambda: actor.draw(obs, rng))
    measure("disagreement of five members", max(1, args.calls // 10), lambda: disagreement(state, action))
    for count in BATCHES:
        batch = random_batch(adapter, bundle.theta, task, count)
        measure(f"adapt, one step, batch {count}", args.steps, lambda batch=batch: adapter.step(bundle.theta, batch))
    episode = run_episode(ReachEnv(task.profile), actor, rng=rng)
    imagined = ImaginedSteps(bundle, task, adapter, [episode], ImaginedStepsConfig())
    measure("adapt, one imagined step", max(1, args.steps // 10), lambda: imagined(bundle.theta))
    measure("adapt, a policy is judged", max(1, args.steps // 10), lambda: imagined.earned(bundle.theta))
    other = Actor(dataclasses.replace(bundle, theta=bundle.theta * np.float32(0.9)))
    measure("take over adapted parameters", args.steps, lambda: other.update(bundle))


def cpu_model() -> str:
    """As the kernel names it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")


if __name__ == "__main__":
    main()
