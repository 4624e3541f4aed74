"""What a person sees while a suite runs: a bar for all cells, one per running cell, and a line per
finished one.

On a terminal the first bar counts the cells and estimates the time left for all; a cell's own shows
the share of the budget that is spent, the reward where the method has one, the time left until it
is trained, and then the retention of the checkpoint that was scored last (0 is what the base knew,
-2.0 is two points lost on the mean axis). Elsewhere (a log, CI) there are only the lines;
with `--quiet` there is nothing. Beside it RUN/progress.jsonl gets a line for every scored
checkpoint and every finished cell; the log of all training steps is each cell's `steps.jsonl`.

`--report-to` also sends the step metrics to a tracker, through TRL: TensorBoard's files lie in each
cell's folder, the others get the project `retainbench` and a run per cell and stage. Methods with a
loop of their own (PPO, the evolution strategies) write only `steps.jsonl`.
"""

from __future__ import annotations

import importlib.util
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.files.storage import canonical
from retainbench.harness.core.scorecards import Scorecard
from retainbench.harness.core.text.escaping import one_line
from retainbench.harness.core.text.formatting import duration
from retainbench.harness.suites.plan import Cell, Plan

SHOWN = ("reward", "loss")
"""Metrics worth a place in the bar, in order of preference."""
EARLY = 5  # seconds before which an estimate of the time left would only mislead
TRACKERS = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "trackio": ("trackio",),
    "wandb": ("wandb",),
}
"""Where metrics can be sent, and the packages of which one must be there."""


class ProgressView:
    """Receives progress from `run.run`."""

    def __init__(
        self, plan: Plan, console: Console, bars: Progress | None, log: Path | None = None
    ) -> None:
        self._console = console
        self._bars = bars
        self._log = log
        self._total = len(plan.cells)
        self._done = 0
        self._tasks: dict[str, TaskID] = {}
        self._texts: dict[str, dict[str, str]] = {}
        self._started = time.monotonic()
        self._whole = (
            OverallBar(bars, len(plan.cells), len(plan.suite.trajectory)) if bars else None
        )

    def step(self, cell: Cell, share: float, metrics: dict[str, float]) -> None:
        """One training step of a cell, or (with `retention`) one checkpoint that was scored."""
        texts = self._texts.setdefault(cell.id, {})
        kept = metrics.get("retention")
        if kept is not None:
            known = math.isfinite(kept)
            shown = (
                f"{round(100 * kept, 1) + 0.0:+.1f} pp at {share:.0%}"
                if known
                else "- (base at chance)"
            )
            texts["retention"] = f"retention {shown}"
            self._write(cell, "scored", share=share, retention=kept if known else None)
        for name in [name for name in SHOWN if name in metrics][:1]:
            texts["step"] = f"{name} {metrics[name]:.3f}"
        if self._bars is None or self._whole is None:
            return
        if cell.id not in self._tasks:
            self._tasks[cell.id] = self._bars.add_task(cell.label, total=1.0, shown="", left=None)
        shown = "  ".join(texts[key] for key in ("step", "retention") if key in texts)
        trained = kept is not None or share >= 1.0
        spent = None if kept is not None else min(share, 1.0)
        left = "scoring" if trained else None
        self._bars.update(
            self._tasks[cell.id], completed=spent, shown=f"of the budget  {shown}", left=left
        )
        self._whole.step(cell.id, share, scored=kept is not None)

    def finished(self, cell: Cell, card: Scorecard) -> None:
        """A cell is done, failed, or was done before."""
        self._done += 1
        self._texts.pop(cell.id, None)
        if self._bars is not None and cell.id in self._tasks:
            self._bars.remove_task(self._tasks.pop(cell.id))
        if self._whole is not None:
            self._whole.finished(cell.id)
        elapsed = time.monotonic() - self._started
        line = f"[{self._done}/{self._total}] {elapsed:5.0f}s  {cell.label}: {summary(card)}"
        self._console.print(Text(one_line(line)), soft_wrap=True)
        self._write(cell, card.status, summary=summary(card))

    def _write(self, cell: Cell, event: str, **values: float | str | None) -> None:
        if self._log is None:
            return
        elapsed = round(time.monotonic() - self._started, 1)
        line = {"cell": cell.id, "label": cell.label, "event": event, "seconds": elapsed} | values
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("a", encoding="utf-8") as file:
            file.write(canonical(line) + "\n")


