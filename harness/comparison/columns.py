"""Item records of one checkpoint as columns, one table per task: the fast input of compare.

Reads `records.jsonl` (or takes a list of `ItemRecord`) and keeps what pairing and statistics need;
responses stay on disk. One pydantic object per line takes several times as long, so the strict
model checks the first line only; every line must have its keys, each once, and the rules that a
verdict rests on (nothing missing, finite scores in [0, 1]) are checked on columns.

Leaves out: pairing, which is `comparison/pairing.py`, and statistics, which is
`comparison/compare.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.files.atomic import explained
from retainbench.harness.core.files.storage import iterate_jsonl, require_intact
from retainbench.harness.core.records import MOST_NATS, ItemRecord

BLOCK_BYTES = 1 << 20
"""Bytes that are parsed at once, unless a line is longer; their records fit in a core's cache."""
LONGEST_LINE = 1 << 28
"""Bytes of the longest record; a longer one is refused."""

SEVERAL = ("task", "axis", "filter", "metric")
"""Texts that many records share: one object each."""
COMPARED = ("prompt_hash", "target_hash")
"""Texts of which only equality counts: 64 bits of Python's hash each."""
TEXTS = (*SEVERAL, *COMPARED, "item_id", "doc_hash", "cluster")
NUMBERS = (
    "repeat",
    "chance",
    "score",
    "soft_score",
    "document_tokens",
    "document_bytes",
    "valid",
    "cut",
)
"""As doubles, NaN where one is missing; truth values are 0 and 1."""
LISTS = ("choice_logprobs",)
OPTIONAL = ("soft_score", "choice_logprobs", "document_tokens", "document_bytes", "cut")
SHARES = ("chance", "score", "soft_score")
TYPES: dict[str, Any] = {
    **dict.fromkeys(TEXTS, str),
    **dict.fromkeys(NUMBERS, float),
    **dict.fromkeys(("valid", "cut"), bool),
    **dict.fromkeys(LISTS, list[Annotated[float, msgspec.Meta(ge=-MOST_NATS, le=MOST_NATS)]]),
}

RecordColumn = NDArray[Any]
STRINGS = np.dtypes.StringDType()


