"""The frozen tasks: which there are, their items, splits and rewards. Torch-free, no lm_eval.

Reads tasks/<axis>/<name>/ and the packs that a command names (`--pack`); writes only locks, in
`write_lock`. A task exists because its folder does: `<name>.yaml`, items.jsonl,
task.lock, README.md, build.py; targets add train.jsonl, validation.jsonl and reward.py.

`retainbench tasks` lists them; `python -m retainbench.harness.tasks.catalogue NAME...` freezes them
again after a deliberate change (raise the version in the YAML, explain why in the task's README).
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple

from retainbench.harness.core import origins, paths
from retainbench.harness.core.errors import IntegrityError, RetainbenchError, UsageError
from retainbench.harness.core.files.code_files import CodeFile
from retainbench.harness.core.files.storage import digest
from retainbench.harness.core.files.text_files import TextFile
from retainbench.harness.core.names import nearest
from retainbench.harness.core.schema import Sampling
from retainbench.harness.tasks import pack
from retainbench.harness.tasks.folder import SPLITS, Kind, TaskInfo, folders_of, read_task
from retainbench.harness.tasks.items import read_rows
from retainbench.harness.tasks.lock import (
    LOCK,
    Lock,
    LockedItem,
    lock,
    lock_digest,
    verify_lock,
    write_lock,
)
from retainbench.harness.tasks.rendering.chat import Rendering

__all__ = [
    "LOCK",
    "OWN",
    "Catalogue",
    "Kind",
    "Lock",
    "LockedItem",
    "TaskInfo",
    "items",
    "lock",
    "lock_digest",
    "own",
    "prompt_digests",
    "prompts",
    "reward",
    "split",
    "verify_lock",
    "write_lock",
]


@dataclass(frozen=True)
class Catalogue:
    """What one command may use: installed tasks, those of folders that it names, own methods.

    Made once, by the command, and passed on; worker processes and Ray nodes get it as data.
    `Catalogue()` has the installed tasks alone.
    """

    added: tuple[TaskInfo, ...] = ()
    """Tasks of other folders, in the order in which the user named the folders."""
    allow_code: bool = False
    """Whether code of others may run: a pack's reward.py, lm-eval's code that a pack names."""
    methods: tuple[CodeFile, ...] = ()
    """The user's own methods, which her suite names by path."""
    sampling: Sampling | None = None
    """How the suite has targets answered; None is greedy, once."""
    texts: tuple[TextFile, ...] = ()
    """General text for replay and anchors, which her suite names by path."""
    teachers: tuple[Path, ...] = ()
    """Models that her suite names by path as teachers; the last part of a path is its name."""

    @classmethod
    def of(cls, packs: Sequence[Path] = (), *, allow_code: bool = False) -> Catalogue:
        """The package's tasks and those of packs, each pack checked against its lock.

        Raises:
            UsageError: a pack does not exist or holds no task.
            IntegrityError: a pack has a file that no pack may have or differs from its lock, or
                two tasks share a name.
        """
        for folder in packs:
            if not folder.is_dir():
                raise UsageError(
                    f"--pack {folder}: not a folder. Create a pack with `retainbench freeze`"
                )
        return cls((), allow_code).adding(
            info for folder in packs for info in pack.read(folder, code=allow_code)
        )

    def adding(self, infos: Iterable[TaskInfo]) -> Catalogue:
        """This catalogue and further tasks, which may be in any folder.

        Raises:
            IntegrityError: a task differs from its lock, or two tasks share a name.
        """
        known = {info.name: info.folder for info in self.tasks.values()}
        added: dict[str, TaskInfo] = {}
        for info in infos:
            if known.setdefault(info.name, info.folder) != info.folder:
                raise IntegrityError(f"{info.folder}: a task named {info.name} exists already")
            added[info.name] = info
        for info in added.values():
            verify_lock(info)
        return replace(self, added=tuple({**self.packed, **added}.values()))

    @property
    def packed(self) -> dict[str, TaskInfo]:
        """The added tasks by short name."""
        return {info.name: info for info in self.added}

    @property
    def tasks(self) -> dict[str, TaskInfo]:
        """Every task by short name (the folder's): the installed ones, then the added ones."""
        known = {**installed().tasks, **self.packed}
        if self.sampling is None:
            return known
        return {
            name: replace(info, sampling=self.sampling) if info.kind == "target" else info
            for name, info in known.items()
        }

    def origin(self, name: str) -> str:
        """Where a task comes from: a distribution, or `pack` for a folder that the user named."""
        if name in self.packed:
            return "pack"
        folder = self.tasks[name].folder
        homes = (c for c in origins.contents().folders if folder.is_relative_to(c.folder))
        return next(homes).distribution

    def find(self, names: Iterable[str]) -> list[TaskInfo]:
        """The named tasks, each once, in that order; `rb_capitals` and `capitals` are the same.

        Raises:
            UsageError: a task is unknown; the message suggests the nearest name.
        """
        known = self.tasks
        by_any = {info.lm_eval_name: info for info in known.values()} | known
        found: dict[str, TaskInfo] = {}
        for name in names:
            if name not in by_any:
                listed = ", ".join(sorted(known))
                raise UsageError(f"unknown task {name!r}{nearest(name, by_any)} Known: {listed}")
            found[by_any[name].name] = by_any[name]
        return list(found.values())

    def locks(self, names: Iterable[str]) -> dict[str, Lock]:
        """The named tasks' locks by short name, each compared with the task's files.

        Raises:
            UsageError: a task is unknown.
            IntegrityError: a task differs from its lock.
        """
        infos = self.find(list(names))
        for info in infos:
            verify_lock(info)
        return {info.name: lock(info) for info in infos}


