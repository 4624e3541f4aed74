"""Planning numbers and seeds x items against STATISTICS 5-7."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retainbench.harness.statistics.paired import PairedCounts, mcnemar, tango_interval
from retainbench.harness.statistics.power import (
    false_alarms_p,
    growth_for_joint_power,
    items_needed,
    joint_power,
    minimum_detectable_effect,
    power_per_task,
    power_to_pass,
    repeat_variance,
    seeds_needed,
    unpaired_items_needed,
)
from retainbench.harness.statistics.seeds import (
    decoded_means,
    draws,
    even_weights,
    resampled_means,
    two_way,
)

SIZES = (100, 250, 500, 1000, 2500, 5000, 10000)
# STATISTICS 7: discordance -> items at 5, 3, 2, 1 pp; at 2 pp with true D .5 pp; MDE in pp.
PLANS = {
    0.05: ((124, 344, 773, 3092), 1374, (5.56, 3.52, 2.49, 1.76, 1.11, 0.79, 0.56)),
    0.10: ((248, 687, 1546, 6183), 2748, (7.86, 4.97, 3.52, 2.49, 1.57, 1.11, 0.79)),
    0.20: ((495, 1374, 3092, 12366), 5495, (11.12, 7.03, 4.97, 3.52, 2.22, 1.57, 1.11)),
}
TABLE = np.array([[1, 0, 0, 1], [0, 0, 0, 1], [1, 1, 0, 1]])


@pytest.mark.parametrize("q", PLANS)
def test_planning_table(q: float) -> None:
    items, with_drop, effects = PLANS[q]
    assert tuple(items_needed(m, q) for m in (0.05, 0.03, 0.02, 0.01)) == items
    assert items_needed(0.02, q, true_drop=0.005) == with_drop
    found = [100 * minimum_detectable_effect(n, q) for n in SIZES]
    assert found == pytest.approx(effects, abs=0.005)  # printed with two decimals


def test_unpaired_plan() -> None:
    assert unpaired_items_needed(0.03, 1 / 9) == pytest.approx(968.997, abs=1e-3)


def test_planning_never_promises_a_pass_without_enough_items() -> None:
    assert items_needed(0.02, 0.0) == 133
    needed = items_needed(0.02, 0.0)
    assert needed is not None
    assert tango_interval(PairedCounts(needed, 0, 0, 0), 0.90).high <= 0.02
    assert minimum_detectable_effect(100, 0.0) == pytest.approx(0.026343, abs=1e-6)


def test_a_drop_at_the_margin_is_never_decided() -> None:
    assert items_needed(0.02, 0.1, true_drop=0.02) is None
    assert items_needed(0.02, 0.1, true_drop=0.05) == pytest.approx(670, abs=1)


@settings(deadline=None)
@given(st.floats(0.01, 0.2), st.floats(0.01, 0.5))
def test_planned_items_reach_the_power(margin: float, q: float) -> None:
    needed = items_needed(margin, q)
    assert needed is not None
    assert power_to_pass(needed, margin, q) >= 0.8 - 1e-9


def test_joint_power() -> None:
    assert [joint_power(0.8, k) for k in (3, 9, 12)] == pytest.approx(
        [0.512, 0.134, 0.0687], abs=5e-4
    )
    assert [power_per_task(0.8, k) for k in (3, 9, 12)] == pytest.approx(
        [0.9283, 0.9755, 0.9816], abs=5e-5
    )
    assert [growth_for_joint_power(0.8, k) for k in (3, 9, 12)] == pytest.approx(
        [1.56, 2.11, 2.25], abs=5e-3
    )


def test_self_test_threshold() -> None:
    assert false_alarms_p(4, 20) == pytest.approx(0.0159, abs=5e-5)
    assert false_alarms_p(5, 20) == pytest.approx(0.0026, abs=5e-5)
    assert false_alarms_p(0, 20) == 1.0


def test_pooling_repeats_invents_evidence() -> None:
    assert mcnemar(4, 0).drop == pytest.approx(1 / 16)
    assert mcnemar(12, 0).drop == pytest.approx(0.000244141, abs=1e-9)


def test_seeds_needed() -> None:
    found = seeds_needed(0.02, 0.0001, 0.02, 0.05, items=2000)
    assert found is not None
    assert seeds_needed(0.02, 0.0004, 0.02, 0.05, items=2000) > found  # type: ignore[operator]
    assert seeds_needed(0.02, 0.0, 0.2, 0.05, items=500) is None


def test_decode_repeats() -> None:
    assert repeat_variance(0.1, 0.08, 4) == pytest.approx(0.12)
    found = decoded_means([1, 0, 1, 0, 0, 0], ["b", "b", "a", "a", "c", "c"])
    assert found.tolist() == [0.5, 0.5, 0.0]


def test_two_way_example() -> None:
    found = two_way(TABLE)
    squares = (found.ms_seed, found.ms_item, found.ms_error)
    assert found.mean == 0.5
    assert squares == pytest.approx((0.25, 0.555556, 0.138889), abs=1e-6)
    assert found.variance == pytest.approx(0.0555556, abs=1e-7)
    pooled = float(np.var(TABLE, ddof=1)) / TABLE.size
    assert pooled == pytest.approx(0.0227273, abs=1e-7)
    assert found.variance > pooled


def test_negative_components_clip_to_zero() -> None:
    checkered = [[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1]]
    found = two_way(checkered)
    assert (found.seed_variance, found.item_variance) == (0.0, 0.0)
    assert found.variance == pytest.approx(found.ms_error / 16)


@pytest.mark.parametrize("table", [[[1, 0, 1]], [[1], [0]], [[1, np.nan], [0, 1]]])
def test_two_way_refuses_what_it_cannot_estimate(table: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="2 seeds x 2 items"):
        two_way(table)


def test_bootstrap_weights_are_stratified_and_keep_clusters_whole() -> None:
    clusters = ["a", "a", "b", "c", "c", "d"]
    strata = ["x", "x", "x", "y", "y", "y"]
    for draw in draws([3, 1], clusters, strata, resamples=50, seed=(0,)):
        assert draw.items.sum(axis=1) == pytest.approx(np.ones(50))
        assert draw.items[:, :3].sum(axis=1) == pytest.approx(np.full(50, 0.5))
        assert np.array_equal(draw.items[:, 0], draw.items[:, 1])
        assert np.array_equal(draw.items[:, 3], draw.items[:, 4])
        assert draw.seeds[0].shape == (50, 3)
        assert np.all(draw.seeds[1] == 1)


def test_bootstrap_agrees_with_the_two_way_variance() -> None:
    rng = np.random.default_rng(5)
    table = rng.normal(0, 0.05, (8, 1)) + rng.normal(0, 0.2, 400) + rng.normal(0, 0.1, (8, 400))
    found = resampled_means([table], resamples=2000, seed=1)
    # Owen (2007): the bootstrap has 7/8 of the seed part; 2,000 resamples leave 1.6% noise.
    expected = np.sqrt(two_way(table).variance * 7 / 8)
    assert float(np.std(found.replicates[0])) == pytest.approx(expected, rel=0.1)


def test_methods_share_their_item_draws() -> None:
    items = np.random.default_rng(6).normal(size=300)
    one, two = np.tile(items, (3, 1)), np.tile(items + 0.1, (4, 1))
    found = resampled_means([one, two], resamples=500)
    # Same items, no seed effect: the difference has no spread at all.
    assert found.difference(1, 0, 0.95) == pytest.approx((0.1, 0.1), abs=1e-9)
    assert found.interval(0, 0.95).high - found.interval(0, 0.95).low > 0.1


def test_bootstrap_is_deterministic_and_weighs_tasks_equally() -> None:
    table = np.array([[1.0, 1, 1, 1, 0]])
    strata = ["a", "a", "a", "a", "b"]
    first, second = (resampled_means([table], strata=strata, resamples=99) for _ in range(2))
    assert np.array_equal(first.replicates, second.replicates)
    assert first.points[0] == 0.5
    assert even_weights(strata).tolist() == [0.125] * 4 + [0.5]


def test_tables_must_share_items() -> None:
    with pytest.raises(ValueError, match="share their items"):
        resampled_means([np.ones((2, 3)), np.ones((2, 4))])
