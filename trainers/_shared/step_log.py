"""`steps.jsonl`: one line per update, cut back when an interrupted stage continues.

A resume state remembers the log up to its step as a `Mark`; a log that was damaged later does not
match it, and the state is not used.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from retainbench.harness.core.files.storage import canonical


def steps(path: Path) -> list[dict[str, Any]]:
    """The lines of a finished log."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Mark(NamedTuple):
    """A log up to one of its lines."""

    size: int
    """Bytes."""
    sha256: str


class StepLog:
    """The step log of one cell; each of its stages appends to it."""

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        """Args:
        writes: False in a process that only follows the one that writes.
        """
        self._path = path
        self._writes = writes
        self._size = 0
        self._hash = hashlib.sha256()

    def append(self, line: Mapping[str, Any]) -> None:
        """Add a line."""
        if not self._writes:
            return
        data = (canonical(line) + "\n").encode()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.write(data)
        self._size += len(data)
        self._hash.update(data)

    def mark(self) -> Mark:
        """The log as this process knows it."""
        return Mark(self._size, self._hash.hexdigest())

    def resume(self, mark: Mark, *, cut: bool) -> bool:
        """Continue after a mark; False where the file differs from what the mark recorded.

        Args:
            cut: remove the lines after the mark; False where they are those of later stages.
        """
        kept = self._read()[: mark.size]
        if Mark(len(kept), hashlib.sha256(kept).hexdigest()) != mark:
            return False
        self._keep(kept, cut=cut)
        return True

    def restart(self, lines: int) -> None:
        """Keep the first lines, those of the earlier stages, and remove the others."""
        self._keep(b"".join(self._read().splitlines(keepends=True)[:lines]), cut=True)

    def _read(self) -> bytes:
        return self._path.read_bytes() if self._path.exists() else b""

    def _keep(self, kept: bytes, *, cut: bool) -> None:
        self._size, self._hash = len(kept), hashlib.sha256(kept)
        if cut and self._writes and self._path.exists():
            with self._path.open("rb+") as file:
                file.truncate(len(kept))
                os.fsync(file.fileno())