OWN = Catalogue()
"""The package's own tasks and no code of others."""


@cache
def own() -> Mapping[str, TaskInfo]:
    """The package's own tasks by short name.

    Raises:
        IntegrityError: a folder cannot be read.
    """
    folders = [folder for axis in sorted(paths.TASKS.iterdir()) for folder in folders_of(axis)]
    return MappingProxyType({info.name: info for info in map(read_task, folders)})


class _InstalledTask(NamedTuple):
    name: str
    distribution: str
    info: TaskInfo


class InstalledTasks(NamedTuple):
    """The tasks of all installed distributions."""

    tasks: Mapping[str, TaskInfo]
    broken: tuple[str, ...]
    """One line for each folder of a distribution that cannot be used."""


@cache
def installed() -> InstalledTasks:
    """The package's own tasks and those of other distributions (entry points).

    Raises:
        UsageError: two tasks have the same name.
    """
    found = [_InstalledTask(name, origins.OWN, info) for name, info in own().items()]
    broken = list(origins.contents().broken)
    for content in origins.contents().folders[1:]:
        for folder in _task_folders(content.folder):
            try:
                infos = pack.read(folder, code=True, installed=True)
            except RetainbenchError as error:
                broken.append(f"{content.distribution}: {error}")
                continue
            found += [_InstalledTask(info.name, content.distribution, info) for info in infos]
    named = origins.unique(found, "task")
    tasks = {name: one.info for name, one in named.items()}
    return InstalledTasks(MappingProxyType(tasks), tuple(broken))


def _task_folders(content: Path) -> list[Path]:
    """Folders of tasks in tasks/<axis>/, tasks/ and targets/ of a distribution's content."""
    tops = [content / name for name in ("tasks", "targets") if (content / name).is_dir()]
    return [
        folder for top in tops for child in sorted(top.iterdir()) for folder in folders_of(child)
    ]


def items(info: TaskInfo) -> list[dict[str, Any]]:
    """The frozen items (a target's test split), checked for form."""
    return read_rows(info.folder / "items.jsonl")


def prompts(info: TaskInfo) -> list[str]:
    """The prompt of every item, as lm-eval sends it."""
    return [info.prompt(item) for item in items(info)]


def prompt_digests(infos: Iterable[TaskInfo], rendering: Rendering) -> dict[str, str]:
    """SHA-256 over ids and prompts of each task's items as a model is asked them."""
    digests = {}
    for info in infos:
        rows, sent = items(info), prompts(info)
        if info.kind != "perplexity":
            asked = [rendering.ask(text, row) for text, row in zip(sent, rows, strict=True)]
            sent = rendering.prompts(info.template, asked)
        digests[info.name] = digest([[r["id"], text] for r, text in zip(rows, sent, strict=True)])
    return digests


def texts(infos: Iterable[TaskInfo]) -> list[str]:
    """All prompts and choices of tasks, as a model without a chat template gets them."""
    return [
        text
        for info in infos
        for prompt, row in zip(prompts(info), items(info), strict=True)
        for text in (prompt, *(info.template.delimiter + c for c in row.get("choices", ())))
    ]


def split(info: TaskInfo, name: str) -> list[dict[str, Any]]:
    """A target's `train` or `validation` items.

    Raises:
        UsageError: the task is not a target, or has no such split.
    """
    if info.kind != "target" or name not in SPLITS:
        raise UsageError(f"{info.name} has no split {name}; targets have {' and '.join(SPLITS)}")
    return read_rows(info.folder / f"{name}.jsonl")


def reward(info: TaskInfo) -> ModuleType:
    """A target's reward module: `reward(response, item)` in [0, 1] and `valid(response, item)`.

    Raises:
        UsageError: answers to the task are not judged by a reward.
        IntegrityError: reward.py lacks one of the two.
    """
    if not info.has_reward:
        raise UsageError(f"{info.name} is a retention task and has no reward")
    if pack.is_packed(info):
        return pack.companion(info.folder, "_reward")
    path = info.folder / "reward.py"
    spec = importlib.util.spec_from_file_location(f"retainbench_reward_{info.name}", path)
    if spec is None or spec.loader is None:
        raise IntegrityError(f"{path}: cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not (hasattr(module, "reward") and hasattr(module, "valid")):
        raise IntegrityError(f"{path}: must define reward and valid")
    return module


if __name__ == "__main__":
    for task in Catalogue().find(sys.argv[1:] or own()):
        sys.stdout.write(f"{write_lock(task)}\n")
