"""What verbs print: lines of text from anywhere, and tables. All output passes here.

A line is printed as it is: on one line, with control and hidden characters as escape codes, and
without Rich's markup or emoji. Reads nothing.
"""

from __future__ import annotations

import sys

from rich.console import Console, RenderableType

from retainbench.harness.core.text.escaping import one_line

WIDTH = 180  # characters where standard output is not a terminal
LONGEST = 20_000  # characters of a line; a path has at most 4,096 bytes


def line(text: object) -> None:
    """Print one line on standard output."""
    sys.stdout.write(one_line(str(text), LONGEST) + "\n")


def notice(text: object) -> None:
    """Print one line on standard error: progress, not a result."""
    sys.stderr.write(one_line(str(text), LONGEST) + "\n")


def data(text: str) -> None:
    """Print JSON or Markdown made by us, which may have several lines."""
    sys.stdout.write(f"{text}\n")


def show(table: RenderableType) -> None:
    """Print a table, as wide as the terminal."""
    console().print(table)


def console() -> Console:
    """Standard output for Rich, in which texts have no markup and no emoji."""
    width = None if sys.stdout.isatty() else WIDTH
    return Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)
