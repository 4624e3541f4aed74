"""Freezing: `task.lock` pins every item and every file that a score depends on. Torch-free.

Reads a task folder; `write_lock` writes its task.lock. The three hashes per item are those of
lm-eval 0.4.13's sample rows (`lm_eval/evaluator.py`: sha256 of the document as indented JSON, of
the prompt, of the target as text), so a lock can be compared with any lm-eval log.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.files.storage import read_json, sha256_file, write_json
from retainbench.harness.core.records import (
    ItemRecord,
    Record,
    Share,
)
from retainbench.harness.tasks.folder import SPLITS, TaskInfo
from retainbench.harness.tasks.items import read_rows

LOCK = "task.lock"


class LockedItem(Record):
    """One item as it was frozen."""

    id: str
    cluster: str
    chance: Share
    doc_hash: str
    prompt_hash: str
    target_hash: str


class Lock(Record):
    """`task.lock`."""

    schema_version: int = 1
    task: str
    lm_eval_name: str
    version: str
    shots: int
    chat_template: bool = False
    """Locked prompts are plain text; a chat template would change every one of them."""
    max_new_tokens: int
    files: dict[str, str]
    """Path relative to the task's folder -> sha256 of its bytes."""
    items: list[LockedItem]
    """In the order of items.jsonl."""


def sha256(data: bytes) -> str:
    """Hexadecimal digest."""
    return hashlib.sha256(data).hexdigest()


def locked_files(info: TaskInfo) -> dict[str, Path]:
    """Every file that decides what is asked and how it is scored, by relative path."""
    names = [info.folder / "items.jsonl", *info.config_files]
    if info.kind == "target":
        names += [info.folder / f"{split}.jsonl" for split in SPLITS]
        rewards = (info.folder / name for name in ("reward.py", "reward.json"))
        names += [path for path in rewards if path.is_file()]
    relative = {os.path.relpath(name, info.folder): name for name in names}
    return dict(sorted(relative.items()))


def locked_item(info: TaskInfo, row: dict[str, Any]) -> LockedItem:
    """The hashes of one item, equal to lm-eval's.

    Raises:
        IntegrityError: the item lacks a field that the task's kind needs.
    """
    wanted = "choices" if info.kind == "multiple_choice" else "answer"
    if wanted not in row or (info.contexts and not isinstance(row.get("continuation"), str)):
        lacks = "continuation" if wanted in row else wanted
        raise IntegrityError(f"{info.folder / 'items.jsonl'}: item {row['id']}: lacks {lacks}")
    chance = info.chance if info.chance is not None else 1 / len(row["choices"])
    if info.code is not None:
        stated = row.get("chance")
        if not (isinstance(stated, float) and 0 <= stated <= 1 and isinstance(row.get("doc"), str)):
            where = f"{info.folder / 'items.jsonl'}: item {row['id']}"
            raise IntegrityError(f"{where}: lacks doc, or a chance from 0.0 to 1.0")
        chance = stated
    document = json.dumps(row, indent=2, ensure_ascii=False)
    return LockedItem(
        id=row["id"],
        cluster=row["cluster"],
        chance=chance,
        doc_hash=sha256(document.encode()),
        prompt_hash=sha256(info.prompt(row).encode()),
        target_hash=sha256(info.target(row).encode()),
    )


def fresh_lock(info: TaskInfo) -> Lock:
    """The lock that the folder's files would get now."""
    files = {}
    for relative, path in locked_files(info).items():
        if not path.is_file():
            raise IntegrityError(f"{path}: is missing")
        files[relative] = sha256_file(path)
    return Lock(
        task=info.name,
        lm_eval_name=info.lm_eval_name,
        version=info.version,
        shots=info.shots,
        max_new_tokens=info.max_new_tokens,
        files=files,
        items=list(_locked_items(info, files["items.jsonl"])),
    )


@cache
def _locked_items(info: TaskInfo, _items: str) -> tuple[LockedItem, ...]:
    """Hashed once per process and content: the digest of items.jsonl is part of the key."""
    return tuple(locked_item(info, row) for row in read_rows(info.folder / "items.jsonl"))


def write_lock(info: TaskInfo) -> Path:
    """Freeze a task as it is now; returns the path of its task.lock."""
    path = info.folder / LOCK
    write_json(path, fresh_lock(info))
    return path


def lock(info: TaskInfo) -> Lock:
    """The task's lock as it was written.

    Raises:
        IntegrityError: the lock does not exist, or cannot be read.
    """
    path = info.folder / LOCK
    if not path.is_file():
        raise IntegrityError(f"{path}: missing: the task is not frozen. Freeze it first")
    return read_json(path, Lock)


def lock_digest(info: TaskInfo) -> str:
    """sha256 of the lock's bytes: it pins the whole task."""
    lock(info)
    return sha256_file(info.folder / LOCK)


def verify_lock(info: TaskInfo) -> None:
    """Compare the folder with its lock.

    Raises:
        IntegrityError: a file differs, is missing or is new, or an item is malformed; names the
            first one.
    """
    written = lock(info)
    present = locked_files(info)
    for relative in sorted(written.files.keys() | present.keys()):
        path = info.folder / relative
        if relative not in written.files:
            raise IntegrityError(f"{path.resolve()}: is used by {info.name} but not in its lock")
        if relative not in present or not path.is_file():
            raise IntegrityError(f"{path}: is in the lock of {info.name} but missing or unused")
        if sha256_file(path) != written.files[relative]:
            raise IntegrityError(f"{path.resolve()}: differs from the lock of {info.name}")
    if fresh_lock(info) != written:
        raise IntegrityError(f"{info.folder / LOCK}: does not describe the task's own files")


class LockedAnswer(NamedTuple):
    """The fields of a lock's item, named as in `ItemRecord`."""

    task: str
    item_id: str
    doc_hash: str
    prompt_hash: str
    target_hash: str
    repeat: int = 0


def check_locked(
    answers: Sequence[LockedAnswer] | Sequence[ItemRecord],
    locks: Mapping[str, Lock],
    side: str,
    most: int | None = None,
    *,
    partial: bool = False,
) -> None:
    """Compare answers with the items of the locks.

    Args:
        side: how errors name the answers.
        most: first items of each lock that were asked; None means all.
        partial: answers may be missing.

    Raises:
        IntegrityError: an item is missing, unknown or repeated, or has another document, prompt or
            target than its lock says.
    """
    asked = {(name, item.id): item for name, lock in locks.items() for item in lock.items[:most]}
    seen: set[tuple[str, str, int]] = set()
    for one in answers:
        where = f"{side}: task {one.task}: item {one.item_id}"
        item = asked.get((one.task, one.item_id))
        if item is None:
            raise IntegrityError(f"{where} is not in the lock")
        if (one.task, one.item_id, one.repeat) in seen:
            raise IntegrityError(f"{where} was answered twice")
        seen.add((one.task, one.item_id, one.repeat))
        for kind in ("doc_hash", "prompt_hash", "target_hash"):
            if getattr(one, kind) != getattr(item, kind):
                raise IntegrityError(f"{where}: its {kind} differs from the lock")
    missing = asked.keys() - {(task, name) for task, name, _ in seen}
    if missing and not partial:
        task, name = min(missing)
        raise IntegrityError(f"{side}: task {task}: item {name} has no answer")
