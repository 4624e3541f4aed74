"""Means and differences over seeds and items: exactness, coverage, and what few seeds can show."""

import numpy as np
import pytest

from retainbench.harness.statistics.methods.seeds import (
    ColumnLayout,
    Component,
    SeedMean,
    combined,
    difference,
    item_part,
    mean_over_seeds,
    two_way,
)

CASE_Z = 1 - 0.05 ** (1 / 100)  # the worst-item limit of 100 items without a flip


def test_equal_tables_differ_by_exactly_0_with_the_width_of_no_flips() -> None:
    table = (np.random.default_rng(0).random((3, 100)) < 0.3).astype(float)
    layout = ColumnLayout(range(100))
    found = difference(table, table, layout, 0.90, paired=True)
    nothing = mean_over_seeds(np.zeros((3, 100)), layout, 0.90)
    assert found.value == 0.0
    assert found == nothing
    assert found.half_width(0.90) == pytest.approx(CASE_Z, rel=0.02)  # t with 99 degrees, not z
    assert found.p_zero == 1.0


def test_two_methods_share_what_their_items_do() -> None:
    rng = np.random.default_rng(1)
    items = (rng.random(300) < 0.3).astype(float)
    one, two = np.tile(items, (3, 1)), np.tile(items, (3, 1))
    two[:, :10] = 1
    layout = ColumnLayout(range(300))
    apart = difference(two, one, layout, 0.90, paired=True)
    alone = mean_over_seeds(one, layout, 0.90)
    assert apart.value == pytest.approx(float(np.mean(two - one)))
    assert apart.half_width(0.90) < 0.5 * alone.half_width(0.90)


def test_unpaired_seeds_add_their_variances() -> None:
    one, two = np.zeros((3, 50)), np.zeros((4, 50))
    one[0], two[0] = 0.1, 0.3
    layout = ColumnLayout(range(50))
    found = difference(one, two, layout, 0.90, paired=False)
    sides = [float(np.var(t.mean(axis=1), ddof=1)) / len(t) for t in (one, two)]
    assert found.seeds is not None
    assert found.seeds.variance == pytest.approx(sum(sides))
    assert found.seeds.degrees < 5


def test_one_seed_speaks_of_that_run() -> None:
    found = mean_over_seeds(np.zeros((1, 100)), ColumnLayout(range(100)), 0.90)
    assert found.seeds is None
    assert found.half_width(0.90) == pytest.approx(CASE_Z, rel=0.02)


def test_never_narrower_than_the_seeds_alone() -> None:
    table = np.array([[0.0] * 400, [0.1] * 400])
    found = mean_over_seeds(table, ColumnLayout(range(400)), 0.90)
    alone = 6.31375151 * np.std([0.0, 0.1], ddof=1) / np.sqrt(2)  # t with one degree of freedom
    assert found.half_width(0.90) >= alone - 1e-9
    assert found.p_at_most(0.0) > 0.05


def test_intervals_and_p_values_agree() -> None:
    found = SeedMean(0.05, Component(0.0002, 2), Component(0.0001, 50))
    low, high = found.interval(0.90)
    assert found.p_at_most(low) == pytest.approx(0.05, abs=1e-9)
    assert found.p_at_least(high) == pytest.approx(0.05, abs=1e-9)


def test_tasks_count_equally_and_keep_their_planned_correlation() -> None:
    tasks = ["a"] * 4 + ["b"]
    layout = ColumnLayout(range(5), tasks)
    assert layout.weights.tolist() == [0.125] * 4 + [0.5]
    assert mean_over_seeds([[1, 1, 1, 1, 0]], layout, 0.90).value == 0.5
    clusters = np.arange(100) // 5
    loose, tight = (ColumnLayout(clusters, ["a"] * 100, icc={"a": icc}) for icc in (0.0, 0.5))
    still = np.zeros(100)
    assert item_part(still, tight, 0.90).variance > 4 * item_part(still, loose, 0.90).variance
    assert item_part(still, ColumnLayout(clusters, scale=4 / 3), 0.90).variance == pytest.approx(
        item_part(still, ColumnLayout(clusters), 0.90).variance * 16 / 9
    )


def test_a_task_of_one_cluster_says_nothing() -> None:
    found = mean_over_seeds(np.zeros((2, 10)), ColumnLayout(["one"] * 10), 0.90)
    assert found.half_width(0.90) > 1


def test_satterthwaite() -> None:
    assert combined([Component(0.0, 5), Component(2.0, 7)]) == Component(2.0, 7)


@pytest.mark.parametrize("table", [np.zeros((2, 3)), np.array([[0.0, np.nan]])])
def test_tables_must_fit_and_be_finite(table: np.ndarray) -> None:
    with pytest.raises(ValueError, match="finite table"):
        mean_over_seeds(table, ColumnLayout(range(2)), 0.90)


@pytest.mark.parametrize(("seeds", "spread"), [(2, 0.04), (3, 0.04), (5, 0.02), (5, 0.0)])
def test_coverage_over_few_seeds(seeds: int, spread: float) -> None:
    """Seeds lose a share of the items around .15; some items are likelier to be lost by all."""
    rng = np.random.default_rng([seeds, round(100 * spread)])
    layout, trials, hits = ColumnLayout(range(200)), 300, 0
    for _ in range(trials):
        share = np.clip(rng.normal(0.15, spread, (seeds, 1)), 0, 1)
        own = rng.random(200) ** 0.5  # an item's own threshold, met by every seed
        lost = rng.random((seeds, 200)) * 0.5 + own * 0.5
        table = (lost < np.quantile(lost, share.ravel(), axis=1).diagonal()[:, None]).astype(float)
        low, high = mean_over_seeds(table, layout, 0.90).interval(0.90)
        hits += low <= 0.15 <= high
    assert hits / trials >= 0.88 - 2 * (0.1 * 0.9 / trials) ** 0.5


def test_two_seeds_more_than_pooling_them_as_items() -> None:
    rng = np.random.default_rng(5)
    table = rng.normal(0, 0.05, (8, 1)) + rng.normal(0, 0.2, 400) + rng.normal(0, 0.1, (8, 400))
    found = mean_over_seeds(table, ColumnLayout(range(400)), 0.90)
    assert found.seeds is not None
    # The residual is in both parts, so the sum is at least the two-way variance.
    assert found.seeds.variance + found.items.variance >= two_way(table).variance
