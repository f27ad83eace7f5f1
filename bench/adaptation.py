"""How much of what another arm costs a policy is won back by a few real episodes, on the robot's own means.

One policy per seed and method is trained on the twin as its profile says, without ROS and faster than real time, and
serves every perturbation. On a perturbed twin it then acts by its mean, to goals that training never saw; explores in
up to five episodes with drawn actions; takes inner steps on these, as a robot does (ONNX Runtime and numpy alone, see
mbrl_core/imagined_steps.py); and acts by its mean again, to the same goals. Returns are those of the tip where it truly
is. What is done is not done again.

    python bench/adaptation.py --out runs/adaptation
    python bench/adaptation.py --out runs/adaptation --seeds 0 --only payload delay
    python bench/adaptation.py --out runs/adaptation --upper     # also train on each perturbed arm, seed 0
"""

import argparse
import dataclasses
import math
from functools import partial
from pathlib import Path

import numpy as np
import torch
from adaptation_results import AFTER, GOALS, Results, whole_table

from mbrl_core.actor import Actor, RandomActor
from mbrl_core.adaptation_config import USUAL_STEPS
from mbrl_core.adaptation_rules import attempt
from mbrl_core.adapter import Adapter
from mbrl_core.algorithms.inner_step import InnerStepConfig, initial_step_sizes
from mbrl_core.algorithms.learner import Learner
from mbrl_core.algorithms.mb_mpo import MbMpoConfig, mb_mpo
from mbrl_core.algorithms.me_ppo import me_ppo
from mbrl_core.arm import load_profile
from mbrl_core.bundle import AdaptationMetadata, Bundle
from mbrl_core.imagined_config import ImaginedStepsConfig
from mbrl_core.policies.export import adapt_graph
from mbrl_core.replay import Replay
from mbrl_core.routes import begin_steps
from mbrl_core.types import Episode, Vector
from mbrl_sim import profile_path
from mbrl_sim.perturbation import Perturbation
from mbrl_sim.reach_env import ReachEnv, run_episode

PROFILE = load_profile(profile_path("so101"))
FOREARM_KG = 0.104
BENT = {"bend_m": 0.005, "bend_rad": math.radians(3.0), "joint": "wrist_flex"}
LADEN = {"payload_kg": FOREARM_KG}
CASES = {
    "payload +50 %": Perturbation(payload_kg=0.5 * FOREARM_KG),
    "payload +100 %": Perturbation(**LADEN),
    **{
        f"gain x0.7, {PROFILE.joints[index].name}": Perturbation(stiffness=0.7, joint=PROFILE.joints[index].name)
        for index in PROFILE.controlled
    },
    "friction x2": Perturbation(friction=2.0),
    "delay 50 ms": Perturbation(delay_s=PROFILE.step_s),
    "bent link": Perturbation(**BENT),
    "payload +100 %, delay": Perturbation(**LADEN, delay_s=PROFILE.step_s),
    "payload +100 %, bent link": Perturbation(**LADEN, **BENT),
    "payload +100 %, friction x2": Perturbation(**LADEN, friction=2.0),
    "friction x2, delay": Perturbation(friction=2.0, delay_s=PROFILE.step_s),
}
METHODS = {"mb-mpo": mb_mpo, "me-ppo": me_ppo}
GOAL_SEED = 20_000
EPISODES, RANDOM_EPISODES, ROUND_EVERY = 16, 6, 2


def train(method: str, seed: int, folder: Path, perturbation: Perturbation | None = None) -> Bundle:
    """Collect and learn, or read what was learned: the bundle, able to adapt whatever the method."""
    path = folder / "policy.mbrl"
    if path.is_file():
        return Bundle.load(path)
    env, rng, replay = ReachEnv(PROFILE, perturbation=perturbation), np.random.default_rng((seed, 2)), Replay()
    env.reset(seed=seed)
    learner = METHODS[method](env.task, seed=seed)
    for index in range(EPISODES):
        acts = index >= RANDOM_EPISODES and learner.version > 0
        member = index % learner.adapted_policies if learner.adapted_policies else None
        actor = Actor(learner.bundle(member)) if acts else RandomActor(env.task.action_dim)
        replay.add(run_episode(env, actor, index=index, rng=rng))
        if index >= RANDOM_EPISODES - 1 and (index - RANDOM_EPISODES + 1) % ROUND_EVERY == 0:
            learner.round(replay)
            print(f"  {method}, seed {seed}: {replay.real_steps} real steps, version {learner.version}", flush=True)
    bundle = learner.bundle() if method == "mb-mpo" else able_to_adapt(learner)
    folder.mkdir(parents=True, exist_ok=True)
    bundle.save(path)
    return bundle


