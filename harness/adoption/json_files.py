"""Safe reading of result files that somebody else wrote: regular files, bounded JSON, typed values.

Size and type of a file are checked before it is opened, size and number of values before JSON is
parsed, and every value passes a pydantic model (`checked`) before it is used. Whatever does not fit
is an `IntegrityError` that names file and place. Knows no harness and no record.

Budgets: JSON of 64 MiB and 3 million values needs less than 1.5 GB of memory (an empty object takes
64 bytes, one character up to 4).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.files.foreign_json import lines, regular_file

LARGEST_FILE = 2**30
"""Bytes of a file that is read in parts."""
LARGEST_VALUE = 64 * 2**20
"""Bytes of one JSON document or line; real lines are below 10 MB."""
MOST_VALUES = 3_000_000
"""Values in one JSON document or line."""
MOST_SETTINGS = 1_000_000
"""Values in a file of results without samples: a model needs 1 kB for each task and metric."""
LONGEST_NAME = 200
"""Characters of a task's name, which is a part of a file name."""
DATE = re.compile(r"_(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)$")
"""How lm-eval and lighteval end the names of files that one run wrote."""
MOST_EXPANSION = 200
"""Bytes that one byte of a compressed file may become; real results shrink 5 to 50 times."""
M = TypeVar("M", bound=BaseModel)


class Foreign(BaseModel):
    """Base of the models of foreign files: declared keys are typed, all others are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)


def checked(model: type[M], value: Any, place: str) -> M:
    """A foreign value as its model.

    Raises:
        IntegrityError: a key is missing or has another type; names place and key.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        detail = error.errors(include_input=False, include_url=False)[0]
        key = value_text(".".join(map(str, detail["loc"]))) if detail["loc"] else "value"
        raise IntegrityError(f"{place}: {key}: {detail['msg']}") from error


def parse(data: bytes, place: str, most_values: int = MOST_VALUES) -> Any:
    """JSON of bounded size and depth.

    Raises:
        IntegrityError: truncated, malformed, too large, with too many values or too deep.
    """
    if len(data) > LARGEST_VALUE:
        raise IntegrityError(f"{place}: larger than {LARGEST_VALUE >> 20} MiB")
    if sum(data.count(mark) for mark in (b",", b"[", b"{")) > most_values:
        raise IntegrityError(f"{place}: more than {most_values} values")
    try:
        return json.loads(data)
    except RecursionError as error:
        raise IntegrityError(f"{place}: nested too deeply") from error
    except ValueError as error:  # covers JSONDecodeError and UnicodeDecodeError
        raise IntegrityError(f"{place}: not valid JSON: {error}") from error


def most_unfolded(path: Path, largest: int = LARGEST_FILE) -> int:
    """Bytes that a compressed file may hold: a small file that unfolds to gigabytes is a bomb."""
    return min(largest, MOST_EXPANSION * path.stat().st_size + LARGEST_VALUE)


def read_object(path: Path, most_values: int = MOST_VALUES) -> dict[str, Any]:
    """A JSON file that holds one object."""
    regular_file(path, LARGEST_VALUE)
    value = parse(path.read_bytes(), str(path), most_values)
    if not isinstance(value, dict):
        raise IntegrityError(f"{path}: expected a JSON object")
    return value


def read_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Objects of a JSON Lines file, each with `file:line` for error messages."""
    regular_file(path, LARGEST_FILE)
    for place, line in lines(path, LARGEST_VALUE):
        if line.strip():
            row = parse(line, place)
            if not isinstance(row, dict):
                raise IntegrityError(f"{place}: expected a JSON object")
            yield place, row


def require_task_name(task: str, place: str) -> None:
    """Refuse a task's name that cannot be a part of a file's name or of one line of text."""
    if not 0 < len(task) <= LONGEST_NAME or "/" in task or not task.isprintable():
        raise IntegrityError(f"{place}: not a task name: {value_text(task)}")


def run_date(file: Path) -> str:
    """The time of the run in a file's name; empty where there is none."""
    dated = DATE.search(file.stem)
    return dated[1] if dated else ""


def fingerprint(value: Any) -> str:
    """Hex SHA-256 of any foreign value; unlike a record's digest it takes NaN and surrogates."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def value_text(value: Any, limit: int = 60) -> str:
    """A value for one line of an error message."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."
