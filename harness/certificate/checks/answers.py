"""Whether a certificate's records answer what its locks ask, and agree with themselves.

Every field of a record that follows from another one is computed again: hashes, cluster and chance
from the lock; score, soft score and chosen text from log-likelihoods and gold; the score of a free
answer from the text, where the task is one of the package's own. A record that contradicts itself
is refused. Pure; reads the items of installed tasks.

Leaves out: scores by code of others and by metrics that need more than a record holds (acc_norm).
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from retainbench.harness.certificate.checks.contents import CertificateContents
from retainbench.harness.core import paths
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.records import DOCUMENT_METRIC, ItemRecord
from retainbench.harness.tasks import catalogue
from retainbench.harness.tasks.catalogue import Catalogue
from retainbench.harness.tasks.folder import TaskInfo
from retainbench.harness.tasks.lock import Lock, check_locked
from retainbench.harness.tasks.rendering.answers import judging

TOLERANCE = 1e-9
"""Of a softmax that was computed by another libm."""
SHAPE = ("axis", "metric", "filter", "repeat")
"""What all records of a task have in common, on both sides."""
SIZES = ("document_tokens", "document_bytes")
OPTIONAL = ("soft_score", "choice_logprobs", "gold", "response", "cut", *SIZES)
"""What all records of a task have, or none."""


def check(contents: CertificateContents, tasks: Catalogue) -> None:
    """Check all records of a certificate.

    Args:
        tasks: where the texts of items are found; those of tasks that are installed with the very
            lock of the certificate are used.

    Raises:
        IntegrityError: naming side, task and item.
    """
    most = contents.evidence.items_per_task
    for side, records in contents.sides().items():
        answered = {record.task for record in records}
        again = side not in ("base", "candidate")
        asked = {n: lock for n, lock in contents.locks.items() if not again or n in answered}
        check_locked(records, asked, side, most)
    locked = {(n, item.id): item for n, lock in contents.locks.items() for item in lock.items}
    items = {name: _items(name, lock, tasks) for name, lock in contents.locks.items()}
    shapes: dict[str, tuple[Any, ...]] = {}
    for side, records in contents.sides().items():
        present: dict[str, tuple[bool, ...]] = {}
        for record in records:
            where = f"{side}: task {record.task}: item {record.item_id}"
            item = locked[record.task, record.item_id]
            if (record.cluster, record.chance) != (item.cluster, item.chance):
                raise IntegrityError(f"{where}: its cluster or chance is not that of its lock")
            shape = tuple(getattr(record, field) for field in SHAPE)
            _same(shapes.setdefault(record.task, shape), shape, SHAPE, where)
            has = tuple(getattr(record, field) is not None for field in OPTIONAL)
            _same(present.setdefault(record.task, has), has, OPTIONAL, where)
            code = _scored_by_code(contents.locks[record.task])
            _check_record(record, where, code=code, rotated=side == "base, options")
            row = items[record.task].get(record.item_id)
            if row is not None:
                _check_item(record, row, tasks.tasks[record.task], where)


def _same(first: Sequence[Any], own: Sequence[Any], fields: Sequence[str], where: str) -> None:
    for one, other, field in zip(first, own, fields, strict=True):
        if one != other:
            raise IntegrityError(f"{where}: its {field} differs from other records of the task")


def _scored_by_code(lock: Lock) -> bool:
    """Whether lm-eval's own code scored the task: its pack has a `_code.py`."""
    return any(PurePosixPath(name).name == "_code.py" for name in lock.files)


