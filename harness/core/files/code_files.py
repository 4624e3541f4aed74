"""A user's own Python file, read once: its bytes travel to worker processes and Ray nodes as data.

The digest of the bytes decides, not the path; what the file imports must be installed where it
runs. Reads the file; writes nothing.
"""

from __future__ import annotations

import hashlib
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from retainbench.harness.core.errors import UsageError


class CodeFile(NamedTuple):
    """A Python file by content."""

    name: str
    """The file's name without its ending."""
    source: bytes
    place: str
    """Where it was read, for error messages and tracebacks."""

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes."""
        return hashlib.sha256(self.source).hexdigest()


def read(path: Path) -> CodeFile:
    """A file as data.

    Raises:
        UsageError: it is not there.
    """
    if not path.is_file():
        raise UsageError(f"not a file: {path}. Create one with `retainbench new method NAME`")
    return CodeFile(path.stem, path.read_bytes(), str(path))


@cache
def module(file: CodeFile) -> ModuleType:
    """Run the file as a module, once per process and content.

    Raises:
        UsageError: it cannot be imported; the message has the error and the line.
    """
    name = f"retainbench_own_{file.digest[:16]}"
    found = ModuleType(name)
    found.__file__ = file.place
    sys.modules[name] = found  # pydantic looks annotations up there
    try:
        exec(compile(file.source, file.place, "exec"), found.__dict__)  # noqa: S102 - user's own
    except Exception as error:
        del sys.modules[name]
        line = getattr(error, "lineno", None) or _line(error, file.place)
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise UsageError(f"{file.place}:{line}: cannot be imported: {what}") from error
    return found


def _line(error: BaseException, place: str) -> int:
    """The line of the file at which an error came up; 1 where it was elsewhere."""
    trace, line = error.__traceback__, 1
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == place:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
