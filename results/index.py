"""One page over all published results: pick a base, a target and an axis; gain against forgetting.

Reads the rows of every folder under results/ that a run was published to, writes
results/index.html: a plot of gain against retention over suites, and a table of recipes by gain,
forgetting and drift with intervals, seeds, budget, verdict and a link to their table. It is
self-contained and requests nothing; without scripts it shows the whole table. Rows share a choice
only where their base has the same weights and their target the same items; what else differs
(budget, retention tasks, seeds) is listed under the table.

Command, from the repository's root: `python -m results.index`. A test compares.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from retainbench.harness.core import paths
from retainbench.harness.core.changes import Interval
from retainbench.harness.core.files.storage import write_text
from retainbench.harness.core.scorecards import Scorecard
from retainbench.harness.core.text.formatting import NONE, brief, points, significant
from retainbench.harness.report import publish, report
from retainbench.harness.report.page import html
from retainbench.harness.report.page.charts import PALETTE
from retainbench.harness.report.table.model import TableRow, axes_of

RESULTS = paths.PACKAGE / "results"
PAGE = RESULTS / "index.html"
FIRST = "quick"
DIGEST = 6  # characters of a digest that tell versions of a base or target apart


class Entry(NamedTuple):
    """One recipe of one suite on one axis, as the page shows it."""

    suite: str
    base: str
    target: str
    axis: str
    recipe: str
    method: str
    gain: Interval
    drop: Interval
    drift: float | None
    seeds: int
    budget: str
    verdict: str
    asked: str
    """Digest of the tasks on the axis and their versions."""

    @property
    def texts(self) -> dict[str, str]:
        """What the table's cells say."""
        return {
            "gain": points(self.gain),
            "drop": points(self.drop),
            "drift": brief(self.drift, 100, " %"),
        }

    @property
    def data(self) -> dict[str, Any]:
        """What the plot needs, in percentage points."""
        return {
            "suite": self.suite,
            "base": self.base,
            "target": self.target,
            "axis": self.axis,
            "recipe": self.recipe,
            "gain": _percent(self.gain),
            "drop": _percent(self.drop),
            "drift": None if self.drift is None else significant(100 * self.drift),
            "seeds": self.seeds,
            "budget": self.budget,
            "asked": self.asked,
        }


def entries() -> list[Entry]:
    """Every row with a gain and a drop, suite by suite; the page opens with the first one."""
    folders = sorted(publish.published(), key=lambda folder: (folder.name != FIRST, folder.name))
    return [entry for folder in folders for entry in _of_folder(folder)]


def _of_folder(folder: Path) -> list[Entry]:
    table, cards = report.load_table(folder), report.load_scorecards(folder)
    return [
        entry
        for row in table.rows
        if row.gain
        for axis in axes_of([row])
        if (entry := _entry(folder.name, row, axis, cards))
    ]


def _entry(suite: str, row: TableRow, axis: str, cards: list[Scorecard]) -> Entry | None:
    drop = row.axis(axis).drop
    if row.gain is None or drop is None:
        return None
    frozen = next(card.provenance for card in cards if card.recipe == row.recipe and card.points)
    tasks = {
        task.task.removeprefix("rb_")
        for card in cards
        for point in card.points[-1:]
        for task in point.tasks
        if task.axis == axis
    }
    return Entry(
        suite=suite,
        base=f"{row.base} ({_short(frozen, 'base')})",
        target=f"{row.target} ({_short(frozen, f'task {row.target}')})",
        axis=axis,
        recipe=row.recipe,
        method=f"{row.method}, {row.adaptation}",
        gain=row.gain,
        drop=drop,
        drift=row.drift.relative if row.drift else None,
        seeds=len(row.seeds),
        budget=row.budget,
        verdict=", ".join(row.verdicts) or NONE,
        asked=", ".join(f"{name} ({_short(frozen, f'task {name}')})" for name in sorted(tasks)),
    )


def _short(frozen: dict[str, str], name: str) -> str:
    return frozen.get(name, "unknown")[:DIGEST]


def _percent(interval: Interval) -> list[float]:
    return [significant(100 * value) for value in (interval.low, interval.value, interval.high)]


def page() -> str:
    """The whole page as text."""
    found = entries()
    script = (paths.TEMPLATES / "results.js").read_text(encoding="utf-8")
    choices = {
        name: list(dict.fromkeys(getattr(entry, name) for entry in found))
        for name in ("base", "target", "axis")
    }
    rows = [entry.data for entry in found]
    return html.document(
        "results.html",
        [script],
        ("table.css", "report.css", "results.css"),
        entries=found,
        choices=choices,
        suites=list(dict.fromkeys(entry.suite for entry in found)),
        data=html.embedded({"rows": rows, "palette": PALETTE}),
    )


if __name__ == "__main__":
    write_text(PAGE, page())
