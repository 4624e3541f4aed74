"""The frozen tasks: which there are, their items, splits and rewards. Torch-free, no lm_eval.

Reads tasks/<axis>/<name>/ and the packs in use (`--pack`); writes nothing but what `write_lock` is
asked to. A task is there because its folder is: `<name>.yaml`, items.jsonl, task.lock, README.md,
build.py; targets add train.jsonl, validation.jsonl and reward.py.

`retainbench tasks` lists them; `python -m retainbench.harness.tasks.catalogue NAME...` freezes them
again after a deliberate change (raise the version in the YAML, say why in the task's README).
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from retainbench.harness.core import paths
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.names import nearest
from retainbench.harness.tasks import pack as tasks_pack
from retainbench.harness.tasks.folder import SPLITS, Kind, TaskInfo, folders_of, prompt, read_task
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

__all__ = [
    "LOCK",
    "Kind",
    "Lock",
    "LockedItem",
    "TaskInfo",
    "discover",
    "find",
    "items",
    "lock",
    "lock_digest",
    "own",
    "packed",
    "prompts",
    "reward",
    "split",
    "use_packs",
    "verify_lock",
    "write_lock",
]


def discover() -> dict[str, TaskInfo]:
    """Every task by short name (the folder's): the package's own, then those of the packs in use.

    Raises:
        IntegrityError: a folder cannot be read, or two tasks share a name.
    """
    found = dict(own())
    for info in packed().values():
        if info.name in found:
            raise IntegrityError(f"{info.folder}: a task named {info.name} exists already")
        found[info.name] = info
    return found


@cache
def own() -> Mapping[str, TaskInfo]:
    """The package's own tasks by short name."""
    folders = [folder for axis in sorted(paths.TASKS.iterdir()) for folder in folders_of(axis)]
    return MappingProxyType({info.name: info for info in map(read_task, folders)})


def packed() -> dict[str, TaskInfo]:
    """The tasks of the packs in use (`tasks_pack.in_use`) by short name, each safe to read."""
    found: dict[str, TaskInfo] = {}
    for info in (info for pack in tasks_pack.in_use() for info in tasks_pack.read(pack)):
        if found.setdefault(info.name, info).folder != info.folder:
            raise IntegrityError(f"{info.folder}: a task named {info.name} exists already")
    return found


def use_packs(folders: Sequence[Path]) -> None:
    """Add packs to the tasks of this process and of those that it starts, each lock verified.

    Raises:
        UsageError: a folder is not there or holds no task.
        IntegrityError: one holds what a pack may not hold, or differs from its lock.
    """
    for folder in folders:
        if os.pathsep in str(folder) or not folder.is_dir():
            raise UsageError(f"--pack {folder}: is no folder; make one with `retainbench freeze`")
    os.environ[tasks_pack.VARIABLE] = os.pathsep.join(str(folder.resolve()) for folder in folders)
    for info in packed().values():
        verify_lock(info)
    discover()


def find(names: Iterable[str]) -> list[TaskInfo]:
    """The named tasks, in that order; `rb_capitals` and `capitals` are the same.

    Raises:
        UsageError: one is not there; the message has the nearest name.
    """
    known = discover()
    by_any = {info.lm_eval_name: info for info in known.values()} | known
    for name in names:
        if name not in by_any:
            raise UsageError(
                f"unknown task {name!r}{nearest(name, by_any)} Known: {', '.join(sorted(known))}"
            )
    return [by_any[name] for name in names]


def items(info: TaskInfo) -> list[dict[str, Any]]:
    """The frozen items (a target's test split), checked for form."""
    return read_rows(info.folder / "items.jsonl")


def prompts(info: TaskInfo) -> list[str]:
    """The prompt of every item, as lm-eval sends it."""
    return [prompt(info, item) for item in items(info)]


def split(info: TaskInfo, name: str) -> list[dict[str, Any]]:
    """A target's `train` or `validation` items.

    Raises:
        UsageError: the task is no target, or has no such split.
    """
    if info.kind != "target" or name not in SPLITS:
        raise UsageError(f"{info.name} has no split {name}; targets have {' and '.join(SPLITS)}")
    return read_rows(info.folder / f"{name}.jsonl")


def reward(info: TaskInfo) -> ModuleType:
    """The target's reward module: `reward(response, item)` in [0, 1] and `valid(response, item)`.

    Raises:
        UsageError: the task is no target.
        IntegrityError: reward.py lacks one of the two.
    """
    path = info.folder / "reward.py"
    if info.kind != "target":
        raise UsageError(f"{info.name} is a retention task and has no reward")
    spec = importlib.util.spec_from_file_location(f"retainbench_reward_{info.name}", path)
    if spec is None or spec.loader is None:
        raise IntegrityError(f"{path}: cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not (hasattr(module, "reward") and hasattr(module, "valid")):
        raise IntegrityError(f"{path}: must define reward and valid")
    return module


if __name__ == "__main__":
    for task in find(sys.argv[1:] or discover()):
        sys.stdout.write(f"{write_lock(task)}\n")
