"""Safe reading of result files that somebody else wrote: JSON and JSON Lines under size caps.

Reads untrusted files and returns plain objects; anything truncated, malformed, too large or too
deep is an `IntegrityError` that names file and line. Knows no harness and no record.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from retainbench.harness.core.errors import IntegrityError

LARGEST_FILE = 4 * 2**30
LARGEST_VALUE = 256 * 2**20
"""Bytes of one JSON document or line; real ones are below 10 MB."""
DATE = re.compile(r"_(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)$")
"""How lm-eval and lighteval end the names of files that one run wrote."""


def parse(data: str | bytes, where: str) -> Any:
    """JSON of bounded size and depth.

    Raises:
        IntegrityError: truncated, malformed, too large or too deep.
    """
    if len(data) > LARGEST_VALUE:
        raise IntegrityError(f"{where}: larger than {LARGEST_VALUE >> 20} MiB")
    try:
        return json.loads(data)
    except RecursionError as error:
        raise IntegrityError(f"{where}: nested too deeply") from error
    except ValueError as error:  # covers JSONDecodeError and UnicodeDecodeError
        raise IntegrityError(f"{where}: not valid JSON: {error}") from error


def read_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds one object."""
    if path.stat().st_size > LARGEST_VALUE:
        raise IntegrityError(f"{path}: larger than {LARGEST_VALUE >> 20} MiB")
    value = parse(path.read_bytes(), str(path))
    if not isinstance(value, dict):
        raise IntegrityError(f"{path}: expected a JSON object")
    return value


def read_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Objects of a JSON Lines file, each with `file:line` for error messages."""
    if path.stat().st_size > LARGEST_FILE:
        raise IntegrityError(f"{path}: larger than {LARGEST_FILE >> 30} GiB")
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(LARGEST_VALUE + 1), b""), start=1):
            where = f"{path}:{number}"
            if line.strip():
                row = parse(line, where)
                if not isinstance(row, dict):
                    raise IntegrityError(f"{where}: expected a JSON object")
                yield where, row


def shorten(value: Any, limit: int = 60) -> str:
    """A value for one line of an error message."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."
