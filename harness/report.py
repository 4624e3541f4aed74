"""Scorecards -> the standardized table in five formats, the figures and the HTML report.

Reads RUN/scorecards.jsonl, and the item records for the flips explorer; writes RUN/table.{md,csv,
json,tex,html}, RUN/report.html and RUN/figures/. Command: `retainbench report RUN`. Never imports
torch, and imports figures and templates only when they are drawn. Leaves out: deciding (`gate.py`)
and computing statistics (`compare.py`); rounding for display happens here and nowhere else.
"""

from __future__ import annotations

from pathlib import Path

from retainbench.harness import report_rows, report_text
from retainbench.harness.errors import UsageError
from retainbench.harness.paths import RunFolder
from retainbench.harness.records import Scorecard, read_jsonl, write_text
from retainbench.harness.report_columns import Table, table

FORMATS = ("md", "csv", "json", "tex")


def report(run_folder: Path) -> Table:
    """Write every table and the report of a finished run; returns the table for the terminal.

    Raises:
        UsageError: the folder has no scorecards.
        IntegrityError: a record is malformed.
    """
    run = RunFolder(run_folder)
    shown = load_table(run_folder)
    for suffix in FORMATS:
        write_text(run.table(suffix), render(shown, suffix))
    return shown


def load_table(run_folder: Path) -> Table:
    """Rows and footnotes from a folder that holds scorecards.jsonl: a run, or a published one."""
    return table(report_rows.rows(load_scorecards(run_folder)))


def load_scorecards(run_folder: Path) -> list[Scorecard]:
    """Scorecards of a run in the plan's order; refuses an absent or empty file."""
    path = RunFolder(run_folder).scorecards
    if not path.is_file():
        raise UsageError(f"{path} does not exist; give a folder that `retainbench run` has written")
    cards = read_jsonl(path, Scorecard)
    if not cards:
        raise UsageError(f"{path} is empty: the run has no cells to report")
    return cards


def render(shown: Table, suffix: str) -> str:
    """The table in one format of `FORMATS`."""
    if suffix == "csv":
        return report_text.to_csv(shown.rows)
    if suffix == "json":
        return report_text.to_json(shown)
    return report_text.markdown(shown) if suffix == "md" else report_text.latex(shown)
