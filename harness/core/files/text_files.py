"""A user's file of texts, read once: its content travels to worker processes as data."""

from __future__ import annotations

import hashlib
from typing import NamedTuple


class TextFile(NamedTuple):
    """A file of general text by content."""

    name: str
    """The file's name without its ending."""
    texts: tuple[str, ...]
    place: str
    """Where it was read, for error messages."""

    @property
    def digest(self) -> str:
        """SHA-256 of the texts, each ended by a byte that no text holds."""
        hashed = hashlib.sha256()
        for text in self.texts:
            hashed.update(text.encode() + b"\xff")
        return hashed.hexdigest()
