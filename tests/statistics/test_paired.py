"""Paired binary and graded intervals against STATISTICS 2-4; every stats file has examples."""

import doctest
import importlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as reference

from results.statistics.simulation import exact_pass_rates
from retainbench.harness.core import paths
from retainbench.harness.statistics.clusters import clustered_mean
from retainbench.harness.statistics.graded import (
    acceleration,
    bca_interval,
    edgeworth_interval,
    t_interval,
    t_quantile,
)
from retainbench.harness.statistics.paired import (
    PairedCounts,
    mcnemar,
    newcombe_interval,
    p_drop_beyond,
    p_drop_within,
    paired_counts,
    tango_bounds,
    tango_interval,
    tango_statistic,
    wilson,
    zero_flip_items,
)

MODULES = sorted(p.stem for p in (paths.PACKAGE / "harness" / "statistics").glob("[a-z]*.py"))
GRADED = np.array([-0.4, -0.1, 0, 0, 0.05, 0.1, 0.1, 0.2, 0.3, 0.75])

# STATISTICS 2: counts, D, Newcombe, Tango at 90%, McNemar.
CASES = {
    "A": ((600, 30, 28, 342), 0.002, (-0.010636, 0.014636), (-0.010744, 0.014817), 0.895683),
    "B": ((600, 60, 45, 295), 0.015, (-0.001917, 0.031911), (-0.001876, 0.032132), 0.171565),
    "C": ((600, 110, 50, 240), 0.06, (0.039346, 0.080609), (0.039588, 0.080945), 2.388213e-6),
    "D": ((3000, 200, 140, 1660), 0.012, (0.005931, 0.018068), (0.005958, 0.018118), 0.00134104),
    "Z": ((50, 0, 0, 50), 0.0, (-0.016230, 0.016230), (-0.026343, 0.026343), 1.0),
}
cells = st.integers(0, 60)
counts_with_items = st.tuples(cells, cells, cells, cells).filter(lambda c: sum(c) > 0)


def test_every_statistics_file_has_worked_examples() -> None:
    for module in MODULES:
        tests = doctest.DocTestFinder().find(
            importlib.import_module(f"retainbench.harness.statistics.{module}")
        )
        assert any(t.examples for t in tests), module


@pytest.mark.parametrize("name", CASES)
def test_worked_cases(name: str) -> None:
    cells, drop, newcombe, tango, mcnemar_p = CASES[name]
    counts = PairedCounts(*cells)
    assert counts.drop == pytest.approx(drop, abs=1e-12)
    assert newcombe_interval(counts, 0.90) == pytest.approx(newcombe, abs=1e-6)
    assert tango_interval(counts, 0.90) == pytest.approx(tango, abs=1e-6)
    assert mcnemar(counts.n10, counts.n01).two_sided == pytest.approx(mcnemar_p, abs=1e-6, rel=1e-5)


def test_published_table() -> None:
    counts = PairedCounts(36, 12, 2, 0)
    assert newcombe_interval(counts, 0.95) == pytest.approx((0.056930, 0.340428), abs=1e-6)
    assert tango_interval(counts, 0.95) == pytest.approx((0.061112, 0.344709), abs=1e-6)


def test_newcombe_correlations() -> None:
    from retainbench.harness.statistics.paired import _newcombe_phi

    found = [float(_newcombe_phi(*np.array(CASES[k][0], float))) for k in "ABC"]
    assert found == pytest.approx([0.873594, 0.766733, 0.637617], abs=1e-6)


def test_regression_p_of_case_c() -> None:
    assert p_drop_within(PairedCounts(600, 110, 50, 240), 0.02) == pytest.approx(
        0.000662984, abs=1e-9
    )


