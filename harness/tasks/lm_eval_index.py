"""lm-eval's tasks by name, with the revision of their dataset pinned.

Loading a task runs lm-eval's code for it and downloads its dataset from the hub. A revision is an
argument of `datasets.load_dataset`, or a part of the `hf://` address of a task that names files.
lm-eval's own index takes some 17 s to build, so one `Index` serves all tasks of a command.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from retainbench.harness.core.errors import UsageError
from retainbench.harness.tasks import lm_eval_patches
from retainbench.harness.tasks.folder import read_config

COMMIT = re.compile(r"[0-9a-f]{40}")
ADDRESS = re.compile(r"hf://datasets/([^/@\s]+/[^/@\s]+)/")
NOT_ON_THE_HUB = ("json", "csv", "parquet", "text", "arrow")
"""Loaders of `datasets` whose files a task names itself."""


class Index:
    """The tasks that lm-eval knows: its own, or those below one folder."""

    def __init__(self, include: Path | None = None) -> None:
        from lm_eval.tasks import TaskManager

        paths = str(include) if include else None
        self.manager = TaskManager(include_path=paths, include_defaults=include is None)

    def load(self, name: str, revision: str | None = None) -> dict[str, Any]:
        """A task, or all tasks of a group or tag, by their names.

        Args:
            revision: commit of the dataset that they share.

        Raises:
            UsageError: lm-eval knows no such task, or cannot load it.
        """
        self._require(name)
        changes = {"dataset_kwargs": _pinned(self._config(name), revision)} if revision else None
        try:
            return lm_eval_patches.build(self.manager, name, changes)
        except Exception as error:  # no network, no such revision, a package that is missing, ...
            raise UsageError(f"{name}: lm-eval cannot load it: {_one_line(error)}") from error

    def dataset(self, name: str) -> str | None:
        """The hub's repository that a task (the first of a group) reads; None: no such place."""
        self._require(name)
        config = self._config(name)
        path = str(config.get("dataset_path"))
        if path in NOT_ON_THE_HUB:
            address = ADDRESS.search(json.dumps(config.get("dataset_kwargs") or {}))
            return address.group(1) if address else None
        return None if "custom_dataset" in config or Path(path).exists() else path

    def _require(self, name: str) -> None:
        if name not in self.manager.all_tasks:
            raise UsageError(f"lm-eval knows no task {name!r}; see `lm_eval ls tasks`")

    def _config(self, name: str) -> dict[str, Any]:
        """YAML of a task, or of the first task of a group or tag, with what it includes."""
        entry = self.manager.task_index[name]
        if entry.kind.name == "TAG":
            return self._config(min(entry.tags))
        if entry.kind.name == "GROUP":
            first = (entry.cfg or {})["task"][0]
            return self._config(first if isinstance(first, str) else first["task"])
        return read_config(Path(str(entry.yaml_path)))[0]


def load(names: Sequence[str], include: Path | None = None) -> Iterator[tuple[str, Any]]:
    """The named tasks at the newest revision; a group or tag means all tasks in it.

    Raises:
        UsageError: lm-eval knows no such task, or cannot load it.
    """
    index = Index(include)
    for name in names:
        yield from index.load(name).items()


class Card(NamedTuple):
    """What the hub says of a dataset at some revision."""

    commit: str
    licence: str | None


def card(dataset: str, revision: str) -> Card:
    """The commit that a revision is now, and the licence that the dataset's card states there.

    Raises:
        UsageError: the hub cannot be asked, or has no such dataset or revision.
    """
    from huggingface_hub import HfApi

    try:
        found = HfApi().dataset_info(dataset, revision=revision)
    except Exception as error:  # the hub's client raises what its HTTP library does
        raise UsageError(f"{dataset}: the hub cannot be asked: {_one_line(error)}") from error
    if found.sha is None or not COMMIT.fullmatch(found.sha):
        raise UsageError(f"{dataset}: the hub names no commit of {revision}, but {found.sha!r}")
    if COMMIT.fullmatch(revision) and found.sha != revision:
        raise UsageError(f"{dataset}: the hub answers with {found.sha} for {revision}")
    stated: Any = found.card_data.get("license") if found.card_data else None
    licence = ", ".join(map(str, stated)) if isinstance(stated, list) else stated
    return Card(found.sha, licence or None)


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _pinned(config: dict[str, Any], revision: str) -> dict[str, Any]:
    """A task's `dataset_kwargs` with the revision in them.

    >>> _pinned({"dataset_path": "o/n", "dataset_kwargs": {"split": "test"}}, "abc")
    {'split': 'test', 'revision': 'abc'}
    >>> named = {"data_files": "hf://datasets/o/n/x"}
    >>> _pinned({"dataset_path": "json", "dataset_kwargs": named}, "abc")
    {'data_files': 'hf://datasets/o/n@abc/x'}
    """
    given = dict(config.get("dataset_kwargs") or {})
    if config.get("dataset_path") not in NOT_ON_THE_HUB:
        return given | {"revision": revision}
    text = ADDRESS.sub(rf"hf://datasets/\1@{revision}/", json.dumps(given))
    found: dict[str, Any] = json.loads(text)
    return found
