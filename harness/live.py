"""What a person sees while a suite runs: a bar per running cell and a line per finished one.

On a terminal the bar shows the share of the budget, the reward where the method has one, and the
time left. Elsewhere (a log, CI) there are only the lines; with `--quiet` there is nothing. Reads
and writes no files: the step log of each cell is its `steps.jsonl`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from retainbench.harness.plan import Cell, Plan
from retainbench.harness.records import Scorecard

SHOWN = ("reward", "loss")
"""Metrics worth a place in the bar, in order of preference."""


class View:
    """Receives progress from `run.run`."""

    def __init__(self, plan: Plan, console: Console, bars: Progress | None) -> None:
        self._console = console
        self._bars = bars
        self._total = len(plan.cells)
        self._done = 0
        self._tasks: dict[str, TaskID] = {}
        self._started = time.monotonic()

    def step(self, cell: Cell, share: float, metrics: dict[str, float]) -> None:
        """One training step of a cell."""
        if self._bars is None:
            return
        if cell.id not in self._tasks:
            self._tasks[cell.id] = self._bars.add_task(cell.label, total=1.0, shown="")
        shown = next((f"{name} {metrics[name]:.3f}" for name in SHOWN if name in metrics), "")
        self._bars.update(self._tasks[cell.id], completed=min(share, 1.0), shown=shown)

    def finished(self, cell: Cell, card: Scorecard) -> None:
        """A cell is done, failed, or was done before."""
        self._done += 1
        if self._bars is not None and cell.id in self._tasks:
            self._bars.remove_task(self._tasks.pop(cell.id))
        elapsed = time.monotonic() - self._started
        line = f"[{self._done}/{self._total}] {elapsed:5.0f}s  {cell.label}: {summary(card)}"
        self._console.print(line, markup=False, soft_wrap=True)


def summary(card: Scorecard) -> str:
    """One line for a finished cell: gain, drop per axis, drift; or why it failed."""
    if not card.points:
        return f"FAILED: {card.reason}"
    end = card.points[-1]
    drops = ", ".join(f"{axis.axis} {0.0 - axis.drop.value:+.3f}" for axis in end.axes)
    drift = f", drift {end.drift.relative:.4f}" if end.drift else ""
    return f"reward {end.base_reward:.3f} -> {end.candidate_reward:.3f}, retention {drops}{drift}"


@contextmanager
def view(plan: Plan, *, quiet: bool) -> Iterator[View]:
    """A view on standard error, live if that is a terminal."""
    console = Console(file=sys.stderr, highlight=False, quiet=quiet)
    if quiet or not console.is_terminal:
        yield View(plan, console, None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}% {task.fields[shown]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        yield View(plan, console, bars)
