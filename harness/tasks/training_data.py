"""Which retention items a user's own training file contains.

Reads JSON Lines of any keys: every string of a row is text, at whatever depth, in the order of the
file (`{"prompt", "completion"}`, `{"text"}`, `{"messages": [{"role", "content"}]}`); values of the
keys `role` and `from` are not. A row that is a string is text itself. The file streams past once.

Option: `--train-data FILE` of run, plan and certify, once per file.
Leaves out: other formats; convert them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.files.storage import sha256_file
from retainbench.harness.core.records import Record
from retainbench.harness.core.text.formatting import counted
from retainbench.harness.tasks.catalogue import Catalogue
from retainbench.harness.tasks.contamination import Overlap, OverlapSearch, by_task, retention_items

LONGEST_LINE = 64_000_000
"""Bytes of one row; a longer one is refused before it is parsed."""
SPEAKERS = ("role", "from")


class TrainData(Record):
    """A training file and the retention items that it contains."""

    name: str
    sha256: str
    rows: int
    overlap: Overlap

    @property
    def source(self) -> str:
        """Its name in messages."""
        return f"{self.name} ({counted(self.rows, 'row')})"


def of_file(path: Path, retention: Sequence[str], tasks: Catalogue) -> TrainData:
    """Items of each retention task that a training file contains.

    Raises:
        UsageError: the file does not exist, is not JSON or has no text; names file and line.
    """
    if not path.is_file():
        raise UsageError(f"--train-data {path}: not a file. Write the path of a JSON Lines file")
    search = OverlapSearch(retention_items(retention, tasks))
    rows = search.read(rows_of(path, f"--train-data {path}"))
    if not rows:
        raise UsageError(f"--train-data {path}: has no rows. Write one JSON value a line")
    return TrainData(
        name=path.name, sha256=sha256_file(path), rows=rows, overlap=by_task(search.found())
    )


def rows_of(path: Path, place: str) -> Iterator[list[str]]:
    """The texts of every row.

    Args:
        place: how messages name the file.

    Raises:
        UsageError: a row is not JSON or has no text; names the line.
    """
    with path.open("rb") as stream:
        number = 0
        while line := stream.readline(LONGEST_LINE + 1):
            number += 1
            where = f"{place}:{number}"
            if len(line) > LONGEST_LINE:
                raise UsageError(f"{where}: a row over {LONGEST_LINE} bytes. Split it")
            if line.isspace():
                continue
            yield _row(line, where)


def _row(line: bytes, where: str) -> list[str]:
    try:
        texts = list(_strings(json.loads(line)))
    except UnicodeDecodeError as error:
        raise UsageError(f"{where}: not UTF-8: {error.reason}. Save the file as UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: not JSON: {error}. Write one JSON value a line") from error
    if not texts:
        raise UsageError(f"{where}: has no text. Remove the row, or add the text that you train on")
    return texts


def _strings(value: Any) -> Iterator[str]:
    """All text of a JSON value, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for part in value:
            yield from _strings(part)
    elif isinstance(value, dict):
        for key, part in value.items():
            if key not in SPEAKERS:
                yield from _strings(part)