def _check_record(record: ItemRecord, where: str, *, code: bool, rotated: bool) -> None:
    """What follows from the record alone."""
    if isinstance(record.gold, str) and not code and _sha256(record.gold) != record.target_hash:
        raise IntegrityError(f"{where}: its gold is not the locked one")
    if record.metric != DOCUMENT_METRIC and any(
        getattr(record, size) is not None for size in SIZES
    ):
        raise IntegrityError(f"{where}: only a document has a size")
    likelihoods = record.choice_logprobs
    if likelihoods is None:
        return
    if not likelihoods or not all(map(math.isfinite, likelihoods)):
        raise IntegrityError(f"{where}: log-likelihoods must be finite numbers")
    if not record.valid:
        raise IntegrityError(f"{where}: an answer by log-likelihoods is always valid")
    if record.metric == DOCUMENT_METRIC:
        _check_document(record, likelihoods[0], where)
        return
    if not isinstance(record.gold, int):
        _check_soft(record, math.exp(min(likelihoods[0], 0.0)), where)
        return
    if not 0 <= record.gold < len(likelihoods):
        raise IntegrityError(f"{where}: gold {record.gold} is not one of its choices")
    peak = max(likelihoods)
    weights = [math.exp(value - peak) for value in likelihoods]
    _check_soft(record, weights[record.gold] / sum(weights), where)
    if record.metric == "acc" and not code:
        best = [index for index, value in enumerate(likelihoods) if value == peak]
        # Among equal choices the first one counts, which a rotation of the options may change.
        allowed = {float(index == record.gold) for index in (best if rotated else best[:1])}
        if record.score not in allowed:
            raise IntegrityError(f"{where}: its score contradicts its log-likelihoods and gold")


def _check_document(record: ItemRecord, likelihood: float, where: str) -> None:
    tokens = record.document_tokens
    if not tokens or not record.document_bytes or record.gold is not None:
        raise IntegrityError(f"{where}: a document has tokens, bytes and no gold")
    if abs(record.score - math.exp(min(likelihood / tokens, 0.0))) > TOLERANCE:
        raise IntegrityError(f"{where}: its score contradicts its log-likelihood")


def _check_soft(record: ItemRecord, computed: float, where: str) -> None:
    if record.soft_score is None or abs(record.soft_score - computed) > TOLERANCE:
        raise IntegrityError(f"{where}: its soft score contradicts its log-likelihoods")


def _items(name: str, lock: Lock, tasks: Catalogue) -> Mapping[str, dict[str, Any]]:
    """Items by id of a task that is installed with this very lock; otherwise none."""
    info = tasks.tasks.get(name)
    if info is None or info.code is not None or catalogue.lock(info) != lock:
        return {}
    return {row["id"]: row for row in catalogue.items(info)}


def _check_item(record: ItemRecord, item: dict[str, Any], info: TaskInfo, where: str) -> None:
    """What follows from the record and the text of its item."""
    if record.axis != info.axis:
        raise IntegrityError(f"{where}: its axis is not {info.axis}, the task's")
    if info.kind == "perplexity" and record.document_bytes != len(item["answer"].encode()):
        raise IntegrityError(f"{where}: its number of bytes is not that of the document")
    gold = item["gold"] if "choices" in item else str(item["answer"])
    if record.gold is not None and record.gold != gold:
        raise IntegrityError(f"{where}: its gold is not that of the item")
    if "choices" in item and record.choice_logprobs is not None:
        best = record.choice_logprobs.index(max(record.choice_logprobs))
        if len(record.choice_logprobs) != len(item["choices"]):
            raise IntegrityError(f"{where}: the item has another number of choices")
        if record.response not in (None, item["choices"][best]):
            raise IntegrityError(f"{where}: its response is not the most likely choice")
    own = paths.TASKS in info.folder.parents
    if own and "choices" not in item and record.response is not None:
        score, valid = _answered(record.response, item, info)
        if (record.score, record.valid) != (score, valid):
            raise IntegrityError(f"{where}: its score contradicts its response")


def _answered(response: str, item: dict[str, Any], info: TaskInfo) -> tuple[float, bool]:
    """Score and validity of a free answer, as the package's own tasks have them."""
    if info.has_reward:
        rules = catalogue.reward(info)
        reward, valid = (judging(rule, info.answer) for rule in (rules.reward, rules.valid))
        return float(reward(response, item)), bool(valid(response, item))
    accepted = {normalised(text) for text in (item["answer"], *item["aliases"])}
    return float(normalised(response) in accepted), bool(normalised(response))


def normalised(text: str) -> str:
    """An answer as tasks/_dataset.py compares it, which needs lm-eval's packages to be imported."""
    first = text.strip().split("\n", 1)[0]
    return re.sub(r"\s+", " ", first.lower()).strip(" .,;:!?\"'")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
