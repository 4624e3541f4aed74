"""The table as Markdown, CSV, JSON and LaTeX.

Pure. Markdown and LaTeX show the compact columns with their footnotes; CSV and JSON hold every
field of every row (in score points, six significant digits), so that nobody has to parse a table
made for reading. CSV has no footnotes: n, interval method, seeds and reasons are columns there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeGuard, get_args, get_origin

from retainbench.harness.core.files.storage import csv_text
from retainbench.harness.core.records import SCHEMA_VERSION, Record
from retainbench.harness.core.text import escaping
from retainbench.harness.core.text.markdown import escaped, grid
from retainbench.harness.report.table.columns import Grid, Table
from retainbench.harness.report.table.model import AxisColumns, TableRow, axes_of


def _latex(text: str) -> str:
    """Escaped for pdflatex, which stops at characters that its fonts lack: those become `?`."""
    escaped = escaping.latex(text).replace("−", "$-$")
    shown = "".join(c if ord(c) < 0x250 or c in "—–…" else "?" for c in escaped)
    # After a row's end LaTeX would take a bracket or a star for an argument of the line break.
    return "{}" + shown if shown.startswith(("[", "*")) else shown


def markdown(table: Table) -> str:
    """GitHub-flavoured Markdown; numbers right-aligned, footnotes as a list below."""
    align = "".join(column.align[0] for column in table.columns)
    head = [column.header for column in table.columns]
    first = Grid(table.caption, head, align, table.cells, table.notes)
    return "\n".join(map(markdown_grid, [first, *table.further]))


def markdown_grid(one: Grid) -> str:
    """One table with its caption above and its footnotes below."""
    lines = grid(one.head, one.cells, one.align)
    caption = f"**{escaped(one.caption)}**"
    return "\n".join([caption, "", *lines, "", *map(_bullet, one.notes), ""])


def _bullet(note: str) -> str:
    return f"- {escaped(note)}"


def fields(rows: Sequence[TableRow]) -> dict[str, tuple[str, ...]]:
    """CSV column -> attribute path in a row; `axes` becomes the columns of every axis, by name."""
    found: dict[str, tuple[str, ...]] = {}
    for name, path in _paths(TableRow).items():
        if name != "axes":
            found[name] = path
            continue
        for axis in axes_of(rows):
            for column, inside in _paths(AxisColumns).items():
                found[f"{axis}_{column}"] = ("axes", axis, *inside)
    return found


def _paths(model: type[Record], above: tuple[str, ...] = ()) -> dict[str, tuple[str, ...]]:
    """CSV column -> attribute path, in the order of the model's fields."""
    found: dict[str, tuple[str, ...]] = {}
    for name, field in model.model_fields.items():
        if field.exclude:
            continue
        inner = [t for t in (field.annotation, *get_args(field.annotation)) if _is_record(t)]
        if inner and get_origin(field.annotation) is not dict:
            found |= _paths(inner[0], (*above, name))
        else:
            path = (*above, name)
            found["_".join(path).removesuffix("_value")] = path
    return found


def _is_record(annotation: object) -> TypeGuard[type[Record]]:
    return isinstance(annotation, type) and issubclass(annotation, Record)


def _flat_value(row: TableRow, path: Sequence[str]) -> str | int | float | None:
    value: Any = row
    for name in path:
        if isinstance(value, dict):
            value = value.get(name)
        else:
            value = None if value is None else getattr(value, name)
    if isinstance(value, dict):
        return "; ".join(f"{name}: {each}" for name, each in value.items())
    if isinstance(value, list):
        return " ".join(str(each) for each in value)
    found: str | int | float | None = value
    return found


def to_csv(rows: Sequence[TableRow]) -> str:
    """One line a row, all fields; an empty field is null and `missing` says why."""
    columns = fields(rows)
    values = ([_flat_value(row, path) for path in columns.values()] for row in rows)
    return csv_text(list(columns), values)


def to_json(table: Table) -> str:
    """Whole rows with caption, footnotes and the compact texts, as canonical indented JSON."""
    value: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "caption": table.caption,
        "columns": [column.header for column in table.columns],
        "rows": [row.model_dump(mode="json") for row in table.rows],
        "shown": table.cells,
        "notes": table.notes,
    }
    if table.further:
        value["further"] = [one._asdict() for one in table.further]
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def latex(table: Table) -> str:
    """A `table*` for \\input; needs the packages booktabs and graphicx and a UTF-8 engine.

    A table that is still wider than the text is shrunk to it.
    """
    align = "".join(column.align[0] for column in table.columns)
    head = [column.header for column in table.columns]
    first = Grid(table.caption, head, align, table.cells, table.notes)
    return "".join(map(_latex_table, [first, *table.further]))


def _latex_cell(text: str) -> str:
    """A number with its interval, smaller, in a line below it."""
    value, bracket, limits = text.partition(" [")
    if not bracket:
        return _latex(text)
    return _stacked("t", "r", _latex(value), rf"\scriptsize [{_latex(limits)}")


def _latex_head(text: str, side: str) -> str:
    """A long heading in two lines."""
    first, _, rest = text.partition(" ")
    return _stacked("b", side, _latex(first), _latex(rest)) if len(text) > 9 else _latex(text)


def _stacked(align: str, side: str, *lines: str) -> str:
    inner = r"\\".join(lines)
    return rf"\begin{{tabular}}[{align}]{{@{{}}{side}@{{}}}}{inner}\end{{tabular}}"


def _latex_table(one: Grid) -> str:
    rows = [
        " & ".join(_latex_cell(text) for text in row) + r" \\\addlinespace" for row in one.cells
    ]
    return "\n".join(
        [
            r"% needs \usepackage{booktabs,graphicx}",
            r"\begin{table*}",
            rf"\caption{{{_latex(one.caption)}}}",
            r"\setlength{\tabcolsep}{3pt}\centering\footnotesize",
            r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{one.align}}}",
            r"\toprule",
            " & ".join(map(_latex_head, one.head, one.align)) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\par\smallskip\raggedright\scriptsize",
            *(_latex(note) + r"\par" for note in one.notes),
            r"\end{table*}",
            "",
        ]
    )
