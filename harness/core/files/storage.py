"""Files: hashing, canonical JSON, atomic writing and checked reading of JSON, JSON Lines and CSV.

Every file of a run, a certificate or a pack is written and read here, so that a kill leaves the old
file or the new one and a broken file is refused with its line.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jsonlines
from pydantic import ValidationError

from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.files.atomic import explained, write_bytes
from retainbench.harness.core.records import Record
from retainbench.harness.core.text.escaping import csv_cell


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, read in 1 MiB pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical(value: Any) -> str:
    """JSON with sorted keys, no spaces to spare, real characters and no NaN."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """Hex SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def write_text(path: Path, text: str) -> None:
    """`write_bytes` for text, in UTF-8 with the newlines as given."""
    write_bytes(path, text.encode())


def write_json(path: Path, record: Record | dict[str, Any], *, checked: bool = False) -> None:
    """Write one record as indented canonical JSON.

    Args:
        checked: also write the file's digest next to it (see `intact`).
    """
    _write(path, json_text(record), checked)


def json_text(record: Record | dict[str, Any]) -> str:
    """What `write_json` writes."""
    value = record.model_dump(mode="json") if isinstance(record, Record) else record
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def write_jsonl(path: Path, records: Iterable[Record], *, checked: bool = False) -> None:
    """Write records one a line, in the order given; `checked` as for `write_json`."""
    lines = (canonical(record.model_dump(mode="json")) + "\n" for record in records)
    _write(path, "".join(lines), checked)


def _write(path: Path, text: str, checked: bool) -> None:
    data = text.encode()
    if checked:
        write_digest(path, hashlib.sha256(data).hexdigest())
    write_bytes(path, data)


def csv_text(
    head: Sequence[str], rows: Iterable[Iterable[object]], digits: int | None = None
) -> str:
    """A CSV table; a missing value is an empty cell, and no spreadsheet evaluates a text.

    Args:
        digits: significant digits of floats; None keeps all.

    >>> csv_text(("task", "drop"), [("dates", 0.12345), ("=1+1", None)], digits=2)
    "task,drop\\ndates,0.12\\n'=1+1,\\n"
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([_csv_value(value, digits) for value in row] for row in rows)
    return out.getvalue()


def _csv_value(value: object, digits: int | None) -> object:
    if isinstance(value, float) and digits is not None:
        return f"{value:.{digits}g}"
    return csv_cell(value) if isinstance(value, str) else value


def read_csv(path: Path) -> list[dict[str, str]]:
    """The lines of a CSV table by column.

    Raises:
        IntegrityError: the file is missing.
    """
    require_intact(path)
    with explained(path, "read"), path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def digest_file(path: Path) -> Path:
    """Where the digest of a file is kept: `.NAME.sha256` next to it."""
    return path.with_name(f".{path.name}.sha256")


def write_digest(path: Path, sha256: str) -> None:
    """Keep what a file's bytes are, or will be when it is written."""
    write_text(digest_file(path), sha256 + "\n")


def was_written(path: Path) -> bool:
    """Whether a file is there, or was and is missing: its digest is left."""
    return path.is_file() or digest_file(path).is_file()


def intact(path: Path) -> bool:
    """Whether a file exists and has the digest that is kept next to it, if one is.

    A run makes again what is not intact. The digest finds damage, not forgery: whoever can change
    a file can change both.

    Raises:
        UsageError: the file cannot be read.
    """
    kept = digest_file(path)
    with explained(path, "read"):
        if not path.is_file():
            return False
        return not kept.is_file() or kept.read_bytes().strip() == sha256_file(path).encode()


def require_intact(path: Path) -> None:
    """Refuse a file that was damaged since it was written.

    Raises:
        IntegrityError: it is missing or differs from its digest.
    """
    with explained(path, "read"):
        missing = not path.is_file()
    if missing:
        raise IntegrityError(f"{path} is missing, or not a file")
    if not intact(path):
        raise IntegrityError(
            f"{path} was changed after it was written (its SHA-256 differs from the one in "
            f"{digest_file(path).name}): run the same `retainbench run` again to make it again"
        )


R = TypeVar("R", bound=Record)


def read_json(path: Path, model: type[R]) -> R:
    """Read one record.

    Raises:
        IntegrityError: the file is missing, damaged or not such a record.
        UsageError: it cannot be read.
    """
    require_intact(path)
    try:
        with explained(path, "read"):
            return model.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise IntegrityError(f"{path}: {_first(error)}") from error


def read_jsonl(path: Path, model: type[R]) -> list[R]:
    """Read records one a line; errors name the file and the line."""
    return list(iterate_jsonl(path, model))


def iterate_jsonl(path: Path, model: type[R]) -> Iterator[R]:
    """`read_jsonl`, one at a time."""
    require_intact(path)
    try:
        with explained(path, "read"), jsonlines.open(path) as reader:
            for number, row in enumerate(reader.iter(), start=1):
                try:
                    yield model.model_validate(row)
                except ValidationError as error:
                    raise IntegrityError(f"{path}:{number}: {_first(error)}") from error
    except (jsonlines.Error, UnicodeDecodeError, RecursionError) as error:
        raise IntegrityError(f"{path}: not valid JSON Lines: {error}") from error


def _first(error: ValidationError) -> str:
    detail = error.errors()[0]
    where = ".".join(str(part) for part in detail["loc"]) or "file"
    return f"{where}: {detail['msg']}"
