"""Tables on a terminal: one look for every verb that prints one. Imports Rich when called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from retainbench.harness.core.text import escaping

if TYPE_CHECKING:
    from rich.table import Table


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], align: str, caption: str | None = None
) -> Table:
    """A Rich table of plain texts with a rule under its head; a cell that is too wide is folded.

    Args:
        rows: cells as text from anywhere; markup and control characters in them have no effect.
        align: an `l` or `r` for each column.
    """
    from rich.text import Text

    found = empty(caption)
    for name, side in zip(head, align, strict=True):
        found.add_column(name, justify="left" if side == "l" else "right", overflow="fold")
    for row in rows:
        found.add_row(*(Text(escaping.visible(text)) for text in row))
    return found


def empty(caption: str | None = None) -> Table:
    """A table without columns yet: two spaces between columns, no frame."""
    from rich import box
    from rich.table import Table

    return Table(
        title=caption,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )
