"""Base and candidate, item by item: the integrity rules, then paired columns for the statistics.

Takes the columns of `comparison/columns.py`. Items pair on (task, doc_hash, filter, repeat); prompt
hash, target hash, metric, axis, cluster and chance must be equal on both sides. A duplicate, a
missing, an extra or a changed item is an `IntegrityError` that names task and item: an inner join
would hide exactly the items that a broken candidate could not answer.

Rows are put in the order of their keys, so no result depends on the order of a file. Repeats of one
item (sampled decodes, permuted options) are averaged inside the item: pooling them as items makes
evidence out of nothing (a 4-0 result repeated three times falls from p .06 to .0002).

Leaves out: the check against a task's lock; what was scored was locked before it was scored.
Documents, which have a likelihood and no answer, are `comparison/perplexity.py`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retainbench.harness.comparison.columns import (
    COMPARED,
    RecordColumn,
    Records,
    RecordTable,
    columns,
    missing,
    numbered,
)
from retainbench.harness.comparison.confidence import Confidence, confidence
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.records import DOCUMENT_METRIC

Floats = NDArray[np.float64]

KEYS = ("doc_hash", "repeat")
EQUAL = ("prompt_hash", "target_hash", "metric", "axis", "cluster", "chance")


class Pair(NamedTuple):
    """One task's items, answered by both; arrays of one length, in the order of doc_hash."""

    label: str
    task: str
    axis: str
    metric: str
    repeats: int
    items: RecordColumn
    """Item ids."""
    base: Floats
    candidate: Floats
    base_soft: Floats | None
    """None unless every item of both sides has a soft score."""
    candidate_soft: Floats | None
    base_sure: Confidence | None
    """Everything that `comparison/confidence.py` finds, as far as soft."""
    candidate_sure: Confidence | None
    base_valid: Floats
    candidate_valid: Floats
    base_cut: float | None
    """Share of responses that ended at the limit of new tokens; None where a record lacks it."""
    candidate_cut: float | None
    chance: Floats
    clusters: NDArray[np.intp]
    excluded: int
    """Items left out because they overlap the training data."""


def pair(
    base: Records, candidate: Records, excluded: Mapping[str, Set[str]] | None = None
) -> dict[str, Pair]:
    """Pair two checkpoints' records, task by task; tasks of documents are left out.

    Args:
        base: a file, a list of records, or columns already read.
        candidate: the same for the other checkpoint.
        excluded: task -> item ids to leave out on both sides (contaminated items).

    Raises:
        IntegrityError: naming the task and the item at which the two sides differ.
    """
    return {
        label: averaged(label, rows, excluded or {})
        for label, rows in paired_rows(base, candidate)
        if not is_documents(rows.base)
    }


class PairedRows(NamedTuple):
    """One task's records of both sides, row by row the same item."""

    base: RecordTable
    candidate: RecordTable


def paired_rows(base: Records, candidate: Records) -> Iterator[tuple[str, PairedRows]]:
    """The records of two checkpoints, task by task, in the order of their keys.

    Raises:
        IntegrityError: as `pair`.
    """
    left, right = columns(base), columns(candidate)
    for label in left:
        if label not in right:
            raise IntegrityError(f"task {label!r} was scored for the base, not for the candidate")
    for label in right:
        if label not in left:
            raise IntegrityError(f"task {label!r} was scored for the candidate, not for the base")
    for label in left:
        yield label, _pair_task(label, left[label], right[label])


def is_documents(rows: RecordTable) -> bool:
    """Whether a task's records are likelihoods of documents."""
    return bool(len(rows)) and rows["metric"][0] == DOCUMENT_METRIC


def _pair_task(label: str, base: RecordTable, candidate: RecordTable) -> PairedRows:
    left, right = _sorted(label, base, "base"), _sorted(label, candidate, "candidate")
    _require_equal_keys(label, left, right)
    for name in EQUAL:
        unequal = ~_equal(left[name], right[name])
        if unequal.any():
            row = int(np.flatnonzero(unequal)[0])
            raise IntegrityError(
                f"task {label!r}, item {_value(left, 'item_id', row)!r}: {name} differs"
                f"{_both(left, right, name, row)} ({int(unequal.sum())} of {len(left)} items)"
            )
    for name in ("metric", "axis"):
        if len(found := sorted(set(left[name]))) > 1:
            raise IntegrityError(f"task {label!r} mixes several values of {name}: {found}")
    return PairedRows(left, right)


