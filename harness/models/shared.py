"""One copy of a model per process: a run loads its base once, however many cells start from it.

The copy is kept in main memory, whatever the device, so that it takes none of a card's memory while
a cell trains.
"""

from __future__ import annotations

import copy
from functools import lru_cache
from pathlib import Path

from retainbench.harness.models import loading
from retainbench.harness.models.loading import Loaded

Signature = tuple[tuple[str, int, int], ...]
"""Name, size and time of change of each file in a folder."""


def resident(folder: Path, device: str = "cpu") -> Loaded:
    """A model to read only: the process's own copy on the CPU, elsewhere one for the caller."""
    loaded = _resident(folder.resolve(), _signature(folder))
    return loaded if device == "cpu" else _copied(loaded, device)


def fresh(folder: Path, device: str = "cpu") -> Loaded:
    """A model that the caller may change."""
    return _copied(_resident(folder.resolve(), _signature(folder)), device)


@lru_cache(maxsize=1)
def _resident(folder: Path, _: Signature) -> Loaded:
    return loading.load(folder)


def _copied(loaded: Loaded, device: str) -> Loaded:
    return Loaded(copy.deepcopy(loaded.model).to(device), copy.deepcopy(loaded.tokenizer))


def _signature(folder: Path) -> Signature:
    files = ((path.name, path.stat()) for path in sorted(folder.iterdir()))
    return tuple((name, found.st_size, found.st_mtime_ns) for name, found in files)
