"""The models that a caller may give: a reference as on the command line, or loaded objects."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from retainbench.harness.core.errors import UsageError
from retainbench.harness.models.placement import ON_CPU, Placement

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from retainbench.harness.models.checked import Base
    from retainbench.harness.models.loading import Loaded

    Model: TypeAlias = str | Path | tuple[PreTrainedModel, PreTrainedTokenizerBase]
    """A named base, a folder, an adapter or a hub id; or (model, tokenizer) of transformers."""


def loaded(model: Model, *, base: Model | None = None, placement: Placement = ON_CPU) -> Loaded:
    """The model in memory; a loaded one stays where it is, with its dtype and modes.

    Args:
        base: of an adapter; default: the one that it names.

    Raises:
        UsageError: the reference is unknown, or a loaded model is to be put elsewhere.
        IntegrityError: the folder cannot be loaded safely.
    """
    from retainbench.harness.models import loading

    if isinstance(model, tuple):
        if base is not None or placement != ON_CPU:
            raise UsageError(
                "a loaded model keeps its base, device and dtype. Leave out base, device, dtype "
                "and device_map, or name a folder"
            )
        return loading.Loaded(*_pair(model))
    return loading.load(checked(model, base), **placement._asdict())


def checked(model: Model, base: Model | None = None) -> Base:
    """The checked folder of a model that is named, not loaded.

    Raises:
        UsageError: it is loaded, or unknown.
    """
    from retainbench.harness.models import bases

    if isinstance(model, tuple):
        raise UsageError("other engines and workers need a model that is named, not a loaded one")
    if isinstance(base, tuple):
        raise UsageError("base: an adapter's base is a name or a folder, not a loaded model")
    parent = bases.resolve(str(base)) if base is not None else None
    return bases.resolve(str(model), parent)


@contextmanager
def stored(model: Model, name: str) -> Iterator[str]:
    """A reference to the model; a loaded one is saved to a temporary folder of that name."""
    if not isinstance(model, tuple):
        yield str(model)
        return
    with tempfile.TemporaryDirectory(prefix="retainbench-") as place:
        folder = Path(place) / name
        for part in _pair(model):
            part.save_pretrained(folder)
        yield str(folder)


def _pair(
    model: tuple[PreTrainedModel, PreTrainedTokenizerBase],
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    if len(model) != 2 or not all(hasattr(part, "save_pretrained") for part in model):
        raise UsageError("a loaded model is given as (model, tokenizer), objects of transformers")
    return model
