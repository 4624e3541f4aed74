"""Files: hashing, canonical JSON, atomic writing and checked reading of JSON and JSON Lines.

Every file of a run, a certificate or a pack is written and read here, so that a kill leaves the old
file or the new one and a broken file is refused with its line.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import jsonlines
from pydantic import ValidationError

from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.records import Record


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


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file so that a kill at any moment leaves the old one or the new one, never a part.

    Raises:
        UsageError: the folder cannot be written or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False, prefix=".tmp-") as file:
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                Path(file.name).unlink(missing_ok=True)
                raise
        Path(file.name).chmod(0o644)
        Path(file.name).replace(path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


def write_text(path: Path, text: str) -> None:
    """`write_bytes` for text, in UTF-8 with the newlines as given."""
    write_bytes(path, text.encode())


def write_json(path: Path, record: Record | dict[str, Any]) -> None:
    """Write one record as indented canonical JSON."""
    value = record.model_dump(mode="json") if isinstance(record, Record) else record
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1)
    write_text(path, text + "\n")


def write_jsonl(path: Path, records: Iterable[Record]) -> None:
    """Write records one a line, in the order given."""
    lines = (canonical(record.model_dump(mode="json")) + "\n" for record in records)
    write_text(path, "".join(lines))


R = TypeVar("R", bound=Record)


def read_json(path: Path, model: type[R]) -> R:
    """Read one record; a missing, truncated or foreign file is an `IntegrityError` naming it."""
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise IntegrityError(f"{path} is missing") from error
    except ValidationError as error:
        raise IntegrityError(f"{path}: {_first(error)}") from error


def read_jsonl(path: Path, model: type[R]) -> list[R]:
    """Read records one a line; errors name the file and the line."""
    return list(iterate_jsonl(path, model))


def iterate_jsonl(path: Path, model: type[R]) -> Iterator[R]:
    """`read_jsonl`, one at a time."""
    try:
        with jsonlines.open(path) as reader:
            for number, row in enumerate(reader.iter(), start=1):
                try:
                    yield model.model_validate(row)
                except ValidationError as error:
                    raise IntegrityError(f"{path}:{number}: {_first(error)}") from error
    except FileNotFoundError as error:
        raise IntegrityError(f"{path} is missing") from error
    except (jsonlines.Error, UnicodeDecodeError) as error:
        raise IntegrityError(f"{path}: not valid JSON Lines: {error}") from error


def _first(error: ValidationError) -> str:
    detail = error.errors()[0]
    where = ".".join(str(part) for part in detail["loc"]) or "file"
    return f"{where}: {detail['msg']}"
