"""Drops, differences and ratios at a matched gain against STATISTICS 10."""

import math

import numpy as np
import pytest

from retainbench.harness.statistics.methods.matched_gain import (
    Crossing,
    TrajectoryItems,
    crossing,
    difference_at,
    drop_at,
    gain_per_cost,
    gain_per_cost_at,
    reach,
)
from retainbench.harness.statistics.methods.seeds import ColumnLayout

ASKED, KEPT = ColumnLayout(range(400)), ColumnLayout(range(600), np.repeat([0, 1], 300))
ONE = ColumnLayout(["only"])


def alone(gain: list[float], drop: list[float]) -> TrajectoryItems:
    """One seed and one item of each kind, so that means are the numbers themselves."""
    return TrajectoryItems(np.array(gain)[None, :, None], np.array(drop)[None, :, None], [0])


@pytest.mark.parametrize(
    ("gain", "drop", "target", "expected"),
    [
        ([0, 0.2, 0.4, 0.5], [0, 0.01, 0.03, 0.08], 0.3, 0.02),
        ([0, 0.1, 0.3], [0, 0, 0.01], 0.3, 0.01),
        ([0, 0.4, 0.1, 0.5], [0, 0.1, 0.2, 0.9], 0.2, 0.05),
        ([0.5, 0.6], [0.07, 0.09], 0.3, 0.07),
    ],
)
def test_worked_drops_at_the_first_crossing(
    gain: list[float], drop: list[float], target: float, expected: float
) -> None:
    found = crossing(gain, target)
    assert found is not None
    assert drop_at(alone(gain, drop), found, ONE, ONE, 0.9).value == pytest.approx(expected)


def test_nothing_is_extrapolated() -> None:
    assert crossing([0, 0.2, 0.4, 0.5], 0.6) is None


def method(
    gains: list[float], drops: list[float], seeds: int, rng: np.random.Generator
) -> TrajectoryItems:
    """Items around given mean trajectories; 400 gain items, 600 retention items."""
    wobble = rng.normal(0, 0.01, (seeds, 1, 1)) * np.array([0.0, 1.0, 1.0])[None, :, None]
    gain = np.array(gains)[None, :, None] + rng.normal(0, 0.3, (seeds, len(gains), 400)) + wobble
    drop = np.array(drops)[None, :, None] + rng.normal(0, 0.2, (seeds, len(drops), 600)) + wobble
    gain[:, 0], drop[:, 0] = 0, 0
    return TrajectoryItems(gain, drop, list(range(seeds)))


GOOD, BAD = ([0, 0.2, 0.4], [0, 0.0, 0.02]), ([0, 0.25, 0.4], [0, 0.1, 0.2])
BAD_AT = 0.1 + 0.1 * (0.3 - 0.25) / 0.15  # drop of BAD at a gain of .3


@pytest.mark.parametrize("seeds", [1, 3])
def test_intervals_at_the_same_gain_cover_the_truth(seeds: int) -> None:
    """200 draws; with a true coverage of .90, fewer than 164 hits have a probability of 1e-3."""
    rng, hits, trials = np.random.default_rng(seeds), {"drop": 0, "pair": 0}, 200
    for _ in range(trials):
        good, bad = method(*GOOD, seeds, rng), method(*BAD, seeds, rng)
        places = [reach(one, 0.3, ASKED, 0.9) for one in (good, bad)]
        here, there = (place for place in places if isinstance(place, Crossing))
        low, high = drop_at(bad, there, ASKED, KEPT, 0.9).interval(0.9)
        hits["drop"] += low <= BAD_AT <= high
        gap = difference_at(bad, good, (there, here), ASKED, KEPT, 0.9)
        low, high = gap.interval(0.9)
        hits["pair"] += low <= BAD_AT - 0.01 <= high
        assert gap.p_zero < 0.05
    assert min(hits.values()) > 164, hits


def test_a_gain_out_of_reach_or_not_shown_is_reported_as_such() -> None:
    slow = method([0, 0.1, 0.2], [0, 0, 0], 2, np.random.default_rng(3))
    assert reach(slow, 0.5, ASKED, 0.9) == "not reached"
    path = slow.gain.mean(axis=0) @ ASKED.weights
    edge = reach(slow, float(path.max()) - 0.001, ASKED, 0.9)
    assert edge == "not shown to be reached (95 %)"