@pytest.mark.parametrize("n", [10, 100, 5000])
def test_no_flips_leaves_a_width(n: int) -> None:
    z = 1.6448536269514722
    counts = PairedCounts(n // 2, 0, 0, n - n // 2)
    assert tango_interval(counts, 0.90).high == pytest.approx(z * z / (n + z * z), abs=1e-9)


@pytest.mark.parametrize(("margin", "items"), [(0.05, 52), (0.02, 133), (0.01, 268)])
def test_items_that_tango_passes_without_flips(margin: float, items: int) -> None:
    assert tango_interval(PairedCounts(items, 0, 0, 0), 0.90).high <= margin
    assert tango_interval(PairedCounts(items - 1, 0, 0, 0), 0.90).high > margin


@pytest.mark.parametrize(("margin", "items"), [(0.05, 59), (0.02, 149), (0.01, 299)])
def test_items_that_hold_the_level_without_flips(margin: float, items: int) -> None:
    assert zero_flip_items(margin) == items
    assert (1 - margin) ** items <= 0.05 < (1 - margin) ** (items - 1)


@pytest.mark.parametrize(
    ("n", "q", "margin", "wald", "tango"),
    [
        (100, 0.04, 0.02, 0.0885, 0.0437),
        (100, 0.04, 0.03, 0.1340, 0.0383),
        (200, 0.05, 0.02, 0.0675, 0.0474),
        (500, 0.05, 0.02, 0.0577, 0.0486),
    ],
)
def test_exact_false_pass_rates(n: int, q: float, margin: float, wald: float, tango: float) -> None:
    rates = exact_pass_rates(n, q, margin, margin)
    # STATISTICS prints four decimals.
    assert (rates["wald"], rates["tango"]) == pytest.approx((wald, tango), abs=5e-5)


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_equals_the_binomial_test(lost: int, gained: int) -> None:
    found = mcnemar(lost, gained)
    if lost + gained:
        both = reference.binomtest(lost, lost + gained).pvalue
        one = reference.binomtest(lost, lost + gained, alternative="greater").pvalue
        assert found == pytest.approx((both, one), abs=1e-12)
    else:
        assert found == (1.0, 1.0)


def test_wilson_equals_scipy() -> None:
    ours = wilson([0, 3, 10], [10, 10, 10], 0.95)
    theirs = [reference.binomtest(k, 10).proportion_ci(method="wilson") for k in (0, 3, 10)]
    assert ours.low == pytest.approx([t.low for t in theirs], abs=1e-12)
    assert ours.high == pytest.approx([t.high for t in theirs], abs=1e-12)


@settings(deadline=None)
@given(counts_with_items)
def test_swapping_base_and_candidate_mirrors_the_intervals(
    cells: tuple[int, int, int, int],
) -> None:
    there = PairedCounts(*cells)
    back = PairedCounts(there.n11, there.n01, there.n10, there.n00)
    assert back.drop == -there.drop
    for method in (tango_interval, newcombe_interval):
        low, high = method(there, 0.90)
        assert method(back, 0.90) == pytest.approx((-high, -low), abs=1e-12)


@settings(deadline=None)
@given(cells, cells, st.integers(0, 60), st.integers(1, 200), st.booleans())
def test_concordant_items_never_widen_tango(
    lost: int, gained: int, right: int, more: int, added_right: bool
) -> None:
    # Holds while concordant items are at least as many as flips. STATISTICS 12 states it without
    # that condition, and then (0, 0, 6, 0) + 1 is a counterexample: a limit cannot pass -1.
    small = PairedCounts(right + 1, lost, gained, lost + gained)
    large = (
        small._replace(n11=right + 1 + more)
        if added_right
        else small._replace(n00=lost + gained + more)
    )
    narrow, wide = tango_interval(large, 0.90), tango_interval(small, 0.90)
    assert narrow.high - narrow.low <= wide.high - wide.low + 1e-12


def test_concordant_items_can_widen_newcombe() -> None:
    # Why the property above is asserted of the deciding interval only.
    def width(wrong: int) -> float:
        low, high = newcombe_interval(PairedCounts(20, 1, 0, wrong), 0.90)
        return high - low

    assert any(width(k + 1) > width(k) for k in range(20))


@settings(deadline=None)
@given(counts_with_items, st.floats(0.001, 0.5))
def test_tango_limits_and_p_values_agree(cells: tuple[int, int, int, int], margin: float) -> None:
    counts = PairedCounts(*cells)
    low, high = tango_interval(counts, 0.90)
    assert low <= counts.drop + 1e-12 <= high + 2e-12
    if abs(high - margin) > 1e-9:
        assert (high < margin) == (p_drop_beyond(counts, margin) < 0.05)
    if abs(low - margin) > 1e-9:
        assert (low > margin) == (p_drop_within(counts, margin) < 0.05)


@settings(deadline=None)
@given(counts_with_items, st.floats(-0.9, 0.89), st.floats(0.001, 0.1))
def test_tango_statistic_falls_with_the_drop(
    cells: tuple[int, int, int, int], drop: float, step: float
) -> None:
    counts = PairedCounts(*cells)
    assert tango_statistic(counts, drop) >= tango_statistic(counts, drop + step) - 1e-9


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30), st.randoms())
def test_the_order_of_items_does_not_matter(pairs: list[tuple[bool, bool]], random: object) -> None:
    shuffled = list(pairs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert paired_counts(*zip(*pairs, strict=True)) == paired_counts(*zip(*shuffled, strict=True))


def test_many_tasks_at_once_equal_one_at_a_time() -> None:
    table = np.array([CASES[k][0] for k in CASES], float)
    bounds = tango_bounds(table[:, 1], table[:, 2], table.sum(axis=1), 0.90)
    for row, low, high in zip(table, bounds.low, bounds.high, strict=True):
        assert tango_interval(PairedCounts(*row), 0.90) == (low, high)


@pytest.mark.parametrize(
    ("base", "tuned"), [([1, 0], [1]), ([1, np.nan], [1, 0]), ([0.5], [1]), ([[1]], [[1]])]
)
def test_broken_pairs_are_refused(base: list[float], tuned: list[float]) -> None:
    with pytest.raises(ValueError, match=r"lengths|nan|0 or 1|one-dimensional"):
        paired_counts(base, tuned)


def test_no_items_is_an_error_and_not_a_zero() -> None:
    with pytest.raises(ValueError, match="at least one item"):
        tango_interval(PairedCounts(0, 0, 0, 0), 0.90)


def test_graded_example() -> None:
    found = t_interval(GRADED, 0.90)
    assert np.std(GRADED, ddof=1) == pytest.approx(0.295334, abs=1e-6)
    assert found.standard_error == pytest.approx(0.0933928, abs=1e-7)
    assert found.bounds == pytest.approx((-0.0711996, 0.2711996), abs=1e-7)
    assert acceleration(GRADED) == pytest.approx(0.0355853, abs=1e-7)
    # Ten discrete values: STATISTICS 3 gives the tolerance .006.
    assert bca_interval(GRADED, 0.90, seed=3) == pytest.approx((-0.025, 0.270), abs=0.006)


def test_bca_is_deterministic_in_its_seed() -> None:
    first, second = (bca_interval(GRADED, 0.90, seed=4, resamples=999) for _ in range(2))
    assert first == second
    assert first != bca_interval(GRADED, 0.90, seed=5, resamples=999)


def test_bca_needs_spread() -> None:
    with pytest.raises(ValueError, match="equal"):
        bca_interval(np.full(50, 0.1), 0.90, seed=0)


def test_edgeworth_form_approaches_bca() -> None:
    # Skewness 2, n 1000: the forms differ by O(1/n); .05 SE also covers 9,999 resamples' noise.
    d = np.random.default_rng(0).exponential(size=1000)
    error = float(np.std(d, ddof=1)) / np.sqrt(1000)
    bca, edgeworth = bca_interval(d, 0.90, seed=1, resamples=9999), edgeworth_interval(d, 0.90)
    assert edgeworth == pytest.approx(bca, abs=0.05 * error)


def test_clustered_example() -> None:
    d = np.array([1.0, 1, 0, 0, -1, 0, 1, 0])
    found = clustered_mean(d, np.repeat(["a", "b", "c", "d"], 2))
    assert (found.mean, found.naive_error, found.clusters) == (0.25, 0.25, 4)
    assert found.standard_error == pytest.approx(0.322749, abs=1e-6)
    assert found.standard_error * np.sqrt(3 / 4) == pytest.approx(0.279508, abs=1e-6)
    assert t_quantile(0.95, 3) == pytest.approx(2.353363, abs=1e-6)


def test_singleton_clusters_are_the_naive_error() -> None:
    found = clustered_mean(GRADED, np.arange(10))
    assert found.standard_error == pytest.approx(found.naive_error, rel=1e-12)


def test_one_cluster_carries_no_error() -> None:
    with pytest.raises(ValueError, match="two clusters"):
        clustered_mean(GRADED, np.zeros(10))
