"""lm-eval's sample rows -> item records, each checked against the task's lock; item texts.

A missing, extra or changed prompt is an `IntegrityError`, never a score.
"""

from __future__ import annotations

import math
from typing import Any

from retainbench.harness.core.records import (
    DOCUMENT_METRIC,
    PREFERRED_METRICS,
    ItemRecord,
    ItemText,
    gold_probability,
)
from retainbench.harness.tasks import catalogue
from retainbench.harness.tasks.lock import LockedAnswer, check_locked


def to_records(
    info: catalogue.TaskInfo, rows: list[dict[str, Any]], limit: int | None
) -> list[ItemRecord]:
    """lm-eval's sample rows -> records, each checked against the lock; in the lock's order.

    The repeats of an item are next to each other.

    Raises:
        IntegrityError: an item is missing, repeated or unknown, or was asked differently.
    """
    lock = catalogue.lock(info)
    answers = [
        LockedAnswer(
            info.name,
            str(row["doc"]["id"]),
            row["doc_hash"],
            row["prompt_hash"],
            row["target_hash"],
            row["repeat"],
        )
        for row in rows
    ]
    check_locked(answers, {info.name: lock}, "scoring", limit)
    by_key = {(one.item_id, one.repeat): row for one, row in zip(answers, rows, strict=True)}
    return [
        _record(info, item, by_key[item.id, repeat])
        for item in lock.items[:limit]
        for repeat in range(info.repeats)
    ]


def _record(
    info: catalogue.TaskInfo, item: catalogue.LockedItem, row: dict[str, Any]
) -> ItemRecord:
    return ItemRecord(
        task=info.name,
        axis=info.axis,
        item_id=item.id,
        doc_hash=item.doc_hash,
        prompt_hash=item.prompt_hash,
        target_hash=item.target_hash,
        filter=row["filter"],
        repeat=row["repeat"],
        cut=row["cut"],
        cluster=item.cluster,
        chance=item.chance,
        **(_document_fields(row) if info.kind == "perplexity" else _answer_fields(info, row)),
    )


def _answer_fields(info: catalogue.TaskInfo, row: dict[str, Any]) -> dict[str, Any]:
    preferred = (name for name in PREFERRED_METRICS if name in row)
    metric = info.code.metric if info.code else next(preferred)
    fields = _choice_fields(row) if info.kind == "multiple_choice" else _free_fields(row)
    return {"metric": metric, "score": float(row[metric]), **fields}


def _choice_fields(row: dict[str, Any]) -> dict[str, Any]:
    logprobs = [float(response[0][0]) for response in row["resps"]]
    gold = int(row["doc"]["gold"])
    return {
        "choice_logprobs": logprobs,
        "gold": gold,
        "soft_score": gold_probability(logprobs, [gold]),
        "response": str(row["doc"]["choices"][logprobs.index(max(logprobs))]),
    }


def _document_fields(row: dict[str, Any]) -> dict[str, Any]:
    likelihood, tokens = float(row["resps"][0][0]), int(row["tokens"])
    return {
        "metric": DOCUMENT_METRIC,
        "score": math.exp(min(likelihood / tokens, 0.0)),
        "choice_logprobs": [likelihood],
        "document_tokens": tokens,
        "document_bytes": int(row["bits_per_byte"][1]),
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
    """The text of each item, for the reports' lost and gained items."""
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