class OverallBar:
    """The bar of all cells. Training counts for one half of a cell, scoring for the other."""

    def __init__(self, bars: Progress, cells: int, points: int) -> None:
        self._bars = bars
        self._cells = cells
        self._points = points
        self._done = 0
        self._worked = 0.0
        """Cells done since the first step; those of an earlier run are no measure of time."""
        self._running: dict[str, tuple[float, int]] = {}
        self._begun: float | None = None
        self._task = bars.add_task(f"{cells} cells", total=cells, shown="", left="scoring the base")

    def step(self, cell: str, share: float, scored: bool) -> None:
        """A cell went on: one step of training, or one checkpoint scored."""
        self._begun = self._begun or time.monotonic()
        trained, points = self._running.get(cell, (0.0, 0))
        self._running[cell] = (max(trained, min(share, 1.0)), points + scored)
        self._show()

    def finished(self, cell: str) -> None:
        """A cell ended, here or in an earlier run."""
        self._done += 1
        self._worked += self._running.pop(cell, None) is not None
        self._show()

    def _show(self) -> None:
        parts = (
            (trained + min(points / self._points, 1.0)) / 2
            for trained, points in self._running.values()
        )
        running = sum(parts)
        worked, left = self._worked + running, self._cells - self._done - running
        spent = time.monotonic() - self._begun if self._begun else 0.0
        early = spent < EARLY or worked == 0
        said = "" if early else f"about {duration(spent * left / worked)} left"
        self._bars.update(self._task, completed=self._done + running, left=said)


def summary(card: Scorecard) -> str:
    """One line for a finished cell: gain, drop per axis, drift; or why it failed."""
    if not card.points:
        return f"FAILED: {card.reason}"
    end = card.points[-1]
    drops = ", ".join(f"{axis.axis} {0.0 - axis.drop.value:+.3f}" for axis in end.axes)
    drift = f", drift {end.drift.relative:.4f}" if end.drift else ""
    return f"reward {end.base_reward:.3f} -> {end.candidate_reward:.3f}, retention {drops}{drift}"


def check_trackers(names: Sequence[str]) -> None:
    """Refuse a tracker that is unknown or not installed, before anything is trained."""
    for name in names:
        if name not in TRACKERS:
            raise UsageError(f"--report-to {name}: choose one of {', '.join(TRACKERS)}")
        if not any(importlib.util.find_spec(package) for package in TRACKERS[name]):
            raise UsageError(f"--report-to {name}: not installed; pip install {TRACKERS[name][0]}")


@contextmanager
def view(plan: Plan, *, quiet: bool, log: Path | None = None) -> Iterator[ProgressView]:
    """A view on standard error, live if that is a terminal.

    Args:
        log: JSON Lines file to append to.
    """
    console = Console(file=sys.stderr, highlight=False, quiet=quiet)
    if quiet or not console.is_terminal:
        yield ProgressView(plan, console, None, log)
        return
    with bars(console) as shown:
        yield ProgressView(plan, console, shown, log)


class TimeLeftColumn(TimeRemainingColumn):
    """What a bar says about its end, or else the time that its speed gives."""

    def render(self, task: Task) -> Text:
        """The field `left`, or an estimate where it is None."""
        said = task.fields["left"]
        return super().render(task) if said is None else Text(said, style="progress.remaining")


def bars(console: Console) -> Progress:
    """Lines of name, bar, share, what is known so far and time left."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} % {task.fields[shown]}", markup=False),
        TimeLeftColumn(),
        console=console,
        transient=True,
    )
