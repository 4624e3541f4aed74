"""A model folder that was checked: what it holds, under which digest, and on which base.

`check` reads every header, config and tokenizer file once and hashes what is loaded; it loads no
model and imports no torch, so that a damaged or hostile folder is refused in seconds. The result is
kept for the process, by the names, sizes and times of the files, and handed down to loading, drift,
scoring and certificates.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from retainbench.harness.core import paths
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.files.foreign_json import read_object, regular_file
from retainbench.harness.core.files.storage import digest
from retainbench.harness.models.checks import adapter_config, config_check, weights
from retainbench.harness.models.checks.weights import Weights
from retainbench.harness.models.identity import folder_digest

Signature = tuple[tuple[str, int, int, int], ...]
"""Name, number, size and time of change of each file in a folder."""


class Base(NamedTuple):
    """A checked model folder: full weights, or an adapter with the base it is loaded on."""

    name: str
    folder: Path
    digest: str
    """Of all that decides its answers: `identity.folder_digest` of the folder (weights, config and
    tokenizer, by file name), with that of the base for an adapter on its base."""
    weights: Weights
    config: dict[str, Any]
    """config.json; of an adapter, adapter_config.json."""
    parent: Base | None = None
    """What an adapter is loaded on; None for full weights."""
    notes: tuple[str, ...] = ()
    """Remarks for the user, a sentence each."""
    source: Path | None = None
    """The GGUF file that `folder` was dequantised from; `digest` is then the file's SHA-256."""

    borrowed: Path | None = None
    """The folder whose tokenizer a GGUF file is read with: its base's."""

    @property
    def shipped(self) -> Path:
        """What the user gave: the folder, or the GGUF file."""
        return self.source or self.folder

    @property
    def model(self) -> Base:
        """The folder with full weights: this one, or the adapter's base."""
        return self.parent or self

    @property
    def reader(self) -> Path:
        """The folder whose tokenizer is used: an adapter's own if it has one."""
        if self.borrowed is not None:
            return self.borrowed
        own = any((self.folder / name).is_file() for name in config_check.TOKENIZERS)
        return self.folder if own else self.model.folder

    @property
    def window(self) -> int | None:
        """Longest prompt in tokens; None if the config names no limit."""
        return config_check.window(self.model.config)


def check(folder: Path, name: str | None = None) -> Base:
    """Check a folder with full weights or an adapter; an adapter's `parent` is still None.

    Raises:
        IntegrityError: the folder cannot be loaded safely; the message names the file.
    """
    if not folder.is_dir():
        raise IntegrityError(f"{folder}: not a model folder")
    return _check(folder, signature(folder))._replace(name=name or folder.resolve().name)


def on_parent(adapter: Base, parent: Base, notes: tuple[str, ...] = ()) -> Base:
    """An adapter with the base that it is loaded on.

    Raises:
        IntegrityError: the base is an adapter itself, or the adapter's config does not fit it.
    """
    if parent.weights.kind == "adapter":
        raise IntegrityError(
            f"{adapter.folder}: its base {parent.folder} is an adapter; merge that one first"
        )
    adapter_config.require_fit(adapter.folder, adapter.config, parent.config, parent.weights)
    whole = digest([adapter.digest, parent.digest])
    return adapter._replace(digest=whole, parent=parent, notes=(*adapter.notes, *notes))


def signature(folder: Path) -> Signature:
    """Changes whenever a file of the folder is written, replaced, added or removed."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise IntegrityError(f"{folder}: cannot be listed ({error.strerror})") from error
    found = []
    for path in entries:
        if not path.is_dir():
            regular_file(path)
        link, status = path.lstat(), path.stat()
        found.append((path.name, link.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)


@lru_cache(maxsize=256)
def _check(folder: Path, _: Signature) -> Base:
    """`check`, once per state of the folder."""
    found = weights.read(folder)
    if found.kind == "adapter":
        config = read_object(folder / weights.ADAPTER_CONFIG)
        adapter_config.check(folder, config, found)
    else:
        config = config_check.read_config(folder, found)
    config_check.check_tokenizer(folder, required=found.kind == "full")
    notes = found.notes if folder.resolve().parent != paths.BASES else ()
    return Base(folder.name, folder, folder_digest(folder), found, config, notes=notes)
