"""One copy of a model per process: a run loads its base once, however many cells start from it.

The copy is kept in main memory, whatever the device, so that it takes none of a card's memory while
a cell trains.
"""

from __future__ import annotations

import copy
from functools import lru_cache
from pathlib import Path

from retainbench.harness.models import loading
from retainbench.harness.models.checked import Base, Signature, signature
from retainbench.harness.models.loading import Loaded


def resident(folder: Path, device: str = "cpu") -> Loaded:
    """A model to read only: the process's own copy on the CPU, elsewhere one for the caller."""
    loaded = _resident(folder.resolve(), signature(folder))
    return loaded if device == "cpu" else _copied(loaded, device)


def fresh(folder: Path, device: str = "cpu") -> Loaded:
    """A model that the caller may change."""
    return _copied(_resident(folder.resolve(), signature(folder)), device)


def candidate(checked: Base, device: str) -> Loaded:
    """A checkpoint in evaluation mode; an adapter is merged into a copy of its base."""
    if checked.parent is None:
        return loading.load(checked, device=device)
    return loading.load(checked, device=device, parent=fresh(checked.parent.folder).model)


@lru_cache(maxsize=1)
def _resident(folder: Path, _: Signature) -> Loaded:
    return loading.load(folder)


def _copied(loaded: Loaded, device: str) -> Loaded:
    return Loaded(copy.deepcopy(loaded.model).to(device), copy.deepcopy(loaded.tokenizer))
