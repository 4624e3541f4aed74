"""Items of a task: JSON Lines, one item a line, checked for form before anything uses them.

Reads items.jsonl, a target's train.jsonl and validation.jsonl, and the files of
`retainbench freeze --jsonl`; writes nothing. Torch-free.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.files import foreign_json

LONGEST_LINE = 1_000_000
"""Bytes of one line; a longer one is refused before it is parsed."""
LONGEST_NAME = 300
"""Characters of an item's id."""


def read_rows(path: Path, complete: Callable[[Any], Any] | None = None) -> list[dict[str, Any]]:
    """Rows of a JSONL file of items, each checked.

    Args:
        complete: for a user's file: fills in what a row may leave out, before it is checked. A byte
            order mark is skipped then; in a pack it is refused, because lm-eval reads that file.

    Raises:
        IntegrityError: a line is not UTF-8, not a JSON object or too long, a field is missing, an
            id occurs twice, or `gold` is not the index of a choice. Names file, line and item.
        UsageError: the same of a user's file, which she can correct.
    """
    if complete is None:
        return _checked(path, None)
    try:
        return _checked(path, complete)
    except IntegrityError as error:
        raise UsageError(str(error)) from error


def _checked(path: Path, complete: Callable[[Any], Any] | None) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    for number, line in enumerate(lines(path), start=1):
        where = f"{path}:{number}"
        if complete is None:
            row = _parsed(line, where)
        else:
            row = complete(_parsed(line.removeprefix(codecs.BOM_UTF8), where))
        _check_row(row, where)
        if ("choices" in row) != ("choices" in (rows or [row])[0]):
            raise IntegrityError(
                f"{where}: item {row['id']}: rows must all have choices, or all an answer"
            )
        if row["id"] in seen:
            raise IntegrityError(f"{where}: item {row['id']}: duplicate id. Use every id once")
        seen.add(row["id"])
        rows.append(row)
    if not rows:
        raise IntegrityError(f"{path}: has no items. Write one JSON object a line")
    return rows


def _parsed(line: bytes, where: str) -> Any:
    """One line as JSON; refuses NaN, half a surrogate pair and a key that occurs twice."""
    try:
        value = json.loads(
            line.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_unique
        )
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as error:
        raise IntegrityError(
            f"{where}: not UTF-8: {error.reason}. Save the file as UTF-8"
        ) from error
    except UnicodeEncodeError as error:
        raise IntegrityError(f"{where}: has half a surrogate pair. Write valid Unicode") from error
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{where}: not JSON: {error}. Write one JSON object a line") from error
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError(f"duplicate key among {', '.join(value)}")
    return value


def lines(path: Path) -> list[bytes]:
    """Lines of at most LONGEST_LINE bytes."""
    return [line for _, line in foreign_json.lines(path, LONGEST_LINE)]


def _check_row(row: Any, where: str) -> None:
    if not isinstance(row, dict) or not isinstance(row.get("id"), str):
        raise IntegrityError(f'{where}: not an object with an id. Write {{"id": ..., ...}}')
    if not 0 < len(row["id"]) <= LONGEST_NAME or not row["id"].isprintable():
        raise IntegrityError(f"{where}: the id must have 1 to {LONGEST_NAME} printable characters")
    where = f"{where}: item {row['id']}"
    for name in ("query", "cluster"):
        if not isinstance(row.get(name), str):
            raise IntegrityError(f"{where}: {name} is missing or is not text")
    if "messages" in row and not _conversation(row["messages"]):
        raise IntegrityError(
            f"{where}: messages must be a list of {{role, content}}, with the roles system, user "
            "and assistant, that ends with the user's"
        )
    if "choices" in row:
        _check_choices(row, where)
    elif not isinstance(row.get("answer"), str) or not _texts(row.get("aliases")):
        raise IntegrityError(
            f"{where}: has neither choices nor an answer with aliases. Add one of them"
        )
    elif not isinstance(row.get("solution", ""), str):
        raise IntegrityError(f"{where}: the solution must be text, with the answer at its end")
    elif not row["answer"]:
        raise IntegrityError(f"{where}: the answer is empty. Write an answer or remove the item")


def _check_choices(row: dict[str, Any], where: str) -> None:
    choices, gold = row["choices"], row.get("gold")
    if not _texts(choices) or len(choices) < 2 or not all(choices):
        raise IntegrityError(f"{where}: choices must be two or more non-empty texts")
    if len(set(choices)) < len(choices):
        raise IntegrityError(f"{where}: duplicate choice. Make all choices different")
    if isinstance(gold, bool) or not isinstance(gold, int) or not 0 <= gold < len(choices):
        raise IntegrityError(
            f"{where}: gold {gold!r} must be 0 to {len(choices) - 1}, the index of a choice"
        )


def _conversation(value: Any) -> bool:
    turns = value if isinstance(value, list) else []
    shaped = all(
        isinstance(turn, dict)
        and turn.get("role") in ("system", "user", "assistant")
        and isinstance(turn.get("content"), str)
        for turn in turns
    )
    return bool(turns) and shaped and turns[-1]["role"] == "user"


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)