@dataclass(frozen=True)
class ListColumn:
    """A list of doubles for each record, one after another; a missing list is of length -1."""

    values: NDArray[np.float64]
    lengths: NDArray[np.int64]

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Where each list begins in `values`; a missing one is empty."""
        held = np.maximum(self.lengths, 0)
        return np.cumsum(held) - held

    def take(self, rows: slice | RecordColumn) -> ListColumn:
        """As `RecordTable.take`."""
        lengths, starts = self.lengths[rows], self.starts[rows]
        held = np.maximum(lengths, 0)
        if isinstance(rows, slice) and rows.step is None:
            first = int(starts[0]) if len(starts) else 0
            return ListColumn(self.values[first : first + int(held.sum())], lengths)
        within = np.arange(int(held.sum())) - np.repeat(np.cumsum(held) - held, held)
        return ListColumn(self.values[np.repeat(starts, held) + within], lengths)


class RecordTable:
    """Records as columns of one length.

    Texts are strings (of `COMPARED` a number), numbers doubles with NaN for a missing one.
    """

    def __init__(self, columns: Mapping[str, RecordColumn], lists: ListColumn) -> None:
        self._columns = columns
        self.choice_logprobs = lists

    def __len__(self) -> int:
        return len(self._columns["task"])

    def __getitem__(self, name: str) -> RecordColumn:
        return self._columns[name]

    def take(self, rows: slice | RecordColumn) -> RecordTable:
        """Some rows: a slice, their indices, or a truth value for each."""
        columns = {name: _taken(column, rows) for name, column in self._columns.items()}
        return RecordTable(columns, self.choice_logprobs.take(rows))

    def replaced(self, name: str, column: RecordColumn) -> RecordTable:
        """The same records with other values in a column."""
        return RecordTable({**self._columns, name: column}, self.choice_logprobs)


def _taken(column: RecordColumn, rows: slice | RecordColumn) -> RecordColumn:
    """Some rows of a column; of a value that all records share no copy is made."""
    if isinstance(rows, slice) or any(column.strides) or not len(column):
        return column[rows]
    size = int(rows.sum()) if rows.dtype == bool else len(rows)
    return np.broadcast_to(column[:1], (size,))


Columns = Mapping[str, RecordTable]
"""Task label -> its records, in the order of the file."""

Answers = Path | Sequence[ItemRecord]
"""The whole records of one checkpoint: a file, or a list."""

Records = Answers | Columns
"""Every form in which compare accepts the records of one checkpoint."""


def columns(records: Records) -> Columns:
    """Records of one checkpoint by task label, from a file, a list or columns already read.

    The label is the task's name; a task whose records carry several filters becomes one label per
    filter, `task/filter`, because two extractions of one answer are not two items.

    Raises:
        IntegrityError: missing or malformed file, missing value, NaN, score outside [0, 1].
    """
    if isinstance(records, Mapping):
        return records
    if isinstance(records, Path):
        return _by_label(_read(records), str(records))
    return _by_label(joined([records]), "records")


def _read(path: Path) -> RecordTable:
    """All records of a file."""
    if next(iterate_jsonl(path, ItemRecord), None) is None:
        return joined([()])
    require_intact(path)
    return joined(_parsed(block, path) for block in line_blocks(path))


def line_blocks(path: Path) -> Iterator[bytes]:
    """The file in pieces of whole lines."""
    with explained(path, "read"), path.open("rb") as file:
        rest = b""
        while piece := file.read(BLOCK_BYTES):
            head, end, tail = piece.rpartition(b"\n")
            if end:
                yield rest + head + end
                rest = tail
            else:
                rest += tail
            if len(rest) > LONGEST_LINE:
                raise IntegrityError(f"{path}: not valid records: a line is too long")
        if rest:
            yield rest


@cache
def _decoder(*, whole: bool) -> msgspec.json.Decoder[Any]:
    """Of lines with all of `TYPES`.

    Args:
        whole: of lines with all keys of a record; values that are not needed are skipped.
    """
    kinds = {name: kind | None if name in OPTIONAL else kind for name, kind in TYPES.items()}
    others = {name: msgspec.Raw for name in ItemRecord.model_fields if name not in TYPES}
    fields = [*kinds.items(), *(others.items() if whole else ())]
    return msgspec.json.Decoder(msgspec.defstruct("Line", fields, gc=False))


def _parsed(block: bytes, path: Path) -> Sequence[Any]:
    """The records of some lines.

    Raises:
        IntegrityError: a line is not a JSON object with the types of a record, a value is missing,
            or a key of a line occurs twice.
    """
    try:
        rows: Sequence[Any] = _decoder(whole=True).decode_lines(block)
    except msgspec.DecodeError:
        return _slowly(block, path)
    # None of the keys was missing: where there are as many as there are fields, none occurs twice.
    keys = len(rows) * len(ItemRecord.model_fields)
    return rows if _keys(block) == keys else _slowly(block, path)


def _keys(block: bytes) -> int:
    """Keys of JSON objects; a quote inside a text is written \\", so a key is what ends in ":.

    Pairs of bytes are compared as numbers, which is twenty times as fast as `bytes.count`.
    """
    ends = np.frombuffer(b'":', np.uint16)
    size = len(block)
    halves = (np.frombuffer(block[at : at + (size - at) // 2 * 2], np.uint16) for at in (0, 1))
    found = sum(int(np.count_nonzero(half == ends)) for half in halves)
    return found - (block.count(b'\\":') if b"\\" in block else 0)


def _slowly(block: bytes, path: Path) -> Sequence[Any]:
    """Line by line, for records with other keys than this version's, and for what is wrong."""
    rows = []
    for line in filter(None, block.split(b"\n")):
        try:
            values = json.loads(line, object_pairs_hook=_unique)
            wanted = {name: values.get(name) for name in TYPES}
            for name, value in wanted.items():
                if value is None and name not in OPTIONAL:
                    _say(path, values, f"{name} is missing")
                if isinstance(value, float) and not np.isfinite(value):
                    _say(path, values, f"{name} is {value}, not a number from 0 to 1")
            rows.append(_decoder(whole=False).decode(msgspec.json.encode(wanted)))
        except (msgspec.DecodeError, ValueError, AttributeError, RecursionError) as error:
            text = " ".join(str(error).split())
            raise IntegrityError(f"{path}: not valid records: {text}") from error
    return rows


