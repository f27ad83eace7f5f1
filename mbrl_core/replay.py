"""The replay buffer: whole episodes, each in one append-only file that survives `kill -9`.

A file is written under a temporary name, flushed to the disk and renamed: it is whole or it is not there. Tensors lie
in safetensors, the rest of the episode as JSON in its header; nothing is ever unpickled.
"""

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from mbrl_core.config import refuse
from mbrl_core.types import Episode, Vector

SCHEMA_VERSION = 2
# What files of older schemas lack, and what they are read with: recorded robot data is precious. Whether their actions
# were drawn is not known; False keeps them from where only drawn ones will do.
_LACKING: dict[int, dict[str, Any]] = {1: {"exploring": False}}
HOLDOUT_EVERY = 10
TEMPORARY = ".partial"
_TENSORS = ("states", "goal", "actions_asked", "actions_sent", "rewards", "stamps_s", "flags", "policy_versions")


@dataclass(frozen=True, kw_only=True)
class Transitions:
    """Steps of many episodes, in the order in which they happened."""

    states: Vector  # (B, S)
    actions: Vector  # (B, A), as sent
    next_states: Vector  # (B, S)

    def __len__(self) -> int:
        """B."""
        return len(self.states)


class Replay:
    """All real episodes, demonstrations before those collected. One thread may add while another reads."""

    def __init__(
        self, directory: Path | None = None, *, demonstrations: Path | None = None, holdout_block: int = 0
    ) -> None:
        """Load what the directories hold; without one, keep episodes in memory only.

        Args:
          directory: where the episodes lie.
          demonstrations: where those lie that the run began with; made when the first is added.
          holdout_block: steps in a row that are held out together; 0 = whole episodes.

        Raises:
          ValueError: an episode file is damaged, or one is missing between others.
        """
        self._directory, self._demonstrations_directory = directory, demonstrations
        self._holdout_block = holdout_block
        self._demonstrations: list[Episode] = []
        self._collected: list[Episode] = []
        self.ignored: tuple[str, ...] = ()  # torn temporary files, left behind by a process that was killed
        if demonstrations is not None and demonstrations.is_dir():
            self._load(demonstrations, self._demonstrations)
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
            self._load(directory, self._collected)

    def _load(self, directory: Path, episodes: list[Episode]) -> None:
        self.ignored += tuple(sorted(path.name for path in directory.glob(f"*{TEMPORARY}")))
        for index, path in enumerate(sorted(directory.glob("episode-*.safetensors"))):
            if path.name != _file_name(index):
                raise refuse("replay", _file_name(index), path.name)
            episode = read_episode(path)
            self._check_widths(episode)
            episodes.append(episode)

    @property
    def episodes(self) -> tuple[Episode, ...]:
        """A snapshot of all episodes: demonstrations, then the collected ones in order of arrival."""
        return (*self._demonstrations, *self._collected)

    @property
    def demonstrations(self) -> tuple[Episode, ...]:
        """A snapshot of those that the run began with."""
        return tuple(self._demonstrations)

    @property
    def collected(self) -> tuple[Episode, ...]:
        """A snapshot of the others."""
        return tuple(self._collected)

    @property
    def real_steps(self) -> int:
        """Steps that the run has taken on the robot, GAP steps included, demonstrations not."""
        return sum(episode.steps for episode in self.collected)

    @property
    def demonstration_steps(self) -> int:
        """Steps of all demonstrations, GAP steps included."""
        return sum(episode.steps for episode in self.demonstrations)

    def holds(self, episode: Episode) -> bool:
        """Whether this very episode was collected already: the same states at the same times."""
        return any(
            np.array_equal(other.stamps_s, episode.stamps_s) and np.array_equal(other.states, episode.states)
            for other in self.collected
        )

    def add(self, episode: Episode) -> Path | None:
        """Append an episode, on disk before in memory; return its file.

        Raises:
          ValueError: its states, actions or goal have other widths than the buffer's.
        """
        return self._append(episode, self._directory, self._collected)

    def add_demonstration(self, episode: Episode) -> Path | None:
        """Append a demonstration, likewise; it moves no other episode to another place, so there must be none behind.

        Raises:
          ValueError: other widths, or an episode was collected already.
        """
        if self._collected:
            raise refuse("demonstrations", "before the first collected episode", f"after {len(self._collected)}")
        if self._demonstrations_directory is not None:
            self._demonstrations_directory.mkdir(parents=True, exist_ok=True)
        return self._append(episode, self._demonstrations_directory, self._demonstrations)

    def _append(self, episode: Episode, directory: Path | None, episodes: list[Episode]) -> Path | None:
        self._check_widths(episode)
        path = None
        if directory is not None:
            path = directory / _file_name(len(episodes))
            write_episode(path, episode)
        episodes.append(episode)
        return path

    def _check_widths(self, episode: Episode) -> None:
        for name in ("states", "actions_sent", "goal"):
            widths = [getattr(other, name).shape[-1] for other in (*self.episodes[:1], episode)]
            if len(set(widths)) > 1:
                raise refuse(f"episode.{name}", f"width {widths[0]}", widths[1])

    def transitions(self, *, holdout: bool) -> Transitions:
        """Steps to train on or the held-out ones; GAP steps are left out.

        Raises:
          ValueError: there are none.
        """
        parts, before = [], 0
        for index, episode in enumerate(self.episodes):
            rows = self._held_out(index, before, episode) == holdout
            parts.append(_steps(episode, rows))
            before += episode.steps
        if not sum(len(states) for states, _, _ in parts):
            raise self._too_little(before)
        states, actions, next_states = (np.concatenate(column) for column in zip(*parts, strict=True))
        return Transitions(states=states, actions=actions, next_states=next_states)

    def _too_little(self, steps: int) -> ValueError:
        if self._holdout_block:
            return refuse("replay.real_steps", f"more than {self._holdout_block}", steps)
        return refuse("replay.episodes", "at least 2", len(self.episodes))

    def _held_out(self, index: int, before: int, episode: Episode) -> NDArray[np.bool_]:
        """Which steps of an episode are held out, given its place and the steps before it: (T,)."""
        if self._holdout_block:
            places: NDArray[np.int64] = (before + np.arange(episode.steps)) // self._holdout_block
        else:
            places = np.full(episode.steps, index)
        return np.asarray(is_holdout(places), dtype=bool)