def kept(label: str, rows: PairedRows, excluded: Mapping[str, Set[str]]) -> PairedRows:
    """Rows without the items that overlap the training data.

    Raises:
        IntegrityError: no item is left.
    """
    left, right = rows
    if outside := excluded.get(str(_value(left, "task", 0))):
        keep = np.array([item not in outside for item in left["item_id"]])
        left, right = left.take(keep), right.take(keep)
    if len(left) == 0:
        raise IntegrityError(
            f"task {label!r}: all {len(rows.base)} items overlap the training data; none is left "
            "to judge"
        )
    return PairedRows(left, right)


def _sorted(label: str, table: RecordTable, side: str) -> RecordTable:
    """The table in the order of its keys; a key that occurs twice is an error."""
    if len(table) == 0:
        raise IntegrityError(f"task {label!r} has no items for the {side}")
    order = np.arange(len(table))
    for key in reversed(KEYS):
        order = order[np.argsort(table[key][order], kind="stable")]
    rows = table.take(order)
    same = np.ones(len(rows) - 1, bool)
    for key in KEYS:
        same &= ~_new_item(rows[key])
    if same.any():
        row = int(np.flatnonzero(same)[0])
        first, second = (_value(rows, "item_id", r) for r in (row, row + 1))
        raise IntegrityError(
            f"task {label!r}: items {first!r} and {second!r} of the {side} have the same key "
            f"(doc_hash {_value(rows, 'doc_hash', row)}, repeat {_value(rows, 'repeat', row)})"
        )
    return rows


def _require_equal_keys(label: str, left: RecordTable, right: RecordTable) -> None:
    if len(left) == len(right) and all(_equal(left[key], right[key]).all() for key in KEYS):
        return
    sides = [
        dict(zip(_keys(rows), rows["item_id"].tolist(), strict=True)) for rows in (left, right)
    ]
    missing = [name for key, name in sides[0].items() if key not in sides[1]]
    extra = [name for key, name in sides[1].items() if key not in sides[0]]
    parts = [
        f"{len(names)} {word} (first: {min(names)!r})"
        for names, word in ((missing, "missing from the candidate"), (extra, "unknown to the base"))
        if names
    ]
    raise IntegrityError(f"task {label!r}: the two sides hold different items: {', '.join(parts)}")


def _keys(rows: RecordTable) -> list[tuple[Any, ...]]:
    return list(zip(*(rows[key].tolist() for key in KEYS), strict=True))


def _equal(left: RecordColumn, right: RecordColumn) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = np.asarray(left == right, bool)
    return found


def _value(rows: RecordTable, name: str, row: int) -> Any:
    value = rows[name][row]
    return value.item() if isinstance(value, np.generic) else value


def _both(left: RecordTable, right: RecordTable, name: str, row: int) -> str:
    if name in COMPARED:
        return ""
    return f": base {_value(left, name, row)!r}, candidate {_value(right, name, row)!r}"


def averaged(label: str, rows: PairedRows, excluded: Mapping[str, Set[str]]) -> Pair:
    """Columns as arrays: contaminated items out, repeats averaged inside the item."""
    task, axis, metric = (str(_value(rows.base, name, 0)) for name in ("task", "axis", "metric"))
    before = 1 + int(_new_item(rows.base["doc_hash"]).sum())
    left, right = kept(label, rows, excluded)
    starts = np.flatnonzero(np.append(True, _new_item(left["doc_hash"])))
    counts = np.diff(starts, append=len(left))

    def per_item(values: Floats) -> Floats:
        return values if len(starts) == len(values) else np.add.reduceat(values, starts) / counts

    def mean(rows: RecordTable, name: str) -> Floats:
        return per_item(rows[name])

    def sure(rows: RecordTable) -> Confidence | None:
        one = confidence(rows)
        if one is None:
            return None
        return Confidence._make(None if part is None else per_item(part) for part in one)

    soft = not (missing(left["soft_score"]).any() or missing(right["soft_score"]).any())
    return Pair(
        label=label,
        task=task,
        axis=axis,
        metric=metric,
        repeats=int(counts.max()),
        items=left["item_id"][starts],
        base=mean(left, "score"),
        candidate=mean(right, "score"),
        base_soft=mean(left, "soft_score") if soft else None,
        candidate_soft=mean(right, "soft_score") if soft else None,
        base_sure=sure(left),
        candidate_sure=sure(right),
        base_valid=mean(left, "valid"),
        candidate_valid=mean(right, "valid"),
        base_cut=_share_cut(left),
        candidate_cut=_share_cut(right),
        chance=mean(left, "chance"),
        clusters=numbered(left["cluster"])[starts],
        excluded=before - len(starts),
    )


def _share_cut(rows: RecordTable) -> float | None:
    return None if missing(rows["cut"]).any() else float(rows["cut"].mean())


def _new_item(hashes: RecordColumn) -> NDArray[np.bool_]:
    """Whether each row but the first asks another item than the row before."""
    return ~_equal(hashes[1:], hashes[:-1])
