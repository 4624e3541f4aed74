"""Means over seeds and items of which hardly any changed: a width where the bootstrap has none."""

import numpy as np
import pytest

from retainbench.harness.statistics.pareto import gain_per_cost
from retainbench.harness.statistics.seeds import UNSEEN, percentile, resampled_means
from retainbench.harness.statistics.trajectory import TrajectoryItems, matched_gains
from retainbench.harness.statistics.unseen import normal_scores, unseen_error

CASE_Z = 0.026343  # STATISTICS 2: Tango's limit for 100 items without a flip


def test_a_difference_that_never_flipped_has_a_width() -> None:
    still = np.zeros((3, 200))
    found = resampled_means([still, still], strata=["a"] * 100 + ["b"] * 100, resamples=1999)
    half = CASE_Z / np.sqrt(2)  # the mean of two tasks
    assert found.interval(0, 0.90) == pytest.approx((-half, half), abs=1e-4)
    # Two methods scatter apart; their orders are random, so this one is drawn.
    assert found.difference(0, 1, 0.90).high == pytest.approx(half * np.sqrt(2), rel=0.06)


def test_ratios_and_matched_gains_have_it_too() -> None:
    still = np.zeros((2, 100))
    assert gain_per_cost(still, [0.1, 0.1001], confidence=0.90).bounds == pytest.approx(
        (-10 * CASE_Z, 10 * CASE_Z), rel=0.01
    )
    gain = np.stack([still, still + 1], axis=1)
    one = TrajectoryItems(gain, np.stack([still, still], axis=1))
    (found,) = matched_gains([one], 0.5, confidence=0.90, drop_scale=4 / 3).methods
    assert found.bounds == pytest.approx((-CASE_Z * 4 / 3, CASE_Z * 4 / 3), rel=0.01)


def test_few_clusters_that_did_not_change_are_fewer_than_their_items() -> None:
    still = np.zeros((2, 100))
    assert unseen_error(still, clusters=np.arange(100) // 5) > 3 * unseen_error(still)
    assert unseen_error(still, scale=4 / 3) == pytest.approx(unseen_error(still) * 4 / 3)
    assert unseen_error(still[:, :1]) > 0.4


def test_what_all_items_share_counts_as_little_as_nothing() -> None:
    """Everything gained is as unlikely to hold for the next item as nothing changed."""
    assert unseen_error(np.ones((3, 100))) > unseen_error(np.zeros((3, 100))) > 0
    assert unseen_error(np.tile([0.0, 1.0], (3, 50))) == 0


@pytest.mark.parametrize("shared", [True, False])
def test_rare_losses_are_covered_where_the_bootstrap_alone_misses_them(shared: bool) -> None:
    """True loss 1 % of 100 items; three seeds that lose the same items, or each its own."""
    rng = np.random.default_rng(7)
    trials = 200
    hits = {"mended": 0, "alone": 0}
    for number in range(trials):
        lost = rng.random((1 if shared else 3, 100)) < 0.01
        table = np.broadcast_to(lost, (3, 100)).astype(float)
        found = resampled_means([table], resamples=299, seed=number)
        scatter = found.unseen[:, None] * normal_scores(1, 299, (number, UNSEEN))
        for name, kept in (("mended", found.replicates), ("alone", found.replicates - scatter)):
            low, high = percentile(kept[0], 0.90)
            hits[name] += low <= 0.01 <= high
    # Four standard errors of a share of .9 over 200 trials are .085.
    assert hits["mended"] / trials > 0.90 - 0.085
    # With seeds that lose their own items the bootstrap counts the residual twice, and covers.
    assert not shared or hits["alone"] / trials < 0.75