def is_holdout(place: int | NDArray[np.int64]) -> bool | NDArray[np.bool_]:
    """Whether the episode (or block of steps) with this place is held out: for good, and whatever comes later."""
    return place % HOLDOUT_EVERY == 1


def write_episode(path: Path, episode: Episode) -> None:
    """Write an episode so that its file is whole or absent.

    Raises:
      ValueError: the file exists; episodes are never changed.
    """
    if path.exists():
        raise refuse("episode file", "a new name", path.name)
    tensors = {name: np.ascontiguousarray(getattr(episode, name)) for name in _TENSORS}
    write_atomically(path, save_tensors(tensors, metadata={"episode": json.dumps(_header(episode))}))


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file under a temporary name, flush it to the disk, rename it, flush the directory."""
    temporary = path.with_name(path.name + TEMPORARY)
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read_episode(path: Path) -> Episode:
    """Read an episode file.

    Raises:
      ValueError: the file is damaged, of another schema or contradicts itself.
    """
    data = path.read_bytes()
    try:
        tensors: dict[str, Any] = load_tensors(data)
        header: dict[str, Any] = json.loads(header_metadata(data)["episode"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise refuse(path.name, "a whole episode file", str(error)) from error
    if not isinstance(header, dict):
        raise refuse(f"{path.name}: header", "a mapping", header)
    version = header.pop("schema_version", None)
    if version not in (*_LACKING, SCHEMA_VERSION):
        raise refuse(f"{path.name}: schema_version", [*_LACKING, SCHEMA_VERSION], version)
    header |= _LACKING.get(version, {})
    fields = {field.name for field in dataclasses.fields(Episode)}
    if set(header) | set(tensors) != fields or set(tensors) != set(_TENSORS):
        raise refuse(f"{path.name}: fields", sorted(fields), sorted(set(header) | set(tensors)))
    return Episode(**tensors, **header)


def header_metadata(data: bytes) -> dict[str, str]:
    """The text that a safetensors file carries: 8 bytes of length, then the header as JSON."""
    length = int.from_bytes(data[:8], "little")
    metadata: dict[str, str] = json.loads(data[8 : 8 + length])["__metadata__"]
    return metadata


def _header(episode: Episode) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(Episode) if field.name not in _TENSORS]
    return {"schema_version": SCHEMA_VERSION} | {name: getattr(episode, name) for name in names}


def _file_name(index: int) -> str:
    return f"episode-{index:06d}.safetensors"


def _steps(episode: Episode, rows: NDArray[np.bool_]) -> tuple[Vector, Vector, Vector]:
    whole = rows & episode.whole
    return episode.states[:-1][whole], episode.actions_sent[whole], episode.states[1:][whole]
