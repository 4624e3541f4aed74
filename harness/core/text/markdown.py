"""Markdown as text: escaping and tables. No file access."""

from __future__ import annotations

import re
from collections.abc import Sequence

from retainbench.harness.core.text import escaping

_MARKDOWN = re.compile(r"[\\`*<>#|~$&]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|\](?=[(\[:])")


def escaped(text: str) -> str:
    """Markdown text: escapes what GitHub would act on and no more, so that the source reads well.

    `escaping.markdown` escapes all punctuation; in a table of numbers that is every other sign.
    """
    plain = _MARKDOWN.sub(lambda found: "\\" + found[0], escaping.one_line(text))
    return plain.replace("@", "@\u200b").replace("://", ":\u200b//").replace("www.", "www\u200b.")


def grid(head: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> list[str]:
    """Lines of a Markdown table of plain texts; `align` has an `l` or `r` for each column."""
    first, *body = [[escaped(text) for text in cells] for cells in (head, *rows)]
    return [*header(first, align), *map(row, body)]


def header(head: Sequence[str], align: str) -> list[str]:
    """The first two lines of a table of Markdown texts; its rows are `row`s."""
    return [row(head), row([":--" if side == "l" else "--:" for side in align])]


def row(cells: Sequence[str]) -> str:
    """One line of a table of Markdown texts: what they contain must be escaped already.

    >>> row(["`a`", "1"])
    '| `a` | 1 |'
    """
    return f"| {' | '.join(cells)} |"
