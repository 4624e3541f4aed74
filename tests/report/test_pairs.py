"""Recipes against each other as tables: ranks, verdicts over seeds, matrices of differences."""

from __future__ import annotations

import pytest

from retainbench.harness.comparison.seed_tables import PairRow
from retainbench.harness.core.records import Interval
from retainbench.harness.report.table import pairs


def difference(first: str, second: str, value: float, holm: float, equal: bool) -> PairRow:
    """A difference in gain with a half width of 2 points."""
    interval = Interval(
        value=value, low=value - 0.02, high=value + 0.02, level=0.9, n=400, method="two-way, paired"
    )
    return PairRow(
        target="countdown",
        first=first,
        second=second,
        measure="gain",
        difference=interval,
        p=holm,
        holm_p=holm,
        equivalent=equal,
        margin=0.02,
    )


@pytest.fixture
def compared() -> list[PairRow]:
    return [
        difference("sft", "es", 0.21, 0.001, False),
        difference("sft", "dft", 0.0, 1.0, True),
        difference("es", "dft", -0.05, 0.2, False),
    ]


def test_a_matrix_marks_what_differs_and_what_is_equivalent(compared: list[PairRow]) -> None:
    (_, matrix) = pairs.grids({}, compared)
    assert matrix.caption == "Differences in gain on countdown, row minus column, pp"
    assert matrix.head == ["", "sft", "es", "dft"]
    assert matrix.cells == [
        ["sft", "", "+21.0*", "0.0="],
        ["es", "−21.0*", "", "−5.0"],
        ["dft", "0.0=", "+5.0", ""],
    ]
    (note,) = matrix.notes
    assert note.startswith("1 of 3 pairs differ (* after Holm's correction); 1 are equivalent")
    assert "Median half width of the paired 90 % intervals: 2.0 pp." in note


def test_folders_without_pairs_have_no_tables() -> None:
    assert pairs.grids({}, []) == []
