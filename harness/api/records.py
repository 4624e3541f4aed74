"""Item records as a DataFrame, and back: the columns are those of `records.jsonl`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retainbench.harness.core import extras
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.files.storage import read_jsonl
from retainbench.harness.core.records import ItemRecord

if TYPE_CHECKING:
    import pandas as pd

NUMBERS = {"repeat": "int64", "chance": "float64", "score": "float64", "soft_score": "float64"}
"""The other columns hold the objects of the record; `valid` is bool."""


def load_records(path: str | Path) -> pd.DataFrame:
    """The records of all items in a file that retainbench wrote, a row per item.

    Raises:
        IntegrityError: the file is missing, damaged or holds other records.
    """
    return frame(read_jsonl(Path(path), ItemRecord))


def frame(records: Iterable[ItemRecord]) -> pd.DataFrame:
    """A row per record, in order; a column per field."""
    library = pandas()
    rows = [record.model_dump(mode="json") for record in records]
    columns = {
        name: library.Series([row[name] for row in rows], dtype=NUMBERS.get(name, "object"))
        for name in ItemRecord.model_fields
    }
    found: pd.DataFrame = library.DataFrame(columns).astype({"valid": "bool"})
    return found


def pandas() -> Any:
    """The library of the DataFrames, which the base install does not have.

    Raises:
        UsageError: it is not installed; the message names the extra.
    """
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise extras.not_installed(error) or error from None
    return pandas


def records_of(table: pd.DataFrame) -> list[ItemRecord]:
    """The records of a DataFrame that `frame` made, whatever rows were taken from it.

    Raises:
        UsageError: a column is missing, or a value is not one of a record.
    """
    missing = [name for name in ItemRecord.model_fields if name not in table.columns]
    if missing:
        raise UsageError(
            f"a DataFrame of records has no column {missing[0]!r}: give one that evaluate or "
            "load_records returned"
        )
    rows = table[list(ItemRecord.model_fields)].to_dict("records")
    try:
        return [ItemRecord.model_validate({k: _value(v) for k, v in row.items()}) for row in rows]
    except ValueError as error:
        raise UsageError(f"a DataFrame of records: {error}") from error


def source(records: pd.DataFrame | str | Path) -> Path | list[ItemRecord]:
    """Records as the statistics take them: the file, or the records of a DataFrame."""
    return Path(records) if isinstance(records, str | Path) else records_of(records)


def _value(value: Any) -> Any:
    """None for what pandas has as missing."""
    return None if isinstance(value, float) and value != value else value