def test_equal_methods_differ_by_0_and_methods_without_a_flip_have_a_width() -> None:
    still = np.zeros((2, 100))
    one = TrajectoryItems(
        np.stack([still, still + 1], axis=1), np.stack([still, still], axis=1), [0, 1]
    )
    asked, kept = ColumnLayout(range(100)), ColumnLayout(range(100), scale=4 / 3)
    found = crossing([0, 1], 0.5)
    assert found is not None
    alone = drop_at(one, found, asked, kept, 0.90)
    half = (1 - 0.05 ** (1 / 100)) * 4 / 3  # the worst-item limit of 100 items without a flip
    assert alone.interval(0.90) == pytest.approx((-half, half), rel=0.02)
    gap = difference_at(one, one, (found, found), asked, kept, 0.90)
    assert gap.value == 0.0
    # As wide as one method alone, not sqrt(2) of it: the pair's own differences are all 0.
    assert gap.interval(0.90) == pytest.approx((-half, half), rel=0.02)


def test_gain_per_cost() -> None:
    rng = np.random.default_rng(0)
    gain, cost = rng.normal(0.2, 0.3, (4, 500)), np.array([0.0100, 0.0102, 0.0098, 0.0100])
    found = gain_per_cost(gain, cost, layout=ColumnLayout(range(500)), confidence=0.95)
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
    )
    assert (found.value, found.bounds) == (None, None)
    assert found.reason is not None
    assert reason in found.reason


def test_the_error_of_a_cost_widens_the_ratio_and_may_withhold_it() -> None:
    gain, cost = np.random.default_rng(0).normal(0.2, 0.3, (3, 500)), [0.010, 0.0101, 0.0099]
    layout = ColumnLayout(range(500))
    exact, rough, unknown = (
        gain_per_cost(gain, cost, layout=layout, confidence=0.9, cost_errors=error)
        for error in (0.0, 0.003, 0.02)
    )
    assert exact.bounds is not None
    assert rough.bounds is not None
    assert rough.bounds.high - rough.bounds.low > 1.2 * (exact.bounds.high - exact.bounds.low)
    assert (exact.value, unknown.value) == (rough.value, None)


def test_gain_per_cost_at_a_gain_has_the_error_of_both() -> None:
    rng = np.random.default_rng(1)
    items = method(*GOOD, 3, rng)
    cost = np.array([[0, 0.01, 0.02]] * 3) + rng.normal(0, 1e-4, (3, 3))
    found = reach(items, 0.3, ASKED, 0.9)
    assert isinstance(found, Crossing)
    exact, rough = (
        gain_per_cost_at(
            items.gain, cost, found, 0.3, layout=ASKED, confidence=0.9, cost_errors=error
        )
        for error in (0.0, 0.003)
    )
    assert exact.value == pytest.approx(20, rel=0.1)
    assert exact.bounds is not None
    assert rough.bounds is not None
    assert exact.bounds.low < 20 < exact.bounds.high
    assert rough.bounds.high - rough.bounds.low > 1.2 * (exact.bounds.high - exact.bounds.low)
    flat = gain_per_cost_at(items.gain, 0 * cost, found, 0.3, layout=ASKED, confidence=0.9)
    assert (flat.value, flat.reason) == (None, "the cost, 0, does not exceed 0")


def test_fieller_is_the_textbook_s() -> None:
    """Top and bottom over 4 seeds; limits are the roots r of (g - r c)^2 = t^2 var(g - r c)."""
    gain = np.repeat([[0.30], [0.34], [0.26], [0.30]], 50, axis=1)
    cost = np.array([0.010, 0.012, 0.011, 0.009])
    found = gain_per_cost(gain, cost, layout=ColumnLayout(range(50)), confidence=0.9)
    assert found.bounds is not None
    for ratio in found.bounds:
        rest = gain.mean(axis=1) - ratio * cost
        seeds = float(np.var(rest, ddof=1)) / 4
        statistic = abs(rest.mean()) / math.sqrt(seeds)
        # Items add to the error, so the limits are no narrower than over seeds alone: t(3) = 2.353.
        assert statistic >= 2.353 * 0.99
