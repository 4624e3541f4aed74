"""Synthetic item records and run folders with a planted drop, for compare, gate and CI outputs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from retainbench.harness.comparison.compare import PointInput, scorecard
from retainbench.harness.core.paths import RunFolder, point_name
from retainbench.harness.core.records import (
    Axis,
    CheckpointRecord,
    DriftSummary,
    ItemRecord,
    Ledger,
    TrainRecord,
)
from retainbench.harness.core.schema import Policy, Suite
from retainbench.harness.core.storage import write_json, write_jsonl
from retainbench.harness.suites.plan import Inputs, Plan

POLICY = Policy(margin=0.05, minimum_items=50)

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


def drift(changed: int = 10, relative: float = 0.01) -> DriftSummary:
    return DriftSummary(
        frobenius=1.0,
        relative=relative,
        changed_parameters=changed,
        parameters=100,
        unchanged_exact=0.9,
        unchanged_1e5=0.9,
        unchanged_bf16=0.9,
        cosine=1.0,
        by_kind={},
        by_layer={},
        relative_by_kind={},
        dtypes="float32",
    )


def stored_pair(folder: Path, both: Sides) -> Path:
    """Both sides as record files in a folder, with a policy that has the margin of `POLICY`."""
    write_jsonl(folder / "base.jsonl", both.base)
    write_jsonl(folder / "candidate.jsonl", both.candidate)
    (folder / "policy.yaml").write_text("margin: 0.05\nminimum_items: 50\n")
    return folder


class Candidate(NamedTuple):
    """One cell of a stored run: its records by share of the budget; none = the cell failed."""

    recipe: str
    seed: int
    points: Mapping[float, Sequence[ItemRecord]]


def run_folder(root: Path, candidates: Mapping[int, Sides], base: Sides) -> Path:
    """A stored run of one recipe with one cell per seed, scored at the end only.

    The target has fewer than 30 items, which takes a t interval: 0.1 s less per cell than BCa.
    """
    goal = target(28, 5, 15)
    cells = [
        Candidate("sft", seed, {1.0: [*both.candidate, *goal.candidate]})
        for seed, both in candidates.items()
    ]
    return stored_run(root, [*base.base, *goal.base], cells)


def stored_run(
    root: Path, base: Sequence[ItemRecord], candidates: Sequence[Candidate], goal: str = "countdown"
) -> Path:
    """A run folder with ids like `sft-0`, as `retainbench run` leaves it."""
    plan = _plan(base, candidates, goal)
    folder = RunFolder(root)
    write_json(folder.plan, plan)
    write_jsonl(folder.base_point("fruitfly").records, base)
    for cell, candidate in zip(plan.cells, candidates, strict=True):
        where = folder.cell(cell.id)
        points = []
        for fraction, records in candidate.points.items():
            write_jsonl(where.point(point_name(0, fraction)).records, records)
            points.append(PointInput(_checkpoint(fraction), records, drift()))
        train = TrainRecord(
            cell=cell.id,
            status="done" if points else "failed",
            reason=None if points else "the loss is NaN",
            checkpoints=[point.checkpoint for point in points],
            trainable_parameters=1,
            total_parameters=1,
            metrics={},
            dtypes={},
            environment={},
        )
        write_json(where.scorecard, scorecard(cell, train, base, points, POLICY, provenance={}))
    return root


def _checkpoint(fraction: float) -> CheckpointRecord:
    return CheckpointRecord(
        stage=0, fraction=fraction, folder="", weights_digest="w", ledger=Ledger()
    )


def _plan(base: Sequence[ItemRecord], candidates: Sequence[Candidate], goal: str) -> Plan:
    budget = {"unit": "steps", "amount": 10}
    shares = sorted({fraction for one in candidates for fraction in one.points})
    same = {"base": "fruitfly", "target": goal, "recipe": {"method": "sft"}, "budget": budget}
    cells = [
        {"id": f"{one.recipe}-{one.seed}", "name": one.recipe, "seed": one.seed, **same}
        | {"trajectory": shares, "dtype": "float32"}
        for one in candidates
    ]
    whole = Suite.model_validate(
        {
            "name": "tiny",
            "description": "",
            "base": "fruitfly",
            "targets": [goal],
            "tasks": ["general"],
            "recipes": {one.recipe: {"method": "sft"} for one in candidates},
            "seeds": sorted({one.seed for one in candidates}),
            "budget": budget,
            "policy": POLICY.model_dump(),
        }
    )
    return Plan.model_validate(
        {
            "suite": whole.model_dump(),
            "inputs": Inputs(base="b", tasks={}, versions={}).model_dump(),
            "retention": list(dict.fromkeys(one.task for one in base if one.axis != "target")),
            "cells": cells,
        }
    )
