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
from retainbench.harness.models.placement import ON_CPU, Placement


def resident(folder: Path, placement: Placement = ON_CPU) -> Loaded:
    """A model to read only: the process's own copy in float32 on the CPU, else one for the caller.

    Another precision is loaded from the files, as `certify` does: casting a loaded model would
    round the frequencies of its positions too.
    """
    if placement.dtype != ON_CPU.dtype:
        return loading.load(folder, **placement._asdict())
    loaded = _resident(folder.resolve(), signature(folder))
    return loaded if placement == ON_CPU else _copied(loaded, placement.device)


def fresh(folder: Path, device: str = "cpu") -> Loaded:
    """A model that the caller may change."""
    return _copied(_resident(folder.resolve(), signature(folder)), device)


def candidate(checked: Base, placement: Placement) -> Loaded:
    """A checkpoint in evaluation mode; an adapter is merged into a copy of its base."""
    parent = None
    if checked.parent is not None and placement.dtype == ON_CPU.dtype:
        parent = fresh(checked.parent.folder).model
    return loading.load(checked, **placement._asdict(), parent=parent)


@lru_cache(maxsize=1)
def _resident(folder: Path, _: Signature) -> Loaded:
    return loading.load(folder)


def _copied(loaded: Loaded, device: str) -> Loaded:
    return Loaded(copy.deepcopy(loaded.model).to(device), copy.deepcopy(loaded.tokenizer))
