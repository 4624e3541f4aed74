"""General text for replay and anchors: a JSON Lines file of the user's, or the base's own text.

A row is a JSON string or an object; all its strings are joined by a newline, as in
tasks/training_data.py, whose reader this uses. A file must not overlap the retention tasks: what is
scored would be trained on. The base's own text is cleaned of what overlaps instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.files.text_files import TextFile
from retainbench.harness.core.text.formatting import counted
from retainbench.harness.tasks import training_data
from retainbench.harness.tasks.contamination import Key, OverlapSearch


@cache
def read(path: Path) -> TextFile:
    """A file as data.

    Raises:
        UsageError: it is not there, is not JSON Lines, or has no text.
    """
    if not path.is_file():
        raise UsageError(f"not a file: {path}. Write the path of a JSON Lines file of general text")
    texts = tuple("\n".join(row) for row in training_data.rows_of(path, str(path)))
    if not texts:
        raise UsageError(f"{path}: has no rows. Write one JSON value a line")
    return TextFile(path.stem, texts, str(path))


def refuse_overlap(file: TextFile, items: Mapping[Key, str]) -> None:
    """Check that a file holds no retention item.

    Raises:
        UsageError: naming the file and the first items.
    """
    search = OverlapSearch(items)
    search.read([text] for text in file.texts)
    if found := search.found():
        named = ", ".join(f"{task} {item}" for task, item in found[:3])
        raise UsageError(
            f"{file.place}: holds {counted(len(found), 'retention item')} ({named}). Replay and "
            "anchors must not train on what is scored. Remove these rows"
        )


def cleaned(texts: Sequence[str], items: Mapping[Key, str]) -> list[str]:
    """The texts without those that a retention item overlaps with.

    Items may be spread over several texts: every text that shares a sequence with one goes.
    """
    kept = list(texts)
    while True:
        search = OverlapSearch(items)
        search.read([text] for text in kept)
        if not (found := search.found()):
            return kept
        own = {key: items[key] for key in found}
        kept = [text for text in kept if not _shares(text, own)]


def _shares(text: str, items: Mapping[Key, str]) -> bool:
    search = OverlapSearch(items)
    search.read([[text]])
    return bool(search.seen or search.found())
