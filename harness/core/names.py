"""What may be the name of a suite, recipe, task, target or pack: checked where it is read.

A name becomes part of file names, tables, commands and logs. It is one visible line that no shell,
file system or log treats as something else: no slash, no control or hidden character, and a letter
or digit first, so that it is never an option, a hidden file, `..` or a workflow command.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, Field

from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.text.escaping import one_line

LONGEST = 80  # characters; with an ending it stays below the 255 bytes of a file name
ALLOWED = (
    f"A name has 1 to {LONGEST} letters, digits, spaces and . _ - + = , : @ % ~ ( ) [ ] |, "
    "and starts with a letter or digit"
)
_NAME = re.compile(r"[^\W_]([\w .+=,:@%~()\[\]|-]*[\w.+=@%~()\[\]-])?")


def checked(text: str) -> str:
    """The text, if it can be a name.

    >>> checked("sft[lr=1e-4]")
    'sft[lr=1e-4]'

    Raises:
        ValueError: it cannot; the message says what can.
    """
    if len(text) > LONGEST or not _NAME.fullmatch(text) or len(text.encode()) > 2 * LONGEST:
        raise ValueError(f"'{one_line(text, 40)}' cannot be a name. {ALLOWED}")
    return text


Name = Annotated[str, AfterValidator(checked)]
Reference = Annotated[str, Field(min_length=1, max_length=1_000)]
"""A name, a path or a hub id, looked up later."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or a full stop where nothing known is near.

    >>> nearest("captials", ["capitals", "dates"]), nearest("x", ["dates"])
    ("; did you mean 'capitals'?", '.')
    """
    near = difflib.get_close_matches(name[:LONGEST], list(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else "."


def require(name: str, known: Iterable[str], where: str) -> None:
    """Raise `UsageError` with the nearest valid name unless `name` is known."""
    choices = sorted(known)
    if name not in choices:
        raise UsageError(
            f"{where}: unknown '{name}'{nearest(name, choices)} Known: {', '.join(choices)}"
        )
