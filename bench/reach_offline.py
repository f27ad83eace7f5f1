"""Reach without ROS, with the real run's budget: how often does a policy trained on so few real steps succeed?

Time is virtual: the robot needs 5 s for an episode and a little for its reset; the learner, which has a core of its
own, needs the processor time that it really uses. An episode is run by the newest policy that exists when it starts.

    python bench/reach_offline.py --seeds 0 1 2 3 4
"""

import argparse
import time
from dataclasses import dataclass, field

import numpy as np
import torch

from mbrl_core.actor import Actor, RandomActor, ZeroActor
from mbrl_core.algorithms.learner import Learner
from mbrl_core.algorithms.me_ppo import me_ppo
from mbrl_core.algorithms.report import RoundReport
from mbrl_core.arm import ArmProfile, load_profile
from mbrl_core.bundle import Bundle
from mbrl_core.replay import Replay
from mbrl_core.types import Vector
from mbrl_sim import profile_path
from mbrl_sim.reach_env import Acts, ReachEnv, run_episode

RESET_S = 1.2
EVALUATION_SEED = 20_000


@dataclass
class VirtualLearner:
    """A learner beside the robot, on a clock that counts its processor time."""

    learner: Learner
    share: float  # of a core
    clock_s: float = 0.0
    ready: list[tuple[float, Bundle]] = field(default_factory=list)
    reports: list[RoundReport] = field(default_factory=list)

    def run_until(self, now_s: float, replay: Replay, ends_s: list[float]) -> None:
        """Start rounds until the clock has passed a time; a round sees the episodes that ended before it started."""
        while len(ends_s) >= 2 and max(self.clock_s, ends_s[1]) < now_s:
            self.clock_s = max(self.clock_s, ends_s[1])
            seen = Replay()
            for episode, end_s in zip(replay.episodes, ends_s, strict=True):
                if end_s <= self.clock_s:
                    seen.add(episode)
            start_s = time.thread_time()
            self.reports.append(self.learner.round(seen))
            self.clock_s += (time.thread_time() - start_s) / self.share
            if self.reports[-1].accepted:
                self.ready.append((self.clock_s, self.learner.bundle()))

    def newest(self, now_s: float) -> Bundle | None:
        """The newest policy that exists at a time."""
        return next((bundle for ready_s, bundle in reversed(self.ready) if ready_s <= now_s), None)


def train(profile: ArmProfile, seed: int, args: argparse.Namespace) -> tuple[Actor, VirtualLearner]:
    """Collect and learn; return the final policy."""
    env, rng = ReachEnv(profile), np.random.default_rng((seed, 2))
    env.reset(seed=seed)
    replay, ends_s, now_s = Replay(), [], 0.0
    learner = VirtualLearner(me_ppo(env.task, seed=seed), args.share)
    actor: Acts = RandomActor(env.task.action_dim, hold_steps=args.hold)
    for index in range(args.episodes):
        now_s += RESET_S
        learner.run_until(now_s, replay, ends_s)
        bundle = learner.newest(now_s)
        if bundle is not None and index >= args.random_episodes:
            actor = Actor(bundle)
        replay.add(run_episode(env, actor, index=index, rng=rng))
        now_s += env.task.config.duration_s
        ends_s.append(now_s)
        if args.verbose:
            last = replay.episodes[-1]
            line = f"episode {index:2d} version {actor.version:3d} return {last.episode_return:7.1f}"
            print(f"  {line} distance {last.final_distance_m * 1e3:6.1f} mm", flush=True)
        if args.curve and (index + 1) % args.curve == 0 and bundle is not None:
            print(f"  after {replay.real_steps} steps:", evaluate(profile, Actor(bundle), args.goals), flush=True)
    now_s += args.final_s
    learner.run_until(now_s, replay, ends_s)
    bundle = learner.newest(now_s)
    if bundle is None:
        raise RuntimeError("the learner never had a policy accepted")
    return Actor(bundle), learner


def evaluate(profile: ArmProfile, actor: Acts, count: int, noisy: bool = False) -> str:
    """Success, final distance and return over fixed goals that training never saw."""
    env = ReachEnv(profile)
    env.reset(seed=0)
    rng = np.random.default_rng(EVALUATION_SEED)
    goals: Vector = env.task.sample_goal(rng, count)
    episodes = [run_episode(env, actor, goal=goal, rng=rng if noisy else None) for goal in goals]
    success = np.mean([episode.success for episode in episodes])
    middle, high, worst = np.quantile([episode.final_distance_m * 1e3 for episode in episodes], [0.5, 0.95, 1.0])
    returns = np.mean([episode.episode_return for episode in episodes])
    distances = f"distance median {middle:.1f}, 95 % {high:.1f}, worst {worst:.1f} mm"
    return f"success {100 * success:.0f} %, {distances}, return {returns:.1f}"


def print_round(report: RoundReport) -> None:
    """One line for a round."""
    seconds = f"fit {report.fit_s:.1f} s, improve {report.improve_s:.1f} s, validate {report.validate_s:.1f} s"
    imagined = f"imagined return {report.imagined_return:.1f}, success {report.imagined_success:.2f}"
    model = f"disagreement {report.disagreement:.3f}, loss {np.mean(report.holdout_loss):.2f}"
    print(
        f"  {report.episodes} episodes, version {report.policy_version}, {seconds}, {imagined}, {model}", report.problem
    )


def parse() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="so101", help="name under the assets, or a path of a YAML")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--episodes", type=int, default=24)
    parser.add_argument("--random-episodes", type=int, default=3, help="episodes before the first policy may act")
    parser.add_argument("--hold", type=int, default=10, help="steps that a random action is held")
    parser.add_argument("--final-s", type=float, default=45.0, help="learning after the last episode")
    parser.add_argument("--share", type=float, default=1.0, help="share of a core that the learner gets")
    parser.add_argument("--goals", type=int, default=100)
    parser.add_argument("--curve", type=int, default=0, help="evaluate after every so many episodes; 0 = at the end")
    parser.add_argument("--verbose", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Run all seeds and print a line for each."""
    args = parse()
    torch.set_num_threads(1)
    profile = load_profile(profile_path(args.profile))
    actions = len(profile.controlled)
    print("zero:  ", evaluate(profile, ZeroActor(actions), args.goals))
    print("random:", evaluate(profile, RandomActor(actions, hold_steps=args.hold), args.goals, noisy=True))
    for seed in args.seeds:
        start_s = time.monotonic()
        actor, learner = train(profile, seed, args)
        wall_s = time.monotonic() - start_s
        for report in learner.reports if args.verbose else []:
            print_round(report)
        imagined = sum(report.imagined_steps for report in learner.reports)
        fitted = sum(report.fit_steps for report in learner.reports) * learner.learner.ensemble.config.batch
        improve_s = sum(report.improve_s for report in learner.reports)
        fit_s = sum(report.fit_s for report in learner.reports)
        speed = (
            f"imagined and learned {imagined / improve_s / 1e3:.0f} k steps/s, fitted {fitted / fit_s / 1e3:.0f} k/s"
        )
        print(f"seed {seed}:", evaluate(profile, actor, args.goals))
        print(f"  {len(learner.reports)} rounds, version {actor.version}, {speed}, wall {wall_s:.0f} s", flush=True)


if __name__ == "__main__":
    main()
