"""The table on a terminal, fitted to its width.

Pure; imports Rich when called. Intervals move below their estimates where a line is too narrow, and
then columns are left out from the least needed one, with a line that names them. Text from outside
carries no markup and no control characters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from retainbench.harness.core.text import escaping
from retainbench.harness.core.text import terminal as core_terminal
from retainbench.harness.report.table.columns import Column, Grid, Table

if TYPE_CHECKING:
    from rich.console import RenderableType

HIDE_FIRST = (
    "samples",
    "cost",
    "kl",
    "updates",
    "perplexity",
    "erosion",
    "flips",
    "drift",
    "method",
)
"""Ends of the keys of columns that a narrow terminal loses, in this order."""
PADDING = 2  # characters that Rich puts around and between columns


def terminal(table: Table, width: int) -> RenderableType:
    """A Rich table of at most `width` characters with the footnotes under it."""
    from rich.console import Group
    from rich.text import Text

    cells = [[escaping.terminal(text) for text in row] for row in table.cells]
    if _total(_widths(table.columns, cells)) > width:
        cells = [[text.replace(" [", "\n[") for text in row] for row in cells]
        cells = [[*row[:-1], row[-1].replace(", ", "\n")] for row in cells]  # verdicts of seeds
    hidden = _hidden(table.columns, _widths(table.columns, cells), width)
    shown = core_terminal.empty(table.caption)
    for column in table.columns:
        if column not in hidden:
            whole = column.key == "verdict"
            shown.add_column(column.header, justify=column.align, overflow="fold", no_wrap=whole)
    for row in cells:
        pairs = zip(table.columns, row, strict=True)
        shown.add_row(*(Text(text) for column, text in pairs if column not in hidden))
    notes = list(table.notes)
    if hidden:
        names = ", ".join(column.header for column in hidden)
        notes.append(f"Not shown on {width} characters: {names}; the files have all columns.")
    if matrices := [one.caption for one in table.further if one.matrix]:
        notes.append(f"{len(matrices)} matrices of differences are in the report and the files.")
    below = [Text(escaping.terminal(note), style="dim") for note in notes]
    return Group(shown, *below, *(grid(one) for one in table.further if not one.matrix))


def grid(one: Grid) -> RenderableType:
    """A further table with its footnotes; intervals are below their estimates."""
    from rich.console import Group
    from rich.text import Text

    cells = [[text.replace(" [", "\n[") for text in row] for row in one.cells]
    shown = core_terminal.table(one.head, cells, one.align, one.caption)
    return Group(shown, *(Text(escaping.terminal(note), style="dim") for note in one.notes))


def _widths(columns: list[Column], cells: list[list[str]]) -> dict[str, int]:
    """Characters that each column needs when only its header may wrap."""
    return {
        column.key: PADDING
        + max(len(word) for texts in (column.header.split(), *_lines(cells, n)) for word in texts)
        for n, column in enumerate(columns)
    }


def _lines(cells: list[list[str]], column: int) -> list[list[str]]:
    return [row[column].split("\n") for row in cells]


def _total(widths: dict[str, int]) -> int:
    return sum(widths.values()) + PADDING


def _hidden(columns: list[Column], widths: dict[str, int], width: int) -> list[Column]:
    hidden: list[Column] = []
    for key in HIDE_FIRST:
        if _total(widths) <= width:
            break
        left_out = [column for column in columns if column.key.endswith(key)]
        hidden += left_out
        for column in left_out:
            widths.pop(column.key)
    return hidden
