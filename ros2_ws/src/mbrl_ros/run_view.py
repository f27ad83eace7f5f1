"""What a person sees while a run goes on: one line per episode, and below them a bar where there is a terminal."""

from types import TracebackType

import numpy as np
from rich.console import Console as Terminal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from mbrl_core.types import STEP_BUDGET, TIME_LIMIT, Episode
from mbrl_msgs.msg import AdaptationStatus, LearnerStatus


class RunView:
    """Prints to the terminal."""

    def __init__(self) -> None:
        """Begin without a bar."""
        self.terminal = Terminal(highlight=False, markup=False, soft_wrap=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        hidden = not self.terminal.is_terminal
        self._bars = Progress(*columns, console=self.terminal, disable=hidden, transient=True)
        self._bar: TaskID | None = None

    def __enter__(self) -> "RunView":
        """Show the bar."""
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the bar."""
        self._bars.stop()

    def say(self, text: object) -> None:
        """Print a line, or anything that rich can print."""
        self.terminal.print(text)

    def phase(self, title: str, total: int | None) -> None:
        """Begin a new bar; total None = not known."""
        if self._bar is not None:
            self._bars.remove_task(self._bar)
        self._bar = self._bars.add_task(title, total=total)

    def advance_to(self, completed: float, title: str | None = None) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bars.update(self._bar, completed=completed, description=title)


def episode_line(episode: Episode, *, robot_time_s: float, real_steps: int, max_steps: int) -> str:
    """What came of one episode."""
    budget = f"/{max_steps}" if max_steps else ""
    reached = "reached" if episode.success else "missed "
    line = (
        f"episode {episode.episode:3d}  robot {robot_time_s:6.1f} s  steps {real_steps:4d}{budget}"
        f"  return {episode.episode_return:7.2f}  {reached} {100 * episode.final_distance_m:5.1f} cm"
        f"  policy v{int(episode.policy_versions.max(initial=0))}{_how(episode)}"
    )
    return line if episode.end_reason in (TIME_LIMIT, STEP_BUDGET) else f"{line}  ({episode.end_reason})"


def learner_line(status: LearnerStatus | None) -> str:
    """What the learner is doing."""
    if status is None:
        return "learner: not heard yet"
    if not status.holdout_loss:
        return f"learner: {status.phase}"
    loss = float(np.mean(status.holdout_loss))
    return f"learner: {status.phase}, hold-out loss {loss:.3f}, disagreement {status.disagreement:.3f}"


def adaptation_line(status: AdaptationStatus | None) -> str:
    """Where adaptation stands; empty where there is nothing to tell."""
    if status is None or (status.phase == "off" and not status.reason):
        return ""
    return f"adaptation: {status.phase}" + (f"; {status.reason}" if status.reason else "")


def _how(episode: Episode) -> str:
    adapted = f"+{episode.inner_steps}" if episode.inner_steps else ""
    return adapted + (" exploring" if episode.exploring else "")
