"""Synthetic item records with a planted drop, for the tests of compare, gate and CI outputs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from retainbench.harness.records import Axis, ItemRecord

AXES: tuple[Axis, ...] = ("general", "numeric", "temporal")


class Sides(NamedTuple):
    """Records of base and candidate over the same items."""

    base: list[ItemRecord]
    candidate: list[ItemRecord]


def record(task: str, number: int, score: float, **changes: Any) -> ItemRecord:
    """One item; everything but the score follows from task and number."""
    doc = hashlib.sha256(f"{task} {number}".encode()).hexdigest()
    values: dict[str, Any] = {
        "task": task,
        "axis": "general",
        "item_id": f"i{number}",
        "doc_hash": doc,
        "prompt_hash": doc[::-1],
        "target_hash": doc[1:],
        "metric": "acc",
        "cluster": f"c{number}",
        "chance": 0.25,
        "score": score,
    }
    return ItemRecord.model_validate(values | changes)


def sides(
    task: str,
    items: int,
    *,
    lost: int = 0,
    gained: int = 0,
    right: float = 0.8,
    **changes: Any,
) -> Sides:
    """A task whose base is right on the first share of items; exact numbers of flips."""
    known = round(right * items)
    base = [record(task, i, float(i < known), **changes) for i in range(items)]
    answers = np.array([one.score for one in base])
    answers[:lost] = 0
    answers[items - gained :] = 1
    candidate = [
        record(task, i, float(answer), **changes) for i, answer in enumerate(answers.tolist())
    ]
    return Sides(base, candidate)


def suite(
    items: int, lost: Mapping[str, int] | None = None, per_axis: int = 2, noise: int = 4
) -> Sides:
    """Tasks `general0`, `numeric1`, ... on every axis with symmetric noise and planted losses."""
    base: list[ItemRecord] = []
    candidate: list[ItemRecord] = []
    for axis in AXES:
        for number in range(per_axis):
            name = f"{axis}{number}"
            more = (lost or {}).get(name, 0)
            one = sides(name, items, lost=noise + more, gained=noise, axis=axis)
            base += one.base
            candidate += one.candidate
    return Sides(base, candidate)


def target(items: int, base_right: int, candidate_right: int, name: str = "countdown") -> Sides:
    """A target with rewards 0, 0.1 and 1."""
    graded = [0.1 if i % 3 else 0.0 for i in range(items)]
    before = [1.0 if i < base_right else graded[i] for i in range(items)]
    after = [1.0 if i < candidate_right else graded[i] for i in range(items)]
    same: dict[str, Any] = {"axis": "target", "metric": "reward", "chance": 0.0}
    return Sides(
        [record(name, i, score, **same) for i, score in enumerate(before)],
        [record(name, i, score, **same) for i, score in enumerate(after)],
    )
