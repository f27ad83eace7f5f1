"""What a training run has shown so far, and the summary that is computed from it. Pure data; no ROS."""

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_core.replay import write_atomically
from mbrl_core.types import Episode


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Of one policy's evaluation."""

    episodes: int
    success_rate: float
    final_distance_m_median: float
    final_distance_m_mean: float
    final_distance_m_p95: float
    return_mean: float


def statistics(episodes: list[Episode]) -> Statistics | None:
    """Statistics over whole evaluation episodes; None without any."""
    if not episodes:
        return None
    distances = np.array([episode.final_distance_m for episode in episodes])
    return Statistics(
        episodes=len(episodes),
        success_rate=float(np.mean([episode.success for episode in episodes])),
        final_distance_m_median=float(np.median(distances)),
        final_distance_m_mean=float(distances.mean()),
        final_distance_m_p95=float(np.percentile(distances, 95)),
        return_mean=float(np.mean([episode.episode_return for episode in episodes])),
    )


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Last counters of robot_interface and learner in the collection phase."""

    watchdog_trips: int = 0
    missed_cycles: int = 0
    bus_errors: int = 0
    cycles: int = 0
    policies_published: int = 0
    updates_accepted: int = 0
    updates_rejected: int = 0


@dataclass(kw_only=True)
class RunRecord:
    """Grows while the run goes on."""

    settings: dict[str, Any]
    provenance: dict[str, Any]
    began_s: float = field(default_factory=time.monotonic)
    collected: list[Episode] = field(default_factory=list)
    collection_wall_s: float = 0.0
    counts: Counts = field(default_factory=Counts)
    rearms: int = 0
    evaluations: dict[str, list[Episode]] = field(default_factory=dict)  # actor -> episodes
    ended: str = "running"
    details: tuple[str, ...] = ()

    @property
    def real_steps(self) -> int:
        """Steps collected for learning."""
        return sum(episode.steps for episode in self.collected)

    @property
    def episode_time_s(self) -> float:
        """Robot time of the episodes."""
        return float(sum(episode.stamps_s[-1] - episode.stamps_s[0] for episode in self.collected))

    @property
    def reset_time_s(self) -> float:
        """Robot time of the motions back home before them."""
        return float(sum(episode.reset_s for episode in self.collected))

    @property
    def robot_time_s(self) -> float:
        """Robot time of the whole collection."""
        return self.episode_time_s + self.reset_time_s

    def summary(self) -> dict[str, Any]:
        """Everything that summary.json holds; a figure that was not reached is None."""
        ratio = self.robot_time_s / self.collection_wall_s if self.collection_wall_s else None
        return {
            "ended": self.ended,
            **_prefixed("", statistics(self.evaluations.get("learned", []))),
            **_prefixed("zero_", statistics(self.evaluations.get("zero", []))),
            **_prefixed("random_", statistics(self.evaluations.get("random", []))),
            "real_steps": self.real_steps,
            "episodes": len(self.collected),
            "random_episodes": sum(is_random(episode) for episode in self.collected),
            "robot_time_s": self.robot_time_s,
            "episode_time_s": self.episode_time_s,
            "reset_time_s": self.reset_time_s,
            "wall_s": time.monotonic() - self.began_s,
            "collection_wall_s": self.collection_wall_s,
            "collection_ratio": ratio,
            **asdict(self.counts),
            "rearms": self.rearms,
            **self.settings,
            **self.provenance,
            "details": list(self.details),
        }

    def write(self, path: Path) -> None:
        """Write the summary so that a reader never sees half of it."""
        write_atomically(path, json.dumps(self.summary(), indent=2, allow_nan=False).encode())


def is_random(episode: Episode) -> bool:
    """Whether no learned policy acted in the episode."""
    return not episode.policy_versions.any()


def _prefixed(prefix: str, numbers: Statistics | None) -> dict[str, Any]:
    names = Statistics.__dataclass_fields__
    values = asdict(numbers) if numbers else dict.fromkeys(names)
    return {f"{prefix}{'evaluation_episodes' if name == 'episodes' else name}": values[name] for name in names}
