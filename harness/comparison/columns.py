"""Item records of one checkpoint as columns, one Arrow table per task: the fast input of compare.

Reads `records.jsonl` (or takes a list of `ItemRecord`) and keeps what pairing and statistics need;
responses stay on disk. Arrow parses a million records in about 2 s
where one pydantic object per line takes 15 s, so the strict model checks the first line only and
the rules that a verdict rests on (nothing missing, finite scores in [0, 1]) are checked on columns.

Leaves out: pairing, which is `comparison/pairing.py`, and statistics, which is
`comparison/compare.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
from numpy.typing import NDArray

from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.files.storage import iterate_jsonl, require_intact
from retainbench.harness.core.records import ItemRecord

BLOCK_BYTES = 1 << 22
"""Bytes that Arrow parses at once, unless a line is longer."""
LONGEST_LINE = 1 << 28
"""Bytes of the longest record; a longer one is refused."""

TEXTS = (
    "task",
    "axis",
    "item_id",
    "doc_hash",
    "prompt_hash",
    "target_hash",
    "filter",
    "metric",
    "cluster",
)
SCHEMA = pa.schema(
    [(name, pa.string()) for name in TEXTS]
    + [("repeat", pa.int64()), ("chance", pa.float64()), ("score", pa.float64())]
    + [("soft_score", pa.float64()), ("valid", pa.bool_()), ("cut", pa.bool_())]
    + [("choice_logprobs", pa.list_(pa.float64()))]
    + [("document_tokens", pa.int64()), ("document_bytes", pa.int64())]
)
OPTIONAL = ("soft_score", "choice_logprobs", "cut", "document_tokens", "document_bytes")
SHARES = ("chance", "score", "soft_score")

Columns = Mapping[str, Any]
"""Task label -> Arrow table with the columns of `SCHEMA`, in the order of the file."""

Records = Path | Sequence[ItemRecord] | Columns
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
    return _by_label(_from_list(records), "records")


def _read(path: Path) -> Any:
    """All records of a file as one Arrow table in which numbers keep their order on disk."""
    if next(iterate_jsonl(path, ItemRecord), None) is None:
        return SCHEMA.empty_table()
    return _parsed(path, SCHEMA)  # iterating has compared the digest: hashing 0.5 GB takes a second


def arrow_table(path: Path, schema: Any) -> Any:
    """The columns of a schema from a JSON Lines file; other keys are skipped.

    Arrow refuses a line that is longer than the block that it parses, so a file with a long
    generation is read again with a larger block.

    Raises:
        IntegrityError: the file is missing or damaged, or Arrow cannot parse it.
    """
    require_intact(path)
    return _parsed(path, schema)


def _parsed(path: Path, schema: Any) -> Any:
    """`arrow_table` of a file whose digest was compared."""
    try:
        return _parse(path, schema, BLOCK_BYTES)
    except pa.ArrowInvalid:
        pass
    try:
        return _parse(path, schema, LONGEST_LINE)
    except pa.ArrowInvalid as error:
        raise IntegrityError(
            f"{path}: not valid records: {' '.join(str(error).split())}"
        ) from error


def _parse(path: Path, schema: Any, block: int) -> Any:
    read = pyarrow.json.ReadOptions(block_size=block)
    # `gold` may be a number or a string, which Arrow cannot hold in one column.
    parse = pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    with pyarrow.json.open_json(path, read_options=read, parse_options=parse) as reader:
        batches = [batch.select(schema.names) for batch in reader]
    return pa.Table.from_batches(batches, schema)


def _from_list(records: Sequence[ItemRecord]) -> Any:
    values = {name: [getattr(record, name) for record in records] for name in SCHEMA.names}
    return pa.table(values, schema=SCHEMA)


def _by_label(table: Any, source: str) -> dict[str, Any]:
    _check_values(table, source)
    tasks = _split(table, table["task"])
    labelled: dict[str, Any] = {}
    for task, part in tasks.items():
        filters = _split(part, part["filter"])
        if len(filters) == 1:
            labelled[task] = part
            continue
        labelled |= {f"{task}/{name}": rows for name, rows in filters.items()}
    return labelled


def _split(table: Any, keys: Any) -> dict[str, Any]:
    """Rows by key, keys in order of appearance; contiguous rows are sliced without a copy."""
    if len(table) == 0:
        return {}
    encoded = keys.combine_chunks().dictionary_encode()
    codes = np.from_dlpack(encoded.indices)
    names = encoded.dictionary.to_pylist()
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    if len(starts) == len(names):
        ends = [*starts[1:], len(codes)]
        return {n: table.slice(s, e - s) for n, s, e in zip(names, starts, ends, strict=True)}
    return {name: table.take(np.flatnonzero(codes == i)) for i, name in enumerate(names)}


def floats(column: Any) -> NDArray[np.float64]:
    """A column of numbers or truth values as doubles; null becomes NaN.

    Read from the buffer: Arrow's own `to_numpy` imports pandas, which takes longer (0.4 s) than
    the rest of a gate.
    """
    if column.null_count:
        present = floats(column.is_valid()) == 1
        values = np.full(len(column), np.nan)
        values[present] = floats(column.drop_null())
        return values
    return np.asarray(np.from_dlpack(pc.cast(column, pa.float64()).combine_chunks()), np.float64)


def _check_values(table: Any, source: str) -> None:
    """Refuse missing values and shares outside [0, 1], naming the first task and item."""
    for name in SCHEMA.names:
        column = table[name]
        if name not in OPTIONAL and column.null_count:
            _refuse(table, floats(column.is_null()) == 1, f"{name} is missing", source)
        if name in SHARES:
            values = floats(column)  # NaN that is not null is refused, too
            present = floats(column.is_valid()) == 1
            bad = present & ~((values >= 0) & (values <= 1))
            if bad.any():
                first = values[np.flatnonzero(bad)[0]]
                _refuse(table, bad, f"{name} is {first}, not a number from 0 to 1", source)
    certain = floats(table["chance"]) >= 1
    if certain.any():
        _refuse(table, certain, "chance is 1: it cannot be wrong and measures nothing", source)


def _refuse(table: Any, bad: NDArray[np.bool_], problem: str, source: str) -> None:
    row = table.slice(int(np.flatnonzero(bad)[0]), 1).to_pylist()[0]
    others = int(bad.sum()) - 1
    more = f" (and of {others} more items)" if others else ""
    raise IntegrityError(
        f"{source}: task {row['task']!r}, item {row['item_id']!r}: {problem}{more}"
    )
