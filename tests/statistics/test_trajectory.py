"""Trajectories, matched gain and gain per cost against STATISTICS 10."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retainbench.harness.statistics.methods.seeds import ColumnLayout
from retainbench.harness.statistics.methods.trajectory import (
    TrajectoryItems,
    drop_at_gain,
    gain_per_cost,
    matched_gains,
    trajectory,
)

A = ((0, 0.2, 0.4, 0.5), (0, 0.01, 0.03, 0.08))
B = ((0, 0.1, 0.3), (0, 0, 0.01))
ASKED, KEPT = ColumnLayout(range(400)), ColumnLayout(range(600), np.repeat([0, 1], 300))


def test_worked_matched_gain() -> None:
    assert drop_at_gain(*A, 0.3) == pytest.approx(0.02)
    assert drop_at_gain(*B, 0.3) == pytest.approx(0.01)


def test_the_first_crossing_counts_and_nothing_is_extrapolated() -> None:
    there_and_back = ((0, 0.4, 0.1, 0.5), (0, 0.1, 0.2, 0.9))
    assert drop_at_gain(*there_and_back, 0.2) == pytest.approx(0.05)
    assert drop_at_gain(*A, 0.6) is None
    assert drop_at_gain([0.5, 0.6], [0.07, 0.09], 0.3) == 0.07


def test_trajectory_summary() -> None:
    found = trajectory([0, 1, 2, 4], [0, 0.06, 0.02, 0.04])
    assert found == pytest.approx((0.06, 1.0, 0.04, 0.03 + 0.04 + 0.06, 0.02))
    with pytest.raises(ValueError, match="increase"):
        trajectory([0, 1, 1], [0, 0, 0])
    with pytest.raises(ValueError, match="not finite"):
        trajectory([0, 1], [0, float("nan")])


@settings(deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=8))
def test_worst_is_never_better_than_the_end(drops: list[float]) -> None:
    found = trajectory(np.arange(len(drops)), drops)
    assert found.worst >= found.end
    assert found.recovery == pytest.approx(found.worst - found.end)


def method(gains: list[float], drops: list[float], seeds: int, seed: int) -> TrajectoryItems:
    """Items around given mean trajectories; 400 gain items, 600 retention items."""
    rng = np.random.default_rng(seed)
    wobble = rng.normal(0, 0.005, (seeds, 1, 1))
    gain = np.array(gains)[None, :, None] + rng.normal(0, 0.1, (seeds, len(gains), 400)) + wobble
    drop = np.array(drops)[None, :, None] + rng.normal(0, 0.1, (seeds, len(drops), 600)) + wobble
    return TrajectoryItems(gain, drop)


def test_matched_gains_cover_the_truth_and_pair_methods() -> None:
    good, bad = (
        method([0, 0.2, 0.4], [0, 0.0, 0.02], 3, 1),
        method([0, 0.2, 0.4], [0, 0.1, 0.2], 3, 2),
    )
    found = matched_gains([good, bad], 0.3, ASKED, KEPT, confidence=0.95, resamples=500)
    for result, truth in zip(found.methods, (0.01, 0.15), strict=True):
        assert result.drop == pytest.approx(truth, abs=0.02)
        assert result.bounds is not None
        assert result.bounds.low < result.drop < result.bounds.high  # type: ignore[operator]
    gap = found.difference(1, 0, 0.95)
    assert gap is not None
    assert 0 < gap.low < 0.14 < gap.high
    again = matched_gains([good, bad], 0.3, ASKED, KEPT, confidence=0.95, resamples=500)
    assert np.array_equal(found.replicates, again.replicates)


def test_a_gain_out_of_reach_is_reported_as_such() -> None:
    slow = method([0, 0.1, 0.2], [0, 0, 0], 2, 3)
    found = matched_gains([slow], 0.5, ASKED, KEPT, confidence=0.95, resamples=99).methods[0]
    assert (found.drop, found.bounds, found.reached, found.reason) == (
        None,
        None,
        0.0,
        "not reached",
    )
    steep = method([0, 0.1, 0.3], [0, 0, 0], 2, 4)
    edge = matched_gains([steep], 0.299, ASKED, KEPT, confidence=0.95, resamples=200)
    assert edge.methods[0].bounds is None or edge.methods[0].reached >= 0.95


def test_gain_per_cost() -> None:
    rng = np.random.default_rng(0)
    gain, cost = rng.normal(0.2, 0.3, (4, 500)), np.array([0.0100, 0.0102, 0.0098, 0.0100])
    found = gain_per_cost(
        gain, cost, layout=ColumnLayout(range(500)), confidence=0.95, resamples=500
    )
    assert found.value == pytest.approx(gain.mean() / 0.01)
    assert found.bounds is not None
    assert found.bounds.low < 20 < found.bounds.high


@pytest.mark.parametrize(
    ("cost", "floor", "reason"),
    [
        ([0.0, 0.0], 0.0, "does not exceed"),
        ([0.02, -0.01], 0.0, "reaches"),
        ([0.1, 0.1], 0.2, "exceed"),
    ],
)
def test_no_ratio_over_nothing_and_no_sentinel(
    cost: list[float], floor: float, reason: str
) -> None:
    found = gain_per_cost(
        np.ones((2, 10)),
        cost,
        layout=ColumnLayout(range(10)),
        confidence=0.95,
        smallest_cost=floor,
        resamples=50,
    )
    assert (found.value, found.bounds) == (None, None)
    assert found.reason is not None
    assert reason in found.reason


def test_the_error_of_a_cost_widens_the_ratio_and_may_withhold_it() -> None:
    gain, cost = np.random.default_rng(0).normal(0.2, 0.3, (3, 500)), [0.010, 0.0101, 0.0099]
    layout = ColumnLayout(range(500))
    exact, rough, unknown = (
        gain_per_cost(gain, cost, layout=layout, confidence=0.9, cost_errors=error, resamples=500)
        for error in (0.0, 0.003, 0.02)
    )
    assert exact.bounds is not None
    assert rough.bounds is not None
    assert rough.bounds.high - rough.bounds.low > 1.2 * (exact.bounds.high - exact.bounds.low)
    assert (exact.value, unknown.value) == (rough.value, None)


def test_matched_gains_that_never_flipped_have_a_width_and_equal_methods_differ_by_0() -> None:
    still = np.zeros((2, 100))
    gain = np.stack([still, still + 1], axis=1)
    one = TrajectoryItems(gain, np.stack([still, still], axis=1))
    asked, kept = ColumnLayout(range(100)), ColumnLayout(range(100), scale=4 / 3)
    found = matched_gains([one, one], 0.5, asked, kept, confidence=0.90)
    half = (1 - 0.05 ** (1 / 100)) * 4 / 3  # the worst-item limit of 100 items without a flip
    for method_found in found.methods:
        assert method_found.bounds == pytest.approx((-half, half), rel=0.01)
    # As wide as one method alone, not sqrt(2) of it: the pair's own differences are all 0.
    assert found.difference(0, 1, 0.90) == pytest.approx((-half, half), rel=0.01)
