"""A run folder -> a folder under results/ that a stranger can read and check.

Writes scorecards.jsonl, verdicts.json and methods.json (the rows), recipes.json (the options of
every stage and what a sweep chose), variants.{jsonl,csv} (what it tried), commands.json (what made
them), table.{md,csv,json,tex,html}, figures/ and a README.md with the table, the commands, the
environment and the digests. Everything is generated: the same rows give the same bytes, and a test
re-renders every published table.
Command: `retainbench publish RUN results/NAME`. Leaves out: item records and the HTML report, which
are large; the run folder keeps them.

`python -m retainbench.harness.report.publish` renders every folder under results/ again from its
rows, puts the quick results into README.md, between the headline marks: a table, what it shows and
a figure, and the list of all tables with what they show into results/README.md.
The front page shows the columns that answer the question - what was gained, what was forgotten, how
far the weights moved - and links to all others. A test compares the two.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from retainbench.harness.core import axes, paths
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.files import locks
from retainbench.harness.core.files.atomic import replacing, write_bytes
from retainbench.harness.core.files.storage import read_json, write_json, write_text
from retainbench.harness.core.paths import RunFolder
from retainbench.harness.core.records import Commands
from retainbench.harness.core.scorecards import Scorecard
from retainbench.harness.core.text.formatting import listed
from retainbench.harness.core.text.markdown import escaped, grid, header, row
from retainbench.harness.report import report
from retainbench.harness.report.conclusions import conclusions, short
from retainbench.harness.report.table import evidence
from retainbench.harness.report.table.text import markdown

FIGURES = {
    "pareto": "Gain against retention",
    "ranks": "Ranks and how sure they are",
    "pairs": "Recipes against each other",
}
"""The figures that a published page shows, and what they are."""
SUFFIXES = (".svg", ".pdf")  # PNG files are three quarters of all bytes; the run folder has them


def publish(run_folder: Path, results_folder: Path) -> None:
    """Write (or refresh) a published folder from a run folder.

    Raises:
        UsageError: no scorecards, or the target folder holds something else, or the run.
        IntegrityError: a record is malformed.
    """
    if run_folder.resolve().is_relative_to(results_folder.resolve()):
        raise UsageError(
            f"{results_folder} holds the run itself; choose another folder for results"
        )
    with locks.growing(run_folder), locks.replaced(results_folder):
        _require_ours(results_folder)
        report.report(run_folder)
        with replacing(results_folder) as folder:
            if results_folder.exists():  # files that are not ours stay
                shutil.copytree(results_folder, folder, dirs_exist_ok=True)
            _copy_rows(run_folder, folder)
            _copy_figures(run_folder / "figures", folder / "figures")
            made = ["retainbench", "publish", str(run_folder), str(results_folder)]
            lines = [*commands(run_folder), made]
            write_json(RunFolder(folder).commands, Commands(lines=lines))
            render(folder)


def _copy_rows(run_folder: Path, folder: Path) -> None:
    """Copy scorecards, verdicts and methods; remove those that this run does not have."""
    sources = (RunFolder(run_folder).scorecards, *evidence.files(run_folder))
    for source in sources:
        goal = folder / source.name
        goal.unlink(missing_ok=True)
        if source.is_file():
            write_bytes(goal, source.read_bytes())


def commands(folder: Path) -> list[list[str]]:
    """The command lines that a run folder or a published folder was made with, as recorded.

    A run that was started from Python has none.
    """
    file = RunFolder(folder).commands
    return read_json(file, Commands).lines if file.exists() else []


def render(folder: Path) -> None:
    """Write tables and README of a published folder from the rows that are in it."""
    table = report.load_table(folder)
    report.write_tables(folder, table)
    write_text(folder / "README.md", readme(folder))


def readme(folder: Path) -> str:
    """The published folder's front page, from its rows."""
    table, name = report.load_table(folder), folder.name
    facts = provenance(report.load_scorecards(folder))
    return "\n".join(
        [
            f"# {escaped(name)}",
            "",
            "Generated; do not edit. Made and remade with",
            "",
            "```",
            *(shlex.join(command) for command in commands(folder)),
            "```",
            "",
            "`table.csv` and `table.json` hold every column, `pairs.csv` every paired difference, "
            "`scorecards.jsonl` every cell and scored checkpoint.",
            "",
            "## What it shows",
            "",
            "Each sentence is made from the intervals, verdicts and paired differences below. A "
            "gain or loss is shown by the recipe's own interval. More than another recipe is said "
            "after Holm's correction over all pairs, which large differences miss too where seeds "
            "are few.",
            "",
            *(f"- {escaped(line)}" for line in conclusions(table, evidence.stored(folder))),
            "",
            "## Table",
            "",
            markdown(table),
            *(
                f"![{title}, {escaped(name)}]({path})\n"
                for key, title in FIGURES.items()
                for path in shown_figures(folder, key)
            ),
            "## Environment and digests",
            "",
            *grid(["What", "Value"], [[key, value] for key, value in facts], "ll"),
            "",
        ]
    )


