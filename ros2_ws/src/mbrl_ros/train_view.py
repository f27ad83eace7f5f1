"""What a person sees of a training run: a bar, one line per round, the summary; and the same for TensorBoard."""

import importlib.util
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console as Terminal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mbrl_core.types import Episode

Row = dict[str, Any]


class TrainView:
    """Told by the training what happens."""

    def __init__(self, out: Path, total: int, count: str = "real_steps") -> None:
        """Take the run's folder, its budget, and the entry of a row that counts up to it."""
        self._out, self._count, self._terminal = out, count, Terminal(highlight=False, markup=False, soft_wrap=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        hidden = not self._terminal.is_terminal
        self._bars = Progress(*columns, console=self._terminal, disable=hidden, transient=True)
        self._bar = self._bars.add_task(self._unit, total=total)
        self._events: Any = None

    def __enter__(self) -> "TrainView":
        """Show the bar."""
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the bar and close the event file."""
        self._bars.stop()
        if self._events is not None:
            self._events.close()

    @property
    def _unit(self) -> str:
        return self._count.replace("_", " ")

    def begin(self, rows: tuple[Row, ...]) -> None:
        """Go on after these rounds; later events of an earlier attempt do not count."""
        known = rows[-1][self._count] if rows else 0
        if importlib.util.find_spec("tensorboard") is None:
            self._terminal.print("no TensorBoard events: the Python package tensorboard is not installed")
        else:
            from torch.utils.tensorboard import SummaryWriter

            self._events = SummaryWriter(str(self._out / "tensorboard"), purge_step=known + 1)
        if rows:
            self._terminal.print(f"going on after {rows[-1]['real_steps']} real steps, {len(rows)} rounds")

    def episode(self, episode: Episode, real_steps: int) -> None:
        """Move the bar."""
        self._bars.update(self._bar, completed=real_steps, description=f"return {episode.episode_return:.1f}")

    def round(self, row: Row) -> None:
        """Print a line, move the bar and write events."""
        self._terminal.print(round_line(row))
        self._bars.update(self._bar, completed=row[self._count])
        for name, value in row.items() if self._events is not None else ():
            if isinstance(value, int | float) and name != self._count:
                self._events.add_scalar(name, value, row[self._count])
        if self._events is not None:
            self._events.flush()

    def summary(self, summary: Row) -> None:
        """Print how the run ended."""
        self._terminal.print(summary_table(summary))
        if not summary["policy_version"]:
            self._terminal.print("no policy passed validation: there is no policy.mbrl")


def round_line(row: Row) -> str:
    """What came of one round."""
    curve = row["curve_return_mean"]
    tried = "no policy yet" if curve is None else f"policy v{row['policy_version']}: return {curve:9.2f}"
    collected = f"  collected {row['collected_return']:9.2f}" if "collected_return" in row else ""
    so_far = f"round {row['round']:3d}" if "round" in row else f"{row['real_steps']:7d} steps"
    line = (
        f"{so_far}  {row['wall_s']:7.1f} s{collected}"
        f"  {tried}  imagined {row['imagined_return']:9.2f}  validated {row['validation_ratio']:.1f}"
    )
    return f"{line}  ({row['problem']})" if row["problem"] else line


def summary_table(summary: Row) -> Table:
    """The final policy beside nobody and chance."""
    shown = f" and {summary['demonstration_steps']} demonstrated" if summary.get("demonstration_steps") else ""
    title = f"{summary['env']}, {summary['algorithm']}, seed {summary['seed']}: {summary['real_steps']} real steps"
    table = Table(title=f"{title}{shown}, {summary['wall_s']:.0f} s; {summary['eval_episodes']} episodes")
    for heading in ("policy", "mean", "std", "min"):
        table.add_column(heading, justify="left" if heading == "policy" else "right")
    table.add_row("learned", *(_cell(summary[f"eval_return_{name}"]) for name in ("mean", "std", "min")))
    if summary.get("adapted_return_mean") is not None:
        label = f"adapted in {summary['adaptation_steps']} more steps, KL {summary['inner_kl']:.2g}"
        table.add_row(label, *(_cell(summary[f"adapted_return_{name}"]) for name in ("mean", "std", "min")))
    if "old_policy_return_mean" in summary:
        table.add_row("old policy", *(_cell(summary[f"old_policy_return_{name}"]) for name in ("mean", "std", "min")))
    for name in ("zero", "random"):
        table.add_row(name, _cell(summary[f"{name}_return"]))
    return table


def _cell(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"
