"""Real episodes as the tensors that a round of learning works on."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mbrl_core.models.state_range import StateRange
from mbrl_core.replay import Replay, Transitions
from mbrl_core.tasks.task import Task
from mbrl_core.types import Episode, Vector


@dataclass(frozen=True)
class Dataset:
    """What the ensemble is fitted to, where imagination starts, and what to validate on."""

    inputs: Tensor  # (B, I), training episodes
    targets: Tensor  # (B, D)
    held_inputs: Tensor  # (B', I), held-out episodes
    held_targets: Tensor  # (B', D)
    states: Tensor  # (B, S), training episodes
    state_range: StateRange  # of training episodes, their last states included
    first_states: Tensor  # (episodes, S), every episode's start
    episodes: int  # collected, without demonstrations
    real_steps: int  # likewise
    reward_spread: float  # standard deviation of what the task pays for the real steps


def dataset(replay: Replay, task: Task, device: str) -> Dataset:
    """Read the buffer as it is now.

    Raises:
      ValueError: no episode to train on or none held out.
    """

    def tensor(array: object) -> Tensor:
        return torch.as_tensor(np.asarray(array), dtype=torch.float32, device=device)

    def pairs(steps: Transitions) -> tuple[Tensor, Tensor]:
        targets = task.model_target(steps.states, steps.next_states)
        return tensor(task.model_input(steps.states, steps.actions)), tensor(targets)

    train, held, episodes = replay.transitions(holdout=False), replay.transitions(holdout=True), replay.episodes
    first_states = tensor([episode.states[0] for episode in episodes])
    paid = [_rewards(task, episode) for episode in episodes]
    return Dataset(
        *pairs(train),
        *pairs(held),
        states=tensor(train.states),
        state_range=StateRange.of(tensor(np.concatenate([train.states, train.next_states]))),
        first_states=first_states,
        episodes=len(replay.collected),
        real_steps=replay.real_steps,
        reward_spread=float(np.concatenate(paid).std()),
    )


def _rewards(task: Task, episode: Episode) -> Vector:
    """What the task pays for an episode's steps: another one than it was collected for pays by its own reward."""
    goals = np.broadcast_to(episode.goal, (episode.steps, len(episode.goal)))
    paid = task.reward(episode.states[:-1], episode.actions_sent, episode.states[1:], goals)
    return np.asarray(paid)[episode.whole]