def _say(path: Path, values: Mapping[str, Any], problem: str) -> None:
    raise IntegrityError(
        f"{path}: task {values.get('task')!r}, item {values.get('item_id')!r}: {problem}"
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError(f"duplicate key among {', '.join(values)}")
    return values


def joined(parts: Iterable[Sequence[Any]]) -> RecordTable:
    """Records as a table.

    Args:
        parts: some objects each, with the attributes of `TYPES`; a missing value is None.
    """
    shared: dict[str, str] = {}
    pieces: dict[str, list[RecordColumn]] = {name: [] for name in (*TEXTS, *NUMBERS)}
    lists: list[ListColumn] = []
    for part in parts:
        for name, arrays in pieces.items():
            arrays.append(_array(name, list(map(attrgetter(name), part)), shared))
        lists.append(_lists([row.choice_logprobs for row in part]))
    # One column after another, so that the pieces of no more than one are held twice.
    columns = {name: _column(pieces.pop(name)) for name in (*TEXTS, *NUMBERS)}
    values, lengths = ([getattr(one, name) for one in lists] for name in ("values", "lengths"))
    return RecordTable(columns, ListColumn(np.concatenate(values), np.concatenate(lengths)))


def _column(pieces: list[RecordColumn]) -> RecordColumn:
    """The pieces as an array; one value where it is the same for all records."""
    size = sum(map(len, pieces))
    first = pieces[0][:1]
    if all(not any(one.strides) for one in pieces) and all(
        np.array_equal(one[:1], first, equal_nan=first.dtype != object) for one in pieces
    ):
        return np.broadcast_to(first, (size,))
    return np.concatenate(pieces)


def _array(name: str, values: list[Any], shared: dict[str, str]) -> RecordColumn:
    alike = bool(values) and values.count(values[0]) == len(values)
    if name in NUMBERS:
        if alike:
            number = np.nan if values[0] is None else float(values[0])
            return np.broadcast_to(np.float64(number), (len(values),))
        return np.array(values, np.float64)
    if name in COMPARED:
        return np.fromiter(map(hash, values), np.int64, len(values))
    if name in SEVERAL:
        if alike:
            text = np.array([shared.setdefault(values[0], values[0])], object)
            return np.broadcast_to(text, (len(values),))
        return np.array([shared.setdefault(value, value) for value in values], object)
    return np.array(values, STRINGS)


def _lists(values: list[Sequence[float] | None]) -> ListColumn:
    lengths = (-1 if one is None else len(one) for one in values)
    return ListColumn(
        np.fromiter(chain.from_iterable(one or () for one in values), np.float64),
        np.fromiter(lengths, np.int64, len(values)),
    )


def _by_label(table: RecordTable, source: str) -> dict[str, RecordTable]:
    _check_values(table, source)
    labelled: dict[str, RecordTable] = {}
    for task, part in _split(table, "task").items():
        filters = _split(part, "filter")
        if len(filters) == 1:
            labelled[task] = part
            continue
        labelled |= {f"{task}/{name}": rows for name, rows in filters.items()}
    return labelled


def _split(table: RecordTable, name: str) -> dict[str, RecordTable]:
    """Rows by key, keys in order of appearance; contiguous rows are sliced without a copy."""
    if not len(table):
        return {}
    found = numbered(table[name])
    starts = np.flatnonzero(np.diff(found, prepend=-1))
    names = list(dict.fromkeys(table[name][starts]))
    if len(starts) == len(names):
        ends = [*starts[1:], len(found)]
        return {n: table.take(slice(s, e)) for n, s, e in zip(names, starts, ends, strict=True)}
    return {name: table.take(np.flatnonzero(found == i)) for i, name in enumerate(names)}


def numbered(column: RecordColumn) -> NDArray[np.intp]:
    """For each value the number of the first that is equal, counting different ones.

    >>> numbered(np.array(["b", "a", "b"], object))
    array([0, 1, 0])
    """
    starts = np.flatnonzero(np.append(True, column[1:] != column[:-1])[: len(column)])
    values = column[starts].tolist()
    if len(set(values)) == len(values):
        codes = np.arange(len(values))
    else:
        known: dict[Any, int] = {}
        codes = np.fromiter((known.setdefault(v, len(known)) for v in values), np.intp)
    return np.repeat(codes, np.diff(starts, append=len(column)))


def missing(column: RecordColumn) -> NDArray[np.bool_]:
    """Where a number is missing."""
    return np.asarray(np.isnan(column), bool)


def _check_values(table: RecordTable, source: str) -> None:
    """Refuse shares outside [0, 1], naming the first task and item."""
    for name in SHARES:
        column = table[name]
        bad = ~missing(column) & ~((column >= 0) & (column <= 1))
        if bad.any():
            first = column[np.flatnonzero(bad)[0]]
            _refuse(table, bad, f"{name} is {first}, not a number from 0 to 1", source)
    certain = table["chance"] >= 1
    if certain.any():
        _refuse(table, certain, "chance is 1: it cannot be wrong and measures nothing", source)


def _refuse(table: RecordTable, bad: NDArray[np.bool_], problem: str, source: str) -> None:
    row = int(np.flatnonzero(bad)[0])
    others = int(bad.sum()) - 1
    more = f" (and of {others} more items)" if others else ""
    task, item = table["task"][row], table["item_id"][row]
    raise IntegrityError(f"{source}: task {task!r}, item {item!r}: {problem}{more}")
