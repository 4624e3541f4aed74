"""Scorecards -> the standardized table in five formats, the figures and the HTML report.

Reads RUN/scorecards.jsonl, and plan, item texts and item records where the folder has them; writes
RUN/table.{md,csv,json,tex,html}, RUN/{pairs,variants}.csv, RUN/report.html and RUN/figures/.
Earlier steps make verdicts.json and methods.json (`report/table/evidence.py`); this one computes no
statistic of its own. Never imports torch; figures and templates are imported when they are drawn.

Command: `retainbench report RUN`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.files.storage import (
    read_jsonl,
    require_intact,
    was_written,
    write_text,
)
from retainbench.harness.core.paths import RunFolder
from retainbench.harness.core.scorecards import Scorecard
from retainbench.harness.report.table import evidence as report_evidence
from retainbench.harness.report.table import (
    further,
    pairs,
    recipes,
    responses,
    rows,
    text,
    variants,
)
from retainbench.harness.report.table.columns import Table, table
from retainbench.harness.report.table.evidence import TableEvidence

if TYPE_CHECKING:
    from rich.console import RenderableType

FORMATS = ("md", "csv", "json", "tex", "html")


def report(run_folder: Path, *, figures: bool = True) -> Table:
    """Write every table, the figures and the HTML report of a run; returns the table.

    Args:
        figures: also write SVG, PNG and PDF files; the HTML report has its figures either way.

    Raises:
        UsageError: the folder has no scorecards.
        IntegrityError: a record is malformed or the verdicts cannot be computed.
    """
    from retainbench.harness.report.page import figures as report_figures
    from retainbench.harness.report.page import flips as report_flips
    from retainbench.harness.report.page import html

    run = RunFolder(run_folder)
    cards = load_scorecards(run_folder)
    evidence = report_evidence.current(run_folder)
    shown = _table(cards, evidence)
    write_tables(run_folder, shown)
    drawn = report_figures.figures(shown.rows, cards, evidence)
    flips = report_flips.collect(run, cards)
    write_text(run.report, html.page(shown, cards, drawn, flips, evidence.verdicts, suite(run)))
    if figures:
        targets = list(dict.fromkeys(row.target for row in shown.rows))
        report_figures.write(drawn, targets, run_folder / "figures")
    return shown


def terminal(run_folder: Path, width: int | None = None) -> RenderableType:
    """The table of a run for a Rich console, fitted to `width` (default: this terminal's)."""
    from retainbench.harness.report.table import terminal as report_terminal

    columns = width or shutil.get_terminal_size((160, 24)).columns
    return report_terminal.terminal(load_table(run_folder), columns)


def load_table(run_folder: Path) -> Table:
    """Rows and footnotes from a folder that holds scorecards.jsonl: a run, or a published one."""
    evidence = report_evidence.stored(run_folder)
    return _table(load_scorecards(run_folder), evidence)


def _table(cards: Sequence[Scorecard], evidence: TableEvidence) -> Table:
    found = table(rows.rows(cards, evidence), responses.notes(cards))
    eroded, level = further.confidence(found.rows), further.matched(found.rows)
    swept = variants.tried(evidence.recipes, evidence.variants)
    return found._replace(
        further=(
            *([eroded] if eroded else []),
            *pairs.grids(evidence.methods, evidence.pairs),
            *([level] if level else []),
            *pairs.matched(evidence.matched),
            *recipes.combined(evidence.effects),
            *recipes.grids(evidence.recipes, found.rows),
            *variants.grids(swept),
            *further.grids(evidence.sequences),
        )
    )


def write_tables(folder: Path, shown: Table) -> None:
    """Write the table of a folder in every format, and what else it has of these as CSV.

    `pairs.csv` holds every paired difference, `variants.csv` all that a sweep tried and kept.
    """
    for suffix in FORMATS:
        write_text(RunFolder(folder).table(suffix), render(shown, suffix))
    evidence = report_evidence.stored(folder)
    swept = variants.tried(evidence.recipes, evidence.variants)
    contents = {
        "pairs.csv": pairs.to_csv(evidence.pairs, evidence.matched) if evidence.pairs else "",
        "variants.csv": text.to_csv([one.row for one in swept]) if swept else "",
    }
    for name, content in contents.items():
        if content:
            write_text(folder / name, content)
        else:
            (folder / name).unlink(missing_ok=True)


def load_scorecards(run_folder: Path) -> list[Scorecard]:
    """Scorecards of a run in the plan's order; refuses an absent or empty file."""
    path = RunFolder(run_folder).scorecards
    if not path.is_file():
        raise UsageError(f"{path} does not exist. Name a folder that `retainbench run` has written")
    cards = read_jsonl(path, Scorecard)
    if not cards:
        raise UsageError(f"{path} is empty: the run has no cells to report")
    return cards


def render(shown: Table, suffix: str) -> str:
    """The table in one format of `FORMATS`."""
    if suffix == "html":
        from retainbench.harness.report.page import html

        return html.table_page(shown)
    if suffix == "csv":
        return text.to_csv(shown.rows)
    if suffix == "json":
        return text.to_json(shown)
    return text.markdown(shown) if suffix == "md" else text.latex(shown)


def suite(run: RunFolder) -> dict[str, Any]:
    """The suite in plan.json as plain data (its model would import the trainers), or {}."""
    if not was_written(run.plan):
        return {}
    require_intact(run.plan)
    try:
        found: dict[str, Any] = json.loads(run.plan.read_bytes())["suite"]
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{run.plan}: not a plan: {error}") from error
    return found
