"""What a person sees while a suite runs: bars (running/bars.py), and a line per finished cell.

On a terminal a running cell's bar also has the reward where the method has one, and the retention
of the checkpoint that was scored last (0 is what the base knew, -2.0 is two points lost on the mean
axis). Elsewhere (a log, CI) there are only the lines; with `--quiet` there is nothing.
RUN/progress.jsonl gets a line for every scored checkpoint and every finished cell; the log of all
training steps is each cell's `steps.jsonl`.

`--report-to` also sends the step metrics to a tracker, through TRL: TensorBoard's files are in each
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
from rich.progress import Progress
from rich.text import Text

from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.files.storage import canonical
from retainbench.harness.core.scorecards import Scorecard
from retainbench.harness.core.text.escaping import one_line
from retainbench.harness.running import bars
from retainbench.harness.running.bars import CellBars
from retainbench.harness.suites.plan import Cell, Plan

SHOWN = ("reward", "loss")
"""Metrics worth a place in the bar, in order of preference."""
TRACKERS = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "trackio": ("trackio",),
    "wandb": ("wandb",),
}
"""Where metrics can be sent, and the packages of which one must be there."""


class ProgressView:
    """Receives progress from `run.run`."""

    def __init__(
        self, plan: Plan, console: Console, shown: Progress | None, log: Path | None = None
    ) -> None:
        cells, points = len(plan.cells), len(plan.suite.trajectory)
        self._console = console
        self._bars = CellBars(shown, cells, points) if shown else None
        self._log = log
        self._total = cells
        self._done = 0
        self._texts: dict[str, dict[str, str]] = {}
        self._started = time.monotonic()

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
        if self._bars is not None:
            text = "  ".join(texts[key] for key in ("step", "retention") if key in texts)
            self._bars.step(cell.id, cell.label, share, text, scored=kept is not None)

    def finished(self, cell: Cell, card: Scorecard) -> None:
        """A cell is done, failed, or was done before."""
        self._done += 1
        self._texts.pop(cell.id, None)
        if self._bars is not None:
            self._bars.finished(cell.id)
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
    with bars.lines(console) as shown:
        yield ProgressView(plan, console, shown, log)