def able_to_adapt(learner: Learner) -> Bundle:
    """A policy of a method without an inner step, with MB-MPO's: step sizes are those that MB-MPO begins with."""
    config, method = MbMpoConfig(), learner.method
    trained = method.trained.copied()
    sizes = method.policy.flatten(initial_step_sizes(trained.policy, InnerStepConfig()))
    value = {name: tensor.numpy() for name, tensor in trained.value.items()}
    adaptation = AdaptationMetadata(
        form=config.inner.form,
        discount=config.value.discount,
        trace=config.value.trace,
        max_kl=config.inner.max_kl,
        value_layers=sum(name.startswith("weight") for name in value),
    )
    bundle = learner.bundle()
    return dataclasses.replace(
        bundle,
        metadata=dataclasses.replace(bundle.metadata, adaptation=adaptation),
        adapt_onnx=adapt_graph(method.policy, config.inner.form),
        step_sizes=sizes.numpy(),
        value=value,
    )


def evaluate(env: ReachEnv, bundle: Bundle) -> list[Episode]:
    """By the mean, to fixed goals that training never saw."""
    goals: Vector = env.task.sample_goal(np.random.default_rng(GOAL_SEED), GOALS)
    actor = Actor(bundle)
    return [run_episode(env, actor, goal=goal) for goal in goals]


def run_case(results: Results, seed: int, name: str, method: str, bundle: Bundle) -> None:
    """Before, and after so many episodes by each route."""
    env = ReachEnv(PROFILE, perturbation=CASES[name])
    env.reset(seed=seed)
    adapter = Adapter(bundle, env.task)
    where = {"seed": seed, "case": name, "method": method}
    if not results.find(**where, route="before"):
        results.add(evaluate(env, bundle), **where, route="before", episodes=0)
    before = results.returns(**where, route="before")
    rng, explored, actor = np.random.default_rng((seed, 3)), list[Episode](), Actor(bundle)
    for count in AFTER:
        while len(explored) < count:
            explored.append(run_episode(env, actor, index=len(explored), rng=rng))
        for route, steps in USUAL_STEPS.items():
            key = where | {"route": route, "episodes": count}
            if results.find(**key) or (count < AFTER[-1] and (route, method) != ("imagined", "mb-mpo")):
                continue
            begin = partial(begin_steps, route, bundle, adapter, bundle.theta, explored, ImaginedStepsConfig())
            tried = attempt(begin, adapter, bundle.theta, explored, steps, max_kl=0.0)
            adapted = dataclasses.replace(bundle, theta=tried.theta)
            results.add(evaluate(env, adapted), steps=tried.taken, before=before, **key)


def parse() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/adaptation"))
    parser.add_argument("--results", type=Path, help="folder of adaptation.csv and adaptation.md; --out if absent")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--only", nargs="*", default=[], help="words that a case's name must hold, any of them")
    parser.add_argument("--upper", action="store_true", help="train on every perturbed arm too, seed 0")
    parser.add_argument("--table", action="store_true", help="run nothing")
    return parser.parse_args()


def main() -> None:
    """Train, adapt, tabulate."""
    args = parse()
    torch.set_num_threads(1)
    cases = [name for name in CASES if not args.only or any(word in name for word in args.only)]
    results = Results((args.results or args.out) / "adaptation.csv")
    for seed in args.seeds if not args.table else []:
        for method in args.methods:
            bundle = train(method, seed, args.out / method / f"seed-{seed}")
            if not results.find(seed=seed, case="none", method=method):
                env = ReachEnv(PROFILE, perturbation=Perturbation())
                env.reset(seed=seed)
                results.add(evaluate(env, bundle), seed=seed, case="none", method=method, route="before", episodes=0)
            for name in cases:
                print(f"{method}, seed {seed}: {name}", flush=True)
                run_case(results, seed, name, method, bundle)
    if args.upper:
        for name in cases:
            train_upper(results, name, args.out / "upper" / name.replace(" ", "-"))
    text = whole_table(results, list(CASES))
    results.path.with_suffix(".md").write_text(text)
    print(text)


def train_upper(results: Results, name: str, folder: Path) -> None:
    """What training on the perturbed arm itself comes to, seed 0."""
    key = {"seed": 0, "case": name, "method": "me-ppo", "route": "trained there", "episodes": EPISODES}
    if not results.find(**key):
        bundle = train("me-ppo", 0, folder, CASES[name])
        env = ReachEnv(PROFILE, perturbation=CASES[name])
        env.reset(seed=0)
        results.add(evaluate(env, bundle), **key)


if __name__ == "__main__":
    main()
