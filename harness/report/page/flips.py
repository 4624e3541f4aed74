"""Items that each cell lost or gained, for the flips explorer of the HTML report.

Reads item texts, the base's records and every cell's records at its end point; returns plain data.
Arrow parses the records (a million in seconds), and answers are kept only for items that flipped.
An item is right at a score of one half or more, so graded rewards have flips too. A report of
hundreds of cells would have too many: at most `cap` flips are kept, the same number for every cell,
task and direction, in the order of the items; `total` counts all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from retainbench.harness.comparison.columns import BLOCK_BYTES, LONGEST_LINE
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.files.storage import iterate_jsonl, require_intact
from retainbench.harness.core.paths import RunFolder, point_name
from retainbench.harness.core.records import DOCUMENT_METRIC, ItemText
from retainbench.harness.core.scorecards import Scorecard
from retainbench.harness.core.text import escaping

if TYPE_CHECKING:
    import pyarrow as pa

CAP = 6_000
TEXT_LIMIT = 700  # characters of a prompt or an answer; a cut says so
RIGHT = 0.5  # score from which an answer counts as right

COLUMNS = ("task", "item_id", "filter", "repeat", "score", "soft_score", "response", "metric")

Indices = npt.NDArray[np.int64]
Key = tuple[str, str, str]
"""Task, item and filter; decode repeats after the first are not shown."""


class ItemAnswer(NamedTuple):
    """What a checkpoint answered to one item."""

    score: float
    soft_score: float | None
    response: str


class ItemFlip(NamedTuple):
    """One item whose correctness changed between the base and one cell's end point."""

    cell: int
    """Index of the scorecard."""
    key: Key
    lost: bool
    before: ItemAnswer
    after: ItemAnswer


class FlipSheet(NamedTuple):
    """The records of one checkpoint, a row an item and filter."""

    keys: pa.Table
    """Task, item and filter."""
    scores: npt.NDArray[np.float64]
    answers: pa.Table
    """Score, soft score and response."""


class FlipSheets(NamedTuple):
    """Flips of a run, capped."""

    shown: list[ItemFlip]
    total: int
    items: dict[tuple[str, str], ItemText]
    """Task and item -> what was asked, for the shown flips."""
    unread: int
    """Cells whose records are not in the folder (a published one holds scorecards only)."""


def collect(run: RunFolder, cards: Sequence[Scorecard], cap: int = CAP) -> FlipSheets:
    """All flips of a run's finished cells at their end points, capped evenly.

    Raises:
        IntegrityError: a record is malformed, or a cell answered an item that the base did not.
    """
    bases: dict[str, FlipSheet] = {}
    found: list[ItemFlip] = []
    unread = 0
    for number, card in enumerate(cards):
        if not card.points:
            continue
        end = card.points[-1]
        path = run.cell(card.cell).point(point_name(end.stage, end.fraction)).records
        origin = run.base_point(card.base).records
        if not path.is_file() or not origin.is_file():
            unread += 1
            continue
        if card.base not in bases:
            bases[card.base] = _read(origin)
        found.extend(_flips(number, bases[card.base], path))
    shown = evenly(found, cap)
    return FlipSheets(shown, len(found), _texts(run, shown), unread)


