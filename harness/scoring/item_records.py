"""lm-eval's sample rows -> item records, each checked against the task's lock; item texts.

A missing, extra or changed prompt is an `IntegrityError`, never a score.
"""

from __future__ import annotations

import math
from typing import Any

from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.records import ItemRecord, ItemText
from retainbench.harness.tasks import catalogue

METRICS = ("reward", "acc", "exact_match", "acc_norm")
"""What `score` is, in order of preference, among the metrics that a task reports."""


def to_records(
    info: catalogue.TaskInfo, rows: list[dict[str, Any]], limit: int | None
) -> list[ItemRecord]:
    """lm-eval's sample rows -> records, each checked against the lock; in the lock's order.

    Raises:
        IntegrityError: an item is missing, twice there, unknown or asked differently.
    """
    locked = {item.id: item for item in catalogue.lock(info).items}
    expected = list(locked)[:limit]
    by_id: dict[str, dict[str, Any]] = {}
    for row in rows:
        name = str(row["doc"]["id"])
        if name in by_id or name not in locked:
            raise IntegrityError(f"{info.name}: item {name} came back twice or is not in the lock")
        by_id[name] = row
    if list(by_id) != expected and set(by_id) != set(expected):
        raise IntegrityError(
            f"{info.name}: {len(by_id)} items were scored where {len(expected)} are locked"
        )
    return [_record(info, locked[name], by_id[name]) for name in expected]


def _record(
    info: catalogue.TaskInfo, item: catalogue.LockedItem, row: dict[str, Any]
) -> ItemRecord:
    for kind in ("doc_hash", "prompt_hash", "target_hash"):
        if row[kind] != getattr(item, kind):
            raise IntegrityError(f"{info.name}: {kind} of item {item.id} differs from the lock")
    metric = info.code.metric if info.code else next(name for name in METRICS if name in row)
    fields = _choice_fields(row) if info.kind == "multiple_choice" else _free_fields(row)
    return ItemRecord(
        task=info.name,
        axis=info.axis,
        item_id=item.id,
        doc_hash=item.doc_hash,
        prompt_hash=item.prompt_hash,
        target_hash=item.target_hash,
        filter=row["filter"],
        metric=metric,
        cluster=item.cluster,
        chance=item.chance,
        score=float(row[metric]),
        **fields,
    )


def _choice_fields(row: dict[str, Any]) -> dict[str, Any]:
    logprobs = [float(response[0][0]) for response in row["resps"]]
    gold = int(row["doc"]["gold"])
    peak = max(logprobs)
    weights = [math.exp(value - peak) for value in logprobs]
    return {
        "choice_logprobs": logprobs,
        "gold": gold,
        "soft_score": weights[gold] / sum(weights),
        "response": str(row["doc"]["choices"][logprobs.index(peak)]),
    }


def _free_fields(row: dict[str, Any]) -> dict[str, Any]:
    answered = row["resps"][0][0]
    if isinstance(answered, tuple):  # the answer's log-likelihood and whether it is the greedy one
        likelihood = float(answered[0])
        return {
            "choice_logprobs": [likelihood],
            "soft_score": math.exp(min(likelihood, 0.0)),
            "gold": str(row["doc"]["answer"]),
        }
    response = str(answered)
    return {
        "response": response,
        "gold": str(row["doc"]["answer"]),
        "valid": bool(row["valid"]) if "valid" in row else bool(response.strip()),
    }


def item_texts(info: catalogue.TaskInfo) -> list[ItemText]:
    """What each item of a task asks, for the reports' lost and gained items."""
    return [
        ItemText(
            task=info.name,
            item_id=locked.id,
            doc_hash=locked.doc_hash,
            prompt=str(item["query"]),
            choices=item.get("choices"),
            gold=str(item["choices"][item["gold"]] if "choices" in item else item["answer"]),
        )
        for locked, item in zip(catalogue.lock(info).items, catalogue.items(info), strict=True)
    ]
