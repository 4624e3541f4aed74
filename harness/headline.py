"""Put the published quick table and its figure into README.md, between the headline marks.

Reads `results/quick/`, writes README.md. A test compares the two, so the page cannot drift from the
results. Command: `python -m retainbench.harness.headline`.
"""

from __future__ import annotations

from pathlib import Path

from retainbench.harness import paths
from retainbench.harness.records import write_text

START, END = "<!-- headline:", "<!-- /headline -->"


def with_headline(readme: str, results: Path) -> str:
    """The README's text with the table of a published run between its marks."""
    before, rest = readme.split(START)
    mark, _, after = rest.partition(" -->\n")
    after = after.split(END)[1]
    table = (results / "table.md").read_text(encoding="utf-8").strip()
    figure = f"![Gain against retention]({results.relative_to(paths.PACKAGE)}/figures/pareto.svg)"
    return f"{before}{START}{mark} -->\n{table}\n\n{figure}\n{END}{after}"


if __name__ == "__main__":
    page = paths.PACKAGE / "README.md"
    quick = paths.PACKAGE / "results" / "quick"
    write_text(page, with_headline(page.read_text(encoding="utf-8"), quick))
