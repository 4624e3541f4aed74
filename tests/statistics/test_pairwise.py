"""Differences of methods, equivalence, ranks and the front."""

import numpy as np
import pytest

from retainbench.harness.statistics.methods.pairwise import (
    PairwiseDifference,
    pairs,
    pareto_front,
    ranks,
    reversed_pairs,
)
from retainbench.harness.statistics.methods.seeds import ColumnLayout
from retainbench.harness.statistics.paired import Bounds

SEEDS = [[1, 2, 3]] * 4


def four_methods() -> list[np.ndarray]:
    """Gains of .50, .50 (equal answers), .30 and .31 on 600 items."""
    rng = np.random.default_rng(0)
    rank = rng.random(600)
    noise = rng.normal(0, 0.005, (4, 3, 1))
    shares = np.array([0.5, 0.5, 0.3, 0.31])[:, None, None] + noise
    shares[1] = shares[0]
    return list((rank < shares).astype(float))


def test_pairs_are_told_apart_or_equivalent_and_never_both() -> None:
    found = pairs(
        four_methods(), ColumnLayout(range(600)), confidence=0.90, margin=0.03, seeds=SEEDS
    )
    by = {(p.first, p.second): p for p in found}
    assert len(found) == 6
    assert by[0, 1].value == 0.0
    assert by[0, 1].equivalent
    assert by[0, 1].holm_p == 1.0
    assert by[0, 2].holm_p < 0.05
    assert not by[0, 2].equivalent
    assert all(p.holm_p >= p.p for p in found)
    assert all(p.bounds.low <= p.value <= p.bounds.high for p in found)


def test_ranks_are_as_wide_as_the_evidence() -> None:
    found = pairs(
        four_methods(), ColumnLayout(range(600)), confidence=0.90, margin=0.03, seeds=SEEDS
    )
    assert [tuple(rank) for rank in ranks(4, found, 0.10)] == [(1, 2), (1, 2), (3, 4), (3, 4)]
    turned = ranks(4, reversed_pairs(found), 0.10)
    assert [tuple(rank) for rank in turned] == [(3, 4), (3, 4), (1, 2), (1, 2)]
    assert [tuple(rank) for rank in ranks(4, found, 0.0)] == [(1, 4)] * 4


def lead(value: float, half: float) -> list[PairwiseDifference]:
    bounds = Bounds(value - half, value + half)
    return [PairwiseDifference(0, 1, value, bounds, 0.0, 0.0, False)]


@pytest.mark.parametrize(
    ("gain", "kept", "dominated"),
    [
        ((0.10, 0.05), (0.00, 0.01), True),  # better in gain, as good in the other
        ((0.10, 0.05), (0.00, 0.04), False),  # may be worse by more than the margin
        ((0.01, 0.05), (0.00, 0.01), False),  # better in nothing for sure
        ((0.10, 0.05), (-0.10, 0.02), False),  # a trade
    ],
)
def test_domination_needs_evidence_on_one_and_no_harm_on_all(
    gain: tuple[float, float], kept: tuple[float, float], dominated: bool
) -> None:
    measures = {"gain": lead(*gain), "kept": lead(*kept)}
    front = pareto_front(2, measures, {"gain": 0.02, "kept": 0.02})
    assert front[1].dominated_by == ((0,) if dominated else ())
    assert front[0].on_front


def test_methods_that_cannot_be_told_apart_are_tied() -> None:
    measures = {"gain": lead(0.01, 0.02), "kept": lead(0.0, 0.02)}
    front = pareto_front(2, measures, {"gain": 0.02, "kept": 0.02})
    assert [point.tied_with for point in front] == [(1,), (0,)]


@pytest.mark.parametrize("graded", [False, True])
def test_two_identical_tables_differ_by_exactly_0(graded: bool) -> None:
    """Whatever their own scatter: as wide only as no change on so many items leaves open."""
    rng = np.random.default_rng(0)
    table = rng.random((3, 300)) if graded else (rng.random((3, 300)) < 0.5).astype(float)
    layout = ColumnLayout(np.arange(300))
    (found,) = pairs(
        [table, table], layout, confidence=0.90, margin=0.05, seeds=[[1, 2, 3], [1, 2, 3]]
    )
    assert (found.value, found.p, found.holm_p) == (0.0, 1.0, 1.0)
    assert -found.bounds.low == pytest.approx(found.bounds.high)
    assert found.bounds.high < 0.02
    assert found.equivalent