def provenance(cards: Sequence[Scorecard]) -> list[tuple[str, str]]:
    """The cells' provenance, one line a name, distinct values in order."""
    names = list(dict.fromkeys(name for card in cards for name in card.provenance))
    return [
        (name, "; ".join(dict.fromkeys(c.provenance[name] for c in cards if name in c.provenance)))
        for name in names
    ]


def _require_ours(folder: Path) -> None:
    """An existing folder is overwritten only if it was published before."""
    if folder.exists() and any(folder.iterdir()) and not RunFolder(folder).scorecards.is_file():
        raise UsageError(f"{folder} is not a published folder; choose another name under results/")


def _copy_figures(source: Path, goal: Path) -> None:
    """Replace the published figures, so that none of an earlier run is left.

    A PDF stays while its drawing does, for its writer numbers the objects in it at random.
    """
    found = sorted(source.iterdir()) if source.is_dir() else []
    new = {path.name: path.read_bytes() for path in found if path.suffix in SUFFIXES}
    old = {path.name: path.read_bytes() for path in goal.iterdir()} if goal.is_dir() else {}
    if goal.exists():
        shutil.rmtree(goal)
    for name, content in new.items():
        drawing = Path(name).with_suffix(".svg").name
        same = name in old and old.get(drawing) == new.get(drawing)
        write_bytes(goal / name, old[name] if same else content)


def shown_figures(folder: Path, key: str) -> list[str]:
    """The published drawings of a figure, relative to the folder: one per target."""
    found = sorted((folder / "figures").glob(f"{key}*.svg"))
    return [path.relative_to(folder).as_posix() for path in found]


START, END = "<!-- headline:", "<!-- /headline -->"
SHOWN = (
    "base", "target", "recipe", "method", "gain", *axes.DEFAULT, "drift", "verdict",
)  # fmt: skip
"""Columns of the standardized table that the front page has room for."""
ROWS = ("sft", "sft-hot", "sft-lora", "dpo", "rft", "grpo", "sdft", "es")
"""Recipes that the front page shows: one of each kind, the damage of a hot rate, the best gain and
the reward that fell."""
LEGEND = (
    "Gain: reward on the new task, after minus before; drop: what was lost on the retention tasks "
    "of an axis (below zero: won). Both in percentage points (pp). Drift: how far the weights "
    "moved, as a share of their norm; in parentheses over a random walk of the same length. "
    "Verdict: on retention alone; PASS where every task is shown to lose no more than its margin."
)


def with_headline(readme: str, results: Path) -> str:
    """The README's text with table, finding and figure of a published run between its marks."""
    return _between(readme, START, END, _headline(results))


LIST_START, LIST_END = "<!-- tables:", "<!-- /tables -->"


def with_tables(readme: str) -> str:
    """The text of results/README.md with the list of published tables between its marks."""
    rows = [
        [
            f"[{folder.name}]({folder.name}/README.md)",
            escaped(listed(one.base for one in table.rows)),
            str(len({seed for one in table.rows for seed in one.seeds})),
            f"{training_hours(report.load_scorecards(folder)):.1f}",
            escaped(short(table, evidence.stored(folder))),
        ]
        for folder in published()
        for table in [report.load_table(folder)]
    ]
    head = header(["Folder", "Base", "Seeds", "Hours", "What it shows"], "lllll")
    lines = [*head, *map(row, rows)]
    return _between(readme, LIST_START, LIST_END, "\n".join(["", *lines, "", ""]))


def training_hours(cards: Sequence[Scorecard]) -> float:
    """Hours of training of all cells, one after another, without sweeps and scoring."""
    return sum(card.points[-1].ledger.seconds for card in cards if card.points) / 3600


def _between(text: str, start: str, end: str, content: str) -> str:
    """A text with other content between the line of the first mark and the second mark."""
    before, rest = text.split(start)
    mark, _, after = rest.partition(" -->\n")
    return f"{before}{start}{mark} -->\n{content}{end}{after.split(end)[1]}"


def _headline(results: Path) -> str:
    table = report.load_table(results)
    columns = [column for column in table.columns if column.key in SHOWN]
    scope = table.notes[:2]  # base, budget, seeds; n and intervals
    rows = [one for one in table.rows if one.recipe in ROWS]
    top = markdown(table._replace(rows=rows, columns=columns, notes=[LEGEND, *scope], further=()))
    place = results.relative_to(paths.PACKAGE).as_posix()
    more = (
        f"All recipes, columns, footnotes, environment and digests: [{place}]({place}/README.md)."
    )
    figure = f"![Gain against retention, one panel per axis]({place}/figures/pareto.svg)"
    shows = f"**What it shows.** {escaped(short(table, evidence.stored(results)))}"
    return f"{top}\n{shows}\n\n{more}\n\n{figure}\n"


def published() -> list[Path]:
    """The folders under results/ that runs were published to."""
    return [file.parent for file in sorted((paths.PACKAGE / "results").glob("*/scorecards.jsonl"))]


if __name__ == "__main__":
    for rows in published():
        render(rows)
    page = paths.PACKAGE / "README.md"
    quick = paths.PACKAGE / "results" / "quick"
    write_text(page, with_headline(page.read_text(encoding="utf-8"), quick))
    index = paths.PACKAGE / "results" / "README.md"
    write_text(index, with_tables(index.read_text(encoding="utf-8")))
