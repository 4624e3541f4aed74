"""JSON that somebody else wrote, read within limits before a library sees it.

Reads regular files only. Size, encoding, nesting and the length of numbers are checked, and each
failure is an `IntegrityError` that names the file. Writes nothing.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from retainbench.harness.core.errors import IntegrityError

MOST_BYTES = 16 << 20
"""A model's config has a few kB; parsing 16 MiB takes about 300 MB of memory at worst."""
MOST_DEPTH = 64
"""Nested lists and objects; configs in the field have at most 8."""


def regular_file(path: Path, most_bytes: int | None = None) -> int:
    """Size of a regular file in bytes, following links.

    Raises:
        IntegrityError: missing, a dangling link, a folder, a pipe or a device, unreadable, or
            larger than `most_bytes`.
    """
    try:
        status = path.stat()
    except FileNotFoundError as error:
        what = "a link to a file that does not exist" if path.is_symlink() else "missing"
        raise IntegrityError(f"{path}: {what}") from error
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{path}: cannot be read ({error})") from error
    if not stat.S_ISREG(status.st_mode):
        raise IntegrityError(f"{path}: not a regular file; expected a file, not a folder or pipe")
    if most_bytes is not None and status.st_size > most_bytes:
        raise IntegrityError(f"{path}: {status.st_size} bytes; at most {most_bytes} are read")
    return status.st_size


def read_text(path: Path, most_bytes: int = MOST_BYTES) -> str:
    """A UTF-8 text file; the errors are those of `regular_file`, and another encoding is one."""
    regular_file(path, most_bytes)
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise IntegrityError(
            f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8"
        ) from error
    except OSError as error:
        raise IntegrityError(f"{path}: cannot be read ({error.strerror})") from error


def lines(path: Path, longest: int) -> Iterator[tuple[str, bytes]]:
    """Lines of a file, each with `file:line` for errors; a longer one is never held in memory.

    Raises:
        IntegrityError: not a regular file, or a line of more than `longest` bytes.
    """
    regular_file(path)
    with path.open("rb") as stream:
        for number, line in enumerate(iter(lambda: stream.readline(longest + 1), b""), start=1):
            place = f"{path}:{number}"
            if len(line) > longest:
                raise IntegrityError(f"{place}: a line of more than {longest} bytes")
            yield place, line


def read_object(path: Path, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """A JSON object.

    Raises:
        IntegrityError: not a regular file, too large, not UTF-8, a byte order mark (transformers
            and PEFT cannot read it), not JSON, nested too deeply, a key given twice, no object.
    """
    return parse_object(read_text(path, most_bytes), str(path))


def parse_object(text: str, source: str, *, unique: bool = True) -> dict[str, Any]:
    """`read_object` for text; `source` names it in errors.

    Args:
        unique: refuse a key that is given twice; off for large files, where it takes as long again.
    """
    if text.startswith("\ufeff"):
        raise IntegrityError(f"{source}: starts with a byte order mark; save it as plain UTF-8")
    try:
        value = json.loads(text, object_pairs_hook=_unique if unique else None)
        deep = _depth(value) > MOST_DEPTH
    except RecursionError:
        deep = True
    except ValueError as error:
        raise IntegrityError(f"{source}: not valid JSON ({str(error)[:100]})") from error
    if deep:
        raise IntegrityError(f"{source}: JSON is nested more than {MOST_DEPTH} levels deep")
    if not isinstance(value, dict):
        raise IntegrityError(f"{source}: expected a JSON object, found {type(value).__name__}")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"duplicate key {max(keys, key=keys.count)!r}")
    return found


def _depth(value: Any) -> int:
    level, depth = [value], 0
    while level:
        depth += 1
        inner = [v.values() if isinstance(v, dict) else v for v in level]
        level = [w for group in inner for w in group if isinstance(w, (dict, list))]
        if depth > MOST_DEPTH:
            break
    return depth
