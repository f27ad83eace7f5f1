"""`mbrl adapt`: the inner step of the robot on recorded episodes, to the same numbers. No ROS, no torch."""

import dataclasses
from pathlib import Path

import numpy as np

from mbrl_core.adaptation_config import (
    INNER_STEPS_DOC,
    MOST_INNER_STEPS,
    ROUTE_DOC,
    ROUTES,
    AdaptationConfig,
    route_and_steps,
)
from mbrl_core.adaptation_rules import attempt
from mbrl_core.adapter import AdaptedStep, Adapter
from mbrl_core.arm import load_profile
from mbrl_core.bundle import Bundle, Metadata
from mbrl_core.config import refuse, setting
from mbrl_core.replay import read_episode
from mbrl_core.routes import begin_steps
from mbrl_core.tasks.reach import ReachTask
from mbrl_core.tasks.task import Task
from mbrl_core.types import Episode
from mbrl_sim import profile_path


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptConfig:
    """Adapt a policy to recorded episodes in which it acted itself, with its exploration, before any adaptation."""

    bundle: str = setting("", doc="policy file (.mbrl) of a method with an inner step")
    episodes: str = setting("", doc="folder with episode-*.safetensors, or of a run")
    out: str = setting("", doc="file for the adapted policy (.mbrl), new")
    route: str = setting("imagined", doc=f"{ROUTE_DOC}; real where there is no ensemble", one_of=ROUTES)
    inner_steps: int = setting(0, doc=INNER_STEPS_DOC, low=0, high=MOST_INNER_STEPS)
    profile: str = setting("", doc="the arm's profile, by name or path; empty = that of the bundle's arm")
    episode_steps: int = setting(0, doc="for an environment that has no time limit of its own", low=0)


def adapt(config: AdaptConfig) -> int:
    """Adapt, print every step, write the result; return 1 where no step was good enough, and nothing is written.

    Raises:
      ValueError: bundle, episodes or file will not do.
    """
    if not config.bundle:
        raise refuse("bundle", "a policy file (.mbrl)", config.bundle)
    out = Path(config.out)
    if not config.out or out.exists() or not out.absolute().parent.is_dir():
        raise refuse("out", "a new policy file (.mbrl) in a folder that exists", config.out)
    bundle = Bundle.load(Path(config.bundle))
    adapter = Adapter(bundle, _task(bundle.metadata, config))
    episodes = _acted_in(bundle, _read(config.episodes, bundle.metadata))
    route, most = route_and_steps(bundle, config.route, config.inner_steps)
    steps = begin_steps(route, bundle, adapter, bundle.theta, episodes, AdaptationConfig().imagined)
    tried = attempt(lambda: steps, adapter, bundle.theta, episodes, most, max_kl=0.0, on_step=_print_step)
    if tried.refusal:
        print(f"ended: {tried.refusal}")
    if not tried.taken:
        return 1
    dataclasses.replace(bundle, theta=tried.theta).save(out)
    print(f"{out}: version {bundle.version} after {tried.taken} of {most} steps, {route}, on {len(episodes)} episodes")
    return 0


def _print_step(step: AdaptedStep) -> None:
    loss = f"loss {step.loss:.6g} -> {step.loss_after:.6g}"
    print(f"step: {loss}, KL {step.kl:.6g} nats, gradient norm {step.gradient_norm:.6g}")


def _task(metadata: Metadata, config: AdaptConfig) -> Task:
    """The task that a bundle was made for.

    Raises:
      ValueError: there is no such profile or environment here.
    """
    if metadata.arm:
        return ReachTask(load_profile(profile_path(config.profile or metadata.arm)))
    from mbrl_sim.environment import open_environment  # a robot has no Gymnasium
    from mbrl_sim.gym_task import GymTask

    return GymTask(open_environment(metadata.task, episode_steps=config.episode_steps))


def _read(folder: str, metadata: Metadata) -> list[Episode]:
    """All episodes of a folder, each of the bundle's task and arm.

    Raises:
      ValueError: there are none, one is damaged, or is of another task or arm.
    """
    place = Path(folder) / "episodes" if (Path(folder) / "episodes").is_dir() else Path(folder)
    paths = sorted(place.glob("episode-*.safetensors")) if folder else []
    if not paths:
        raise refuse("episodes", "a folder with episode-*.safetensors, or of a run", folder)
    episodes = [read_episode(path) for path in paths]
    for path, episode in zip(paths, episodes, strict=True):
        for name in ("task", "arm"):
            if getattr(episode, name) != getattr(metadata, name):
                raise refuse(f"episodes: {path.name}: {name}", repr(getattr(metadata, name)), getattr(episode, name))
    return episodes


def _acted_in(bundle: Bundle, episodes: list[Episode]) -> list[Episode]:
    """Those that the bundle's policy explored in; the others tell nothing of its gradient. Prints how many.

    Raises:
      ValueError: there are none.
    """
    reasons = {
        f"by another version than {bundle.version}": lambda one: np.any(one.policy_versions != bundle.version),
        "by a policy that was adapted": lambda one: one.inner_steps > 0 or one.member >= 0,
        "without exploration": lambda one: not one.exploring,
    }
    left_out = dict.fromkeys(reasons, 0)
    used = []
    for episode in episodes:
        reason = next((name for name, applies in reasons.items() if applies(episode)), None)
        if reason is None:
            used.append(episode)
        else:
            left_out[reason] += 1
    because = ", ".join(f"{count} {name}" for name, count in left_out.items() if count)
    if not used:
        raise refuse("episodes", f"some that version {bundle.version} explored in", because)
    print(f"{len(used)} of {len(episodes)} episodes used" + (f"; left out: {because}" if because else ""))
    return used
