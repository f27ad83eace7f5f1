"""Gathers one episode step by step: what was asked, what was really sent, when, and what went wrong."""

import numpy as np

from mbrl_core.tasks.reach import ReachTask
from mbrl_core.types import Action, Episode, StepFlag, Vector

CLAMPED_BY = 0.05  # difference of allowed and sent action, in units of the action, that counts as clamped
GAP_SHARE = 0.2  # a step that lasts this share longer or shorter than it should has a gap

_NOBODY = Action(seq=0, episode=0, action=np.zeros(0))  # acted where no action came


class EpisodeRecorder:
    """One episode in the making."""

    def __init__(self, task: ReachTask, *, episode: int, goal: Vector, state: Vector, stamp_s: float) -> None:
        """Begin with the first state: (S,)."""
        self._task, self._goal, self._episode = task, goal, episode
        self._states, self._stamps_s = [state], [stamp_s]
        self._asked: list[Vector] = []
        self._actions: list[tuple[int, Action]] = []  # with the step, where there was one
        self._sent: list[Vector] = []
        self._flags: list[StepFlag] = []
        self._versions: list[int] = []

    @property
    def steps(self) -> int:
        """Steps recorded so far."""
        return len(self._asked)

    def add(self, action: Action | None, flags: StepFlag, state: Vector, stamp_s: float, *, share: float = 1.0) -> None:
        """Close a step.

        Args:
          action: what was asked, as drawn; None: nothing came.
          flags: what is known of the step.
          state: (S,), where it led to.
          stamp_s: when that was read, s of robot time.
          share: of the action, cut to [-1, 1], that the disagreement gate let through.
        """
        before = self._states[-1]
        targets = slice(self._task.learned_dim, None)
        sent = self._task.increment.action_between(before[targets], state[targets])
        asked = np.zeros(self._task.action_dim) if action is None else action.action
        if share < 1.0:
            flags |= StepFlag.SLOWED
        if np.abs(sent - share * np.clip(asked, -1.0, 1.0)).max() > CLAMPED_BY:
            flags |= StepFlag.CLAMPED
        if abs(stamp_s - self._stamps_s[-1] - self._task.profile.step_s) > GAP_SHARE * self._task.profile.step_s:
            flags |= StepFlag.GAP
        self._asked.append(asked)
        self._sent.append(sent)
        self._flags.append(flags)
        self._versions.append(0 if action is None else action.policy_version)
        if action is not None:
            self._actions.append((self.steps - 1, action))
        self._states.append(state)
        self._stamps_s.append(stamp_s)

    def finish(self, reason: str, *, reset_s: float) -> Episode:
        """Return the episode; it was truncated (the reach task never terminates)."""
        states, sent, goal = np.array(self._states), np.array(self._sent), np.asarray(self._goal)
        whole = self.steps == self._task.steps
        last = self._actions[-1][1] if self._actions else _NOBODY
        return Episode(
            states=states,
            goal=goal,
            actions_asked=np.array(self._asked),
            actions_sent=sent,
            rewards=np.array(self._task.reward(states[:-1], sent, states[1:], goal)),
            stamps_s=np.array(self._stamps_s),
            flags=np.array(self._flags, dtype=np.uint8),
            policy_versions=np.array(self._versions, dtype=np.uint32),
            episode=self._episode,
            arm=self._task.profile.name,
            task=self._task.name,
            terminated=False,
            truncated=True,
            end_reason=reason + self._changes(),
            success=whole and bool(self._task.success(states[-1], goal)),
            final_distance_m=float(self._task.distance(states[-1], goal)),
            reset_s=reset_s,
            member=last.member,
            inner_steps=last.inner_steps,
            exploring=any(action.exploring for _, action in self._actions),
        )

    def _changes(self) -> str:
        """Who acted from which step on, where that changed: the episode's own fields can only tell one of them.

        A change of version is left to `policy_versions`: it is ordinary while a learner publishes.
        """
        parts: list[str] = []
        before = None
        for step, action in self._actions:
            acting = (action.member, action.inner_steps, action.exploring)
            if acting != before:
                how = "drawn" if action.exploring else "mean"
                parts.append(f"member {action.member} inner steps {action.inner_steps} {how} from step {step}")
            before = acting
        return f"; acted: {', '.join(parts)}" if len(parts) > 1 else ""