def evenly(flips: Sequence[ItemFlip], cap: int) -> list[ItemFlip]:
    """At most `cap` flips: the first k of every cell, task and direction, k as large as fits.

    >>> answer = ItemAnswer(1, None, "")
    >>> keys = [("t", str(n), "") for n in range(9)]
    >>> many = [ItemFlip(cell, key, True, answer, answer) for cell in (0, 1) for key in keys]
    >>> [flip.cell for flip in evenly(many, 7)]
    [0, 0, 0, 1, 1, 1]
    """
    if len(flips) <= cap:
        return list(flips)
    groups: dict[tuple[int, str, bool], int] = {}
    ranks = []
    for flip in flips:
        group = (flip.cell, flip.key[0], flip.lost)
        ranks.append(groups.get(group, 0))
        groups[group] = ranks[-1] + 1
    depth = 0
    while sum(min(size, depth + 1) for size in groups.values()) <= cap:
        depth += 1
    if depth == 0:  # more groups than places: the first flip of every n-th group
        first = [flip for flip, rank in zip(flips, ranks, strict=True) if rank == 0]
        return first[:: -(-len(first) // cap)]
    return [flip for flip, rank in zip(flips, ranks, strict=True) if rank < depth]


def payload(flips: FlipSheets, cards: Sequence[Scorecard]) -> dict[str, Any]:
    """What the explorer's script reads; every text is cut and has no invisible characters."""
    asked = {(cards[flip.cell].base, *flip.key[:2]): flip.before for flip in flips.shown}
    places = {key: n for n, key in enumerate(asked)}
    used = sorted({flip.cell for flip in flips.shown})
    pairs = [(flips.items[key[1:]], before) for key, before in asked.items()]
    return {
        "total": flips.total,
        "cells": {n: [cards[n].recipe, cards[n].target, cards[n].seed] for n in used},
        "items": [
            {
                "task": text.task.removeprefix("rb_"),
                "id": text.item_id,
                "prompt": _clean(text.prompt),
                "choices": [_clean(choice) for choice in text.choices or []],
                "gold": _clean(text.gold),
                "base": _clean(before.response),
                "soft": _short(before.soft_score),
            }
            for text, before in pairs
        ],
        "flips": [
            [
                flip.cell,
                places[cards[flip.cell].base, *flip.key[:2]],
                int(flip.lost),
                _clean(flip.after.response),
                _short(flip.after.soft_score),
            ]
            for flip in flips.shown
        ],
    }


def _short(share: float | None) -> float | None:
    return None if share is None else round(share, 3)


def _clean(text: str) -> str:
    return escaping.visible(escaping.shorten(text, TEXT_LIMIT))


def _flips(cell: int, base: FlipSheet, path: Path) -> Iterator[ItemFlip]:
    sheet = _read(path)
    at = _places(sheet.keys, base.keys, path)
    before, after = base.scores[at] >= RIGHT, sheet.scores >= RIGHT
    turned = np.flatnonzero(before != after)
    keys = zip(*(column.to_pylist() for column in sheet.keys.take(turned).columns), strict=True)
    answers = zip(_answers(base, at[turned]), _answers(sheet, turned), strict=True)
    for key, lost, (old, new) in zip(keys, before[turned], answers, strict=True):
        yield ItemFlip(cell, key, bool(lost), old, new)


def _places(keys: pa.Table, base: pa.Table, path: Path) -> Indices:
    """For each row its row in the base: the same one, unless the files differ in order."""
    if keys.equals(base):
        return np.arange(keys.num_rows)
    known = {key: n for n, key in enumerate(_rows(base))}
    found = []
    for key in _rows(keys):
        if key not in known:
            raise IntegrityError(f"{path}: item {key[1]} of {key[0]} has no record of the base")
        found.append(known[key])
    return np.array(found, dtype=np.int64)


def _rows(keys: pa.Table) -> Iterator[Key]:
    return zip(*(column.to_pylist() for column in keys.columns), strict=True)


def _answers(sheet: FlipSheet, rows: Indices) -> Iterator[ItemAnswer]:
    columns = (column.to_pylist() for column in sheet.answers.take(rows).columns)
    for score, soft, response in zip(*columns, strict=True):
        yield ItemAnswer(score, soft, response or "")


def _read(path: Path) -> FlipSheet:
    """The columns that flips need, first decodes only and no documents, which are never right."""
    import pyarrow as pa
    import pyarrow.compute as pc

    require_intact(path)
    kinds = {"repeat": pa.int64(), "score": pa.float64(), "soft_score": pa.float64()}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS])
    table = _arrow(path, schema)
    table = table.filter(pc.not_equal(pc.fill_null(table["metric"], ""), DOCUMENT_METRIC))
    first = table.filter(pc.equal(pc.fill_null(table["repeat"], 0), 0)).combine_chunks()
    which = first.column_names.index("filter")
    named = first.set_column(which, "filter", pc.fill_null(first["filter"], "none"))
    scores = named["score"].to_numpy()
    return FlipSheet(named.select(COLUMNS[:3]), scores, named.select(COLUMNS[4:7]))


def _arrow(path: Path, schema: pa.Schema) -> pa.Table:
    """The columns of a schema; other keys are skipped.

    Arrow refuses a line that is longer than the block that it parses, so a file with a long
    generation is read again with a larger block.
    """
    import pyarrow as pa
    import pyarrow.json

    # `gold` may be a number or a string, which Arrow cannot hold in one column.
    parse = pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    try:
        try:
            found = pyarrow.json.read_json(path, _options(BLOCK_BYTES), parse)
        except pa.ArrowInvalid:
            found = pyarrow.json.read_json(path, _options(LONGEST_LINE), parse)
    except pa.ArrowInvalid as error:
        raise IntegrityError(
            f"{path}: not valid records: {' '.join(str(error).split())}"
        ) from error
    return found.select(schema.names)


def _options(block: int) -> Any:
    import pyarrow.json

    return pyarrow.json.ReadOptions(block_size=block)


def _texts(run: RunFolder, flips: Sequence[ItemFlip]) -> dict[tuple[str, str], ItemText]:
    wanted = {flip.key[:2] for flip in flips}
    found: dict[tuple[str, str], ItemText] = {}
    for task in sorted({task for task, _ in wanted}):
        for text in iterate_jsonl(run.items(task), ItemText):
            if (task, text.item_id) in wanted:
                found[task, text.item_id] = text
    missing = wanted - found.keys()
    if missing:
        task, item = min(missing)
        raise IntegrityError(f"{run.items(task)} does not hold item {item}")
    return found
