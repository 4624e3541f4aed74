"""`SUITE.lock`: at which revision the tasks of a suite were frozen, and the digests of the packs.

It is next to the packs that `retainbench freeze --suite` makes. It holds no items: kept under
version control, it makes every machine freeze the same packs or fail. A suite that names `sources`
is loaded only with packs that its lock describes, at the revisions that the suite pins. Torch-free.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.files.storage import read_json, sha256_file
from retainbench.harness.core.records import SCHEMA_VERSION, Record
from retainbench.harness.tasks.catalogue import Catalogue, TaskInfo


class LockedSource(Record):
    """One task as it was frozen."""

    task: str
    """lm-eval's name: a task, or a group whose tasks are one pack."""
    dataset: str | None
    """Repository on the hub; None: the task has its data from elsewhere."""
    revision: str | None
    """Commit of the dataset."""
    lm_eval: str
    """Version that rendered the prompts; another one may freeze the same."""
    files: dict[str, str]
    """SHA-256 of the pack's YAML and of its items."""


class SuiteLock(Record):
    """The file."""

    schema_version: int = SCHEMA_VERSION
    suite: str
    tasks: dict[str, LockedSource] = {}


def place(packs: Path, suite: str) -> Path:
    """Path of a suite's lock in the folder of its packs."""
    return packs / f"{suite}.lock"


def read(packs: Path, suite: str) -> SuiteLock:
    """The lock, empty before the first freeze.

    Raises:
        IntegrityError: it is another suite's, or cannot be read.
    """
    path = place(packs, suite)
    if not path.is_file():
        return SuiteLock(suite=suite)
    found = read_json(path, SuiteLock)
    if found.suite != suite:
        raise IntegrityError(f"{path}: is the lock of {found.suite}")
    return found


def digests(info: TaskInfo) -> dict[str, str]:
    """SHA-256 of what a pack asks and how it is scored."""
    names = (f"{info.folder.name}.yaml", "items.jsonl")
    return {name: sha256_file(info.folder / name) for name in names}


def is_commit(revision: str) -> bool:
    """Whether a revision is a commit, which never changes."""
    return re.fullmatch(r"[0-9a-f]{40}", revision) is not None


def require_pinned(name: str, wanted: str, locked: LockedSource, where: Path) -> None:
    """Raise `IntegrityError` if the lock has another commit than the suite pins."""
    if locked.dataset is not None and is_commit(wanted) and wanted != locked.revision:
        raise IntegrityError(
            f"{where}: {name} is locked at revision {locked.revision} of {locked.dataset}, but "
            f"the suite pins {wanted}; remove the entry and freeze it again"
        )


def verify(suite: str, reference: str, revisions: Mapping[str, str], tasks: Catalogue) -> None:
    """Hold the packs in use against the lock of a suite.

    Args:
        reference: the suite's name or file, as the user wrote it.
        revisions: task -> what the suite says of its dataset's revision.

    Raises:
        UsageError: a pack is not in use, or was not frozen for this suite.
        IntegrityError: a pack is not what the lock says, or not at the suite's revision.
    """
    packed = tasks.packed
    if missing := [name for name in revisions if name not in packed]:
        listed = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise UsageError(
            f"suite {suite} asks for {len(missing)} tasks that are frozen once, with internet "
            f"({listed}): run `retainbench freeze --suite {reference} --out packs/{suite}`, then "
            f"add `--pack packs/{suite}`"
        )
    locks: dict[Path, SuiteLock] = {}
    for name, wanted in revisions.items():
        packs = packed[name].folder.parent
        lock = locks.setdefault(packs, read(packs, suite))
        where = place(packs, suite)
        if name not in lock.tasks:
            raise UsageError(
                f"{packed[name].folder}: is not in {where.name}; freeze it with `retainbench "
                f"freeze --suite {reference} --out {packs}`"
            )
        require_pinned(name, wanted, lock.tasks[name], where)
        for file, digest in digests(packed[name]).items():
            if digest != lock.tasks[name].files.get(file):
                raise IntegrityError(f"{packed[name].folder / file}: differs from {where}")
