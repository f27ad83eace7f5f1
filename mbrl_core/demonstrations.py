"""Recorded episodes that a run begins with: of an earlier run, or of whoever moved the robot.

They are copied into a folder of the run's own, stand before all that it collects, and never change: hold-out goes by
place, so what is held out stays so, demonstrations among it. They count in no budget of real steps.
"""

import hashlib
from pathlib import Path

from mbrl_core.config import refuse
from mbrl_core.replay import Replay, read_episode
from mbrl_core.tasks.task import Task
from mbrl_core.types import Episode

DEMONSTRATIONS = "demonstrations"  # the folder, beside episodes/


def read_demonstrations(folder: Path, task: Task) -> tuple[Episode, ...]:
    """Read and check a folder of episode files.

    Args:
      folder: of a run, whose own episodes are taken; or of episode files, in the order of their names.
      task: that they must fit.

    Raises:
      ValueError: there are none, one is damaged or holds a number that is not finite, is of another task, arm or
        width, or is there twice, so that a held-out step would be trained on.
    """
    place = folder / "episodes" if (folder / "episodes").is_dir() else folder
    paths = sorted(place.glob("episode-*.safetensors"))
    if not paths:
        raise refuse("demonstrations", "a folder with episode-*.safetensors, or of a run", str(folder))
    seen: dict[int, str] = {}
    episodes = []
    for path in paths:
        episode = read_episode(path)
        _check_fits(path.name, episode, task)
        before = seen.setdefault(fingerprint((episode,)), path.name)
        if before != path.name:
            raise refuse(f"demonstrations: {path.name}", "an episode of its own", f"the same as {before}")
        episodes.append(episode)
    return tuple(episodes)


def begin_with(replay: Replay, episodes: tuple[Episode, ...]) -> None:
    """Put demonstrations into a buffer; those that it holds already, as after a restart, must be the first of them.

    Raises:
      ValueError: it holds others, or has collected an episode.
    """
    held = replay.demonstrations
    if fingerprint(held) != fingerprint(episodes[: len(held)]):
        raise refuse("demonstrations", f"the {len(held)} that the run began with", f"{len(episodes)}, not the same")
    for episode in episodes[len(held) :]:
        replay.add_demonstration(episode)


def fingerprint(episodes: tuple[Episode, ...]) -> int:
    """A number that names what happened in these episodes: 128 bits."""
    digest = hashlib.sha256()
    for episode in episodes:
        digest.update(episode.states.tobytes())
        digest.update(episode.actions_sent.tobytes())
    return int.from_bytes(digest.digest()[:16], "little")


def _check_fits(name: str, episode: Episode, task: Task) -> None:
    arm = "" if task.profile is None else task.profile.name
    for field, wanted, got in (("task", task.name, episode.task), ("arm", arm, episode.arm)):
        if got != wanted:
            raise refuse(f"demonstrations: {name}: {field}", repr(wanted), got)
    widths = {"states": task.state_dim, "actions_sent": task.action_dim, "goal": task.goal_dim}
    for field, width in widths.items():
        shape = getattr(episode, field).shape
        if shape[-1:] != (width,):
            raise refuse(f"demonstrations: {name}: {field}", f"width {width}", shape)
