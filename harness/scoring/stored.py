"""The base's side of a certificate: its records, from the cache or scored now, and its noise floor.

Reads and writes the user's cache (`paths.cache()/records`), where one file holds one task's records
under a key of everything that can change them. The candidate is never cached.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from retainbench.harness.core import paths
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.records import SCHEMA_VERSION, ItemRecord
from retainbench.harness.core.storage import digest, read_jsonl, write_jsonl
from retainbench.harness.models.checked import Base
from retainbench.harness.models.loading import Loaded, model_digest
from retainbench.harness.scoring.evaluate import (
    USUAL,
    Variation,
    _store_versions,
    affects,
    evaluate,
)
from retainbench.harness.tasks import catalogue, scoring_code
from retainbench.harness.tasks.lock import Lock, check_locked

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


Evaluate = Callable[[Base, Sequence[str], int | None], list[ItemRecord]]
"""Scores a checked model on tasks by short name; on the first n items if there is a number."""


class Scoring(NamedTuple):
    """How models are scored, and how the base is scored again."""

    evaluate: Evaluate
    settings: Mapping[str, str]
    """Backend, dtype, device, batch: recorded, and part of the cache's key."""
    repeat_base: bool = False
    """Score the base twice, without the cache, and refuse answers that differ."""
    repeats: Mapping[str, Evaluate] = MappingProxyType({})
    """Repeat scorings of the base, by name (`evaluate.VARIATIONS`): the noise floor."""


def score_base(
    base: Base,
    names: Sequence[str],
    locks: Mapping[str, Lock],
    scoring: Scoring,
    most: int | None,
) -> tuple[list[ItemRecord], dict[str, float] | None]:
    """Records of the base; with `scoring.repeat_base` scored twice, with the churn per task.

    Raises:
        IntegrityError: records differ from the locks, or the two scorings from each other.
    """
    if scoring.repeat_base:
        first = scoring.evaluate(base, names, most)
        return first, _churn(first, scoring.evaluate(base, names, most))
    settings = dict(scoring.settings)
    stored = {name: _cached(base, name, settings, most) for name in names}
    missing = [name for name, path in stored.items() if not path.is_file()]
    if missing:
        fresh = scoring.evaluate(base, missing, most)
        check_locked(fresh, {name: locks[name] for name in missing}, "base", most)
        for name in missing:
            write_jsonl(stored[name], [record for record in fresh if record.task == name])
    return [record for name in names for record in read_jsonl(stored[name], ItemRecord)], None


def score_repeats(
    base: Base,
    names: Sequence[str],
    locks: Mapping[str, Lock],
    scoring: Scoring,
    most: int | None,
) -> dict[str, list[ItemRecord]]:
    """The base scored again in each way of `scoring.repeats`, cached as a whole for each way.

    A way answers those tasks that it can be used on, and of those every (first) item.
    """
    found: dict[str, list[ItemRecord]] = {}
    for way, scored_again in scoring.repeats.items():
        settings = {**scoring.settings, "scored again": way}
        stored = {name: _cached(base, name, settings, most) for name in names}
        if not all(path.is_file() for path in stored.values()):
            fresh = scored_again(base, names, most)
            answered = {record.task for record in fresh}
            asked = {name: lock for name, lock in locks.items() if name in answered}
            check_locked(fresh, asked, f"base, {way}", most)
            for name, path in stored.items():
                write_jsonl(path, [record for record in fresh if record.task == name])
        found[way] = [r for path in stored.values() for r in read_jsonl(path, ItemRecord)]
    return {way: records for way, records in found.items() if records}


def _cached(base: Base, task: str, settings: Mapping[str, str], most: int | None) -> Path:
    """Where a base's records on one task stand: keyed by all that can change them.

    `base.digest` covers weights, config, tokenizer and chat template.
    """
    (info,) = catalogue.find([task])
    key = {
        "schema": SCHEMA_VERSION,
        "model": base.digest,
        "task": catalogue.lock_digest(info),
        "items": most,
        "settings": dict(settings),
        "versions": _versions() | scoring_code.packages(info),
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


def scoring_settings(device: str) -> dict[str, str]:
    """How our backend scores on a device; a card counts by its name, as answers depend on it."""
    found = {"backend": "retainbench", "dtype": "float32", "device": device}
    if device.startswith("cuda"):
        import torch

        found["card"] = torch.cuda.get_device_name(device)
    return found


class Store:
    """Per-item results on disk, one file per (checkpoint, task), found by content."""

    def __init__(self, folder: Path, *, limit: int | None = None) -> None:
        self.folder = folder
        self.limit = limit

    def path(self, model: str, info: catalogue.TaskInfo, variation: Variation = USUAL) -> Path:
        """Where the records of a checkpoint (by `model_digest`) on a task stand."""
        key: dict[str, Any] = {
            "model": model,
            "task": catalogue.lock_digest(info),
            "limit": self.limit,
            "versions": _store_versions() | scoring_code.packages(info),
        }
        if variation != USUAL:
            key["variation"] = variation._asdict()
        return self.folder / f"{info.name}-{digest(key)[:24]}.jsonl"


def evaluate_stored(
    loaded: Loaded, names: Sequence[str], store: Store, variation: Variation = USUAL
) -> list[ItemRecord]:
    """`evaluate`, taking from the store what is already there and adding what is new."""
    known = catalogue.discover()
    infos = [info for name in names if affects(variation, info := known[name])]
    model = model_digest(loaded)
    stands = {info.name: store.path(model, info, variation) for info in infos}
    missing = [info for info in infos if not stands[info.name].exists()]
    fresh = evaluate(loaded, missing, limit=store.limit, variation=variation)
    for info in missing:
        write_jsonl(stands[info.name], [record for record in fresh if record.task == info.name])
    return [record for path in stands.values() for record in read_jsonl(path, ItemRecord)]
