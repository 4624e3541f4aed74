"""Columns of records: rows that are taken, lists of several lengths, keys that are counted."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest

from retainbench.harness.comparison.columns import ListColumn, _keys, numbered

LISTS = [[1.0, 2.0], None, [3.0], [], [4.0, 5.0, 6.0], None]


def column(lists: list[list[float] | None]) -> ListColumn:
    lengths = [-1 if one is None else len(one) for one in lists]
    values = list(chain.from_iterable(one or () for one in lists))
    return ListColumn(np.array(values, np.float64), np.array(lengths, np.int64))


def written(found: ListColumn) -> list[list[float] | None]:
    pairs = zip(found.starts, found.lengths, strict=True)
    return [None if n < 0 else found.values[s : s + n].tolist() for s, n in pairs]


@pytest.mark.parametrize(
    "rows",
    [
        slice(None),
        slice(1, 5),
        slice(3, 3),
        slice(None, None, 2),
        slice(None, None, -1),
        np.array([4, 0, 0, 1, 3]),
        np.array([], np.intp),
        np.array([True, False, True, True, False, True]),
    ],
    ids=str,
)
def test_lists_are_taken_as_rows_are(rows: slice | np.ndarray) -> None:
    expected = np.array([*LISTS, "end"], object)[:-1][rows]
    assert written(column(LISTS).take(rows)) == expected.tolist()


@pytest.mark.parametrize("before", ["", " ", "  "], ids=len)
@pytest.mark.parametrize(
    ("line", "keys"),
    [
        ('{"a":1}', 1),
        ('{"a":"b","c":{"d":2}}', 3),
        (r'{"a":"\":\":"}', 1),
        (r'{"a":"\\","b":1}', 2),
        ("{}", 0),
        ("", 0),
    ],
)
def test_keys_are_counted_wherever_they_begin(before: str, line: str, keys: int) -> None:
    assert _keys(f"{before}{line}\n".encode()) == keys


@pytest.mark.parametrize("values", [["a", "a", "b", "a", "c", "b"], ["b", "a"], ["x"] * 3, []])
def test_equal_values_have_the_number_of_the_first(values: list[str]) -> None:
    first = list(dict.fromkeys(values))
    assert numbered(np.array(values, object)).tolist() == [first.index(value) for value in values]
