"""The base's side of a certificate: its records, from the cache or scored now, and its noise floor.

Reads and writes the user's cache (`paths.cache()/records`), where one file holds one task's records
under a key of everything that can change them. The candidate is never cached.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from retainbench.harness import bases, paths, tasks, tasks_code
from retainbench.harness.certify_bundle import check_locked
from retainbench.harness.errors import IntegrityError
from retainbench.harness.records import (
    SCHEMA_VERSION,
    ItemRecord,
    digest,
    read_jsonl,
    write_jsonl,
)
from retainbench.harness.tasks_lock import Lock

if TYPE_CHECKING:
    from retainbench.harness.certify import Order

VERSIONS = (
    "retainbench",
    "torch",
    "transformers",
    "lm-eval",
    "peft",
    "tokenizers",
    "numpy",
    "scipy",
)


def score_base(
    base: bases.Base,
    names: Sequence[str],
    locks: Mapping[str, Lock],
    order: Order,
    most: int | None,
) -> tuple[list[ItemRecord], dict[str, float] | None]:
    """Records of the base; with `order.repeat_base` scored twice, with the churn per task.

    Raises:
        IntegrityError: records differ from the locks, or the two scorings from each other.
    """
    if order.repeat_base:
        first = order.evaluate(base.folder, names, most)
        return first, _churn(first, order.evaluate(base.folder, names, most))
    settings = dict(order.settings)
    stored = {name: _cached(base, name, settings, most) for name in names}
    missing = [name for name, path in stored.items() if not path.is_file()]
    if missing:
        fresh = order.evaluate(base.folder, missing, most)
        check_locked(fresh, {name: locks[name] for name in missing}, "base", most)
        for name in missing:
            write_jsonl(stored[name], [record for record in fresh if record.task == name])
    return [record for name in names for record in read_jsonl(stored[name], ItemRecord)], None


def score_repeats(
    base: bases.Base,
    names: Sequence[str],
    locks: Mapping[str, Lock],
    order: Order,
    most: int | None,
) -> dict[str, list[ItemRecord]]:
    """The base scored again in each way of `order.repeats`, cached as a whole for each way.

    A way answers those tasks that it can be used on, and of those every (first) item.
    """
    found: dict[str, list[ItemRecord]] = {}
    for way, scored_again in order.repeats.items():
        settings = {**order.settings, "scored again": way}
        stored = {name: _cached(base, name, settings, most) for name in names}
        if not all(path.is_file() for path in stored.values()):
            fresh = scored_again(base.folder, names, most)
            answered = {record.task for record in fresh}
            asked = {name: lock for name, lock in locks.items() if name in answered}
            check_locked(fresh, asked, f"base, {way}", most)
            for name, path in stored.items():
                write_jsonl(path, [record for record in fresh if record.task == name])
        found[way] = [r for path in stored.values() for r in read_jsonl(path, ItemRecord)]
    return {way: records for way, records in found.items() if records}


def _cached(base: bases.Base, task: str, settings: Mapping[str, str], most: int | None) -> Path:
    """Where a base's records on one task stand: keyed by all that can change them.

    `base.digest` covers weights, config, tokenizer and chat template.
    """
    (info,) = tasks.find([task])
    key = {
        "schema": SCHEMA_VERSION,
        "model": base.digest,
        "task": tasks.lock_digest(info),
        "items": most,
        "settings": dict(settings),
        "versions": _versions() | tasks_code.packages(info),
    }
    return paths.cache() / "records" / f"{task}-{digest(key)[:32]}.jsonl"


@cache
def _versions() -> dict[str, str]:
    """Read once: every look parses a distribution's metadata anew."""
    return {name: version(name) for name in VERSIONS}


def _churn(first: Sequence[ItemRecord], second: Sequence[ItemRecord]) -> dict[str, float]:
    """Share of items per task whose score differs between two runs of the same weights.

    Raises:
        IntegrityError: any does; scores that do not repeat cannot certify a difference.
    """
    again = {(r.task, r.item_id, r.filter, r.repeat): r.score for r in second}
    churn: dict[str, list[bool]] = {}
    for record in first:
        key = (record.task, record.item_id, record.filter, record.repeat)
        churn.setdefault(record.task, []).append(again.get(key) != record.score)
    shares = {task: sum(changed) / len(changed) for task, changed in churn.items()}
    for task, share in shares.items():
        if share:
            raise IntegrityError(
                f"task {task}: {share:.1%} of the answers changed when the same base was scored "
                "twice; use one backend, dtype and batch size that repeat exactly"
            )
    return shares
