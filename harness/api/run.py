"""Train and score a suite, and read what a run folder holds as DataFrames."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from retainbench.harness.api.records import frame, pandas
from retainbench.harness.core import extras, paths
from retainbench.harness.core.files import locks
from retainbench.harness.core.files.storage import read_jsonl
from retainbench.harness.core.process import quieten
from retainbench.harness.core.records import ItemRecord
from retainbench.harness.core.scorecards import Scorecard
from retainbench.harness.report import report
from retainbench.harness.report.table import evidence as table_evidence
from retainbench.harness.report.table import pairs
from retainbench.harness.running import live, sweep
from retainbench.harness.running import run as runner
from retainbench.harness.suites import loading
from retainbench.harness.suites import plan as planning
from retainbench.harness.tasks.catalogue import Catalogue

if TYPE_CHECKING:
    import pandas as pd

BASE = "base"
"""What the column `point` has for records of the base."""


class Run:
    """A run folder: `.table()`, `.pairs()`, `.records()`, `.scorecards()`, `.show()`."""

    def __init__(self, folder: str | Path) -> None:
        """Read the scorecards of a folder that `run` or `retainbench run` has written.

        Raises:
            UsageError: it is not such a folder.
        """
        self.folder = Path(folder)
        self._cards = report.load_scorecards(self.folder)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    def _repr_html_(self) -> str:
        """The table, for a notebook."""
        return report.render(report.load_table(self.folder), "html")

    def table(self) -> pd.DataFrame:
        """The standardized table, a row per arm: what table.csv holds."""
        text = report.render(report.load_table(self.folder), "csv")
        return pandas().read_csv(io.StringIO(text))

    def pairs(self) -> pd.DataFrame:
        """Every paired difference of two recipes, a row each: what pairs.csv holds.

        Columns: `measure` is `gain`, an axis (its drop) or an axis and ` erosion`, first minus
        second. Where `gain` is a number, the drops are compared at that common gain: at its first
        crossing where `share` is missing, else at that share of the budget.
        """
        evidence = table_evidence.stored(self.folder)
        return pandas().read_csv(io.StringIO(pairs.to_csv(evidence.pairs, evidence.matched)))

    def scorecards(self) -> list[Scorecard]:
        """All that is known of each cell, in the plan's order."""
        return list(self._cards)

    def records(self) -> pd.DataFrame:
        """The records of every item, a row each, with the columns `cell` and `point` in front.

        The base's have an empty `cell` and the point `base`; those of a cell have its id, and its
        points are named as its folders are, for example `s0-1.0000` for the end of stage 0 (of an
        interpolation, `s1-0.2500` for a quarter of the weights' change).
        """
        names = paths.RunFolder(self.folder)
        bases = dict.fromkeys(card.base for card in self._cards)
        files = [("", BASE, names.base_point(base).records) for base in bases]
        for card in self._cards:
            for point in card.scored:
                name = paths.point_name(point.stage, point.fraction)
                files.append((card.cell, name, names.cell(card.cell).point(name).records))
        parts = []
        for cell, name, file in files:
            part = frame(read_jsonl(file, ItemRecord))
            part.insert(0, "point", name)
            part.insert(0, "cell", cell)
            parts.append(part)
        return pandas().concat(parts, ignore_index=True)

    def show(self) -> None:
        """Show the table: rich in a notebook, as text elsewhere."""
        try:
            from IPython import get_ipython
            from IPython.display import HTML, display
        except ModuleNotFoundError:
            notebook = False
        else:
            notebook = get_ipython() is not None
        if notebook:
            display(HTML(self._repr_html_()))
            return
        from rich.console import Console

        Console(highlight=False, markup=False, emoji=False).print(report.terminal(self.folder))


def run(
    suite: str | Path,
    out: str | Path | None = None,
    *,
    device: str = "cpu",
    executor: runner.Executor = "local",
    workers: int = 1,
    report_to: Sequence[str] = (),
    packs: Sequence[str | Path] = (),
    train_data: Sequence[str | Path] = (),
    allow_code: bool = False,
    quiet: bool = True,
    notice: Callable[[str], None] = lambda _: None,
    command: Sequence[str] = ("retainbench.run(...)",),
) -> Run:
    """Train and score every cell of a suite and write the tables; goes on with an interrupted run.

    Args:
        suite: name of a packaged suite, or a YAML file.
        out: run folder; default: runs/<suite>.
        executor: processes of this machine, or a Ray cluster ($RAY_ADDRESS or local).
        workers: cells that train at the same time on this machine.
        report_to: also log to tensorboard, trackio or wandb.
        packs: folders of tasks from `retainbench freeze`, added to the suite.
        train_data: JSON Lines that the base was trained on.
        allow_code: lets code run that packs bring or name.
        quiet: draw no bars on standard error.
        notice: called with lines for the user: overlaps of training data, choices of a sweep.
        command: what the folder records as having made it.

    Raises:
        UsageError: the suite or the folder cannot be used.
        IntegrityError: base, tasks or packs cannot be trusted.
    """
    quieten()
    extras.require("torch")
    live.check_trackers(report_to)
    runner.require_executor(executor, workers)
    given = Catalogue.of([Path(pack) for pack in packs], allow_code=allow_code)
    chosen, known = loading.opened(str(suite), given)
    inputs = planning.gather(chosen, [Path(path) for path in train_data], known)
    for line in planning.overlap_lines(chosen, inputs):
        notice(f"Training data: {line}")
    root = Path(out) if out is not None else Path("runs") / chosen.name
    with locks.growing(root, create=True):
        swept = sweep.resolve(chosen, inputs, root, device, workers, notice, known)
        planned = planning.plan(swept, inputs, known)
        with live.view(planned, quiet=quiet, log=paths.RunFolder(root).progress) as view:
            runner.run(
                planned,
                root,
                device=device,
                executor=executor,
                workers=workers,
                watch=view.step,
                finished=view.finished,
                report_to=tuple(report_to),
                command=command,
                tasks=known,
            )
        report.report(root)
    return Run(root)
