"""Recipes against each other as tables: ranks, verdicts over seeds, matrices of differences."""

from __future__ import annotations

import pytest

from retainbench.harness.comparison.matched import MatchedPairRow
from retainbench.harness.comparison.methods import MethodRow
from retainbench.harness.comparison.seed_tables import PairRow
from retainbench.harness.core.changes import Interval
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
    (_, _, matrix) = pairs.grids({}, compared)
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


@pytest.mark.parametrize("verdict", ["PASS", None])
def test_ranks_have_a_verdict_only_over_several_seeds(
    verdict: str | None, compared: list[PairRow]
) -> None:
    row = MethodRow.model_construct(
        target="countdown", recipe="sft", ranks={"gain": [1, 2]}, verdict=verdict, on_front=None
    )
    ranks, *_ = pairs.grids({("fruitfly", "countdown", "sft"): row}, compared)
    assert ranks.head == ["Target", "Recipe", "Gain", *["Over seeds"] * bool(verdict), "Front"]
    assert ranks.cells == [["countdown", "sft", "1–2", *["PASS"] * bool(verdict), "—"]]
    assert ("REGRESSION" in ranks.notes[0]) == bool(verdict)


def test_folders_without_pairs_have_no_tables() -> None:
    assert pairs.grids({}, []) == []


def test_pairs_at_the_same_gain_are_a_matrix_with_reasons_in_the_csv() -> None:
    gap = Interval(value=0.031, low=0.01, high=0.052, level=0.9, n=400, method="two-way")
    first = MatchedPairRow(
        target="countdown",
        first="sft",
        second="es",
        axis="numeric",
        gain=0.08,
        share=None,
        difference=gap,
        p=0.01,
        holm_p=0.02,
        reason=None,
    )
    later = first.model_copy(update={"share": 1.0, "holm_p": None})
    never = first.model_copy(
        update={"second": "dft", "difference": None, "p": None, "holm_p": None}
        | {"reason": "dft: not reached"}
    )
    (grid,) = pairs.matched([first, later, never])
    assert grid.head == ["", "sft", "es"]
    assert grid.cells == [["sft", "", "+3.1*"], ["es", "−3.1*", ""]]
    assert "1 of 2 pairs have one that both are shown to reach; 1 of them differ" in grid.notes[0]
    assert "Of 1 later checkpoints" in grid.notes[0]
    assert pairs.matched([never]) == []
    head, *lines = pairs.to_csv([], [first, later, never]).splitlines()
    assert head.startswith("target,first,second,measure,gain,share,difference")
    assert lines[0] == "countdown,sft,es,numeric,0.08,,0.031,0.01,0.052,0.9,0.01,0.02,,,"
    assert lines[2].endswith(",dft: not reached")


def test_pairs_that_can_be_distinguished_are_counted_by_measure(compared: list[PairRow]) -> None:
    eroded = [pair.model_copy(update={"measure": "numeric erosion"}) for pair in compared]
    right = [pair.model_copy(update={"measure": "numeric", "holm_p": 1.0}) for pair in compared]
    (_, counts, *_) = pairs.grids({}, [*compared, *right, *eroded])
    assert counts.head == ["Target", "Axis", "By accuracy", "By erosion", "Equivalent"]
    assert counts.cells == [["countdown", "numeric", "0 of 3", "1 of 3", "1 of 3"]]
