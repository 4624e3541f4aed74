"""Put the published quick results into README.md, between the headline marks: a table and a figure.

Reads `results/quick/`, writes README.md. The front page shows the columns that answer the question
- what was gained, what was forgotten, how far the weights moved - and links to all others. A test
compares the two, so the page cannot drift from the results.
Command: `python -m retainbench.harness.headline`.
"""

from __future__ import annotations

from pathlib import Path

from retainbench.harness import paths, report
from retainbench.harness.records import write_text
from retainbench.harness.report_text import markdown

START, END = "<!-- headline:", "<!-- /headline -->"
SHOWN = (
    "base", "target", "recipe", "method", "gain", "general", "numeric", "temporal", "drift",
    "verdict",
)  # fmt: skip
"""Columns of the standardized table that the front page has room for."""
LEGEND = (
    "Gain: reward on the new task, after minus before; drop: what was lost on the retention tasks "
    "of an axis (below zero: won). Both in percentage points (pp)."
)


def with_headline(readme: str, results: Path) -> str:
    """The README's text with table and figure of a published run between its marks."""
    before, rest = readme.split(START)
    mark, _, after = rest.partition(" -->\n")
    after = after.split(END)[1]
    return f"{before}{START}{mark} -->\n{_headline(results)}{END}{after}"


def _headline(results: Path) -> str:
    table = report.load_table(results)
    columns = [column for column in table.columns if column.key in SHOWN]
    scope = table.notes[:2]  # base, budget, seeds; n and intervals
    short = markdown(table._replace(columns=columns, notes=[LEGEND, *scope], further=()))
    place = results.relative_to(paths.PACKAGE).as_posix()
    more = f"All columns, footnotes, environment and digests: [{place}]({place}/README.md)."
    figure = f"![Gain against retention, one panel per axis]({place}/figures/pareto.svg)"
    return f"{short}\n{more}\n\n{figure}\n"


if __name__ == "__main__":
    page = paths.PACKAGE / "README.md"
    quick = paths.PACKAGE / "results" / "quick"
    write_text(page, with_headline(page.read_text(encoding="utf-8"), quick))
