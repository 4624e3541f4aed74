"""Bars on a terminal while a suite runs: one for all cells, and one for each cell in progress.

The first counts the cells and estimates the time left for all of them; training counts for one half
of a cell, scoring for the other. A cell's own shows the share of its budget that is spent and the
time until it is trained. Reads and writes nothing; `running/live.py` tells what happened.
"""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from retainbench.harness.core.text.formatting import duration

EARLY = 5  # seconds before which an estimate of the time left would only mislead


class TimeLeftColumn(TimeRemainingColumn):
    """The time left as a bar's field `left` has it, or as its speed gives it."""

    def render(self, task: Task) -> Text:
        """The field `left`, or an estimate where it is None."""
        left = task.fields["left"]
        return super().render(task) if left is None else Text(left, style="progress.remaining")


def lines(console: Console) -> Progress:
    """Lines of name, bar, share, what is known so far and time left."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} % {task.fields[shown]}", markup=False),
        TimeLeftColumn(),
        console=console,
        transient=True,
    )


class CellBars:
    """The bars of one run.

    Args:
        shown: what draws them (`lines`).
        points: checkpoints that are scored in each cell.
    """

    def __init__(self, shown: Progress, cells: int, points: int) -> None:
        self._shown = shown
        self._cells = cells
        self._points = points
        self._done = 0
        self._worked = 0.0
        """Cells done since the first step; those of an earlier run took no time here."""
        self._running: dict[str, tuple[float, int]] = {}
        """Share of the budget that is spent, and checkpoints scored."""
        self._bars: dict[str, TaskID] = {}
        self._begun: float | None = None
        self._all = shown.add_task(f"{cells} cells", total=cells, shown="", left="scoring the base")

    def step(self, cell: str, label: str, share: float, text: str, *, scored: bool) -> None:
        """One step of training of a cell, or one of its checkpoints scored.

        Args:
            text: what is known of the cell.
        """
        self._begun = self._begun or time.monotonic()
        spent, points = self._running.get(cell, (0.0, 0))
        self._running[cell] = (max(spent, min(share, 1.0)), points + scored)
        if cell not in self._bars:
            self._bars[cell] = self._shown.add_task(label, total=1.0, shown="", left=None)
        self._shown.update(
            self._bars[cell],
            completed=None if scored else min(share, 1.0),
            shown=f"of the budget  {text}",
            left="scoring" if scored or share >= 1.0 else None,
        )
        self._update()

    def finished(self, cell: str) -> None:
        """A cell ended, here or in an earlier run."""
        self._done += 1
        self._worked += self._running.pop(cell, None) is not None
        if cell in self._bars:
            self._shown.remove_task(self._bars.pop(cell))
        self._update()

    def _update(self) -> None:
        running = sum(
            (spent + min(points / self._points, 1.0)) / 2
            for spent, points in self._running.values()
        )
        worked, left = self._worked + running, self._cells - self._done - running
        spent = time.monotonic() - self._begun if self._begun else 0.0
        early = spent < EARLY or worked == 0
        text = "" if early else f"about {duration(spent * left / worked)} left"
        self._shown.update(self._all, completed=self._done + running, left=text)
