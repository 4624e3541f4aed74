"""Flips and sequences against STATISTICS 8 and METHODS 16."""

import math

import numpy as np
import pytest

from retainbench.harness.statistics.flips import (
    chance_rescaled,
    churn_above_floor,
    flips,
)
from retainbench.harness.statistics.methods.continual import sequence_scores

SEQUENCE = [[0.8, 0.2, 0.1], [0.6, 0.9, 0.3], [0.5, 0.7, 0.95]]


def test_flips_reproduce_the_published_formula() -> None:
    # Counts in the shares of the first row above: lost 75, gained 75, of 1,000 with 300 wrong.
    base = np.repeat([1.0, 1, 0, 0], [625, 75, 75, 225])
    tuned = np.repeat([1.0, 0, 1, 0], [625, 75, 75, 225])
    found = flips(base, tuned, chance=0.25)
    assert (found.lost, found.gained, found.net, found.churn) == (75, 75, 0.0, 0.15)
    assert found.guess_allowance == pytest.approx(0.03)
    assert found.adjusted_forgetting == pytest.approx(0.045)
    free_form = flips(base, tuned, chance=0.0)
    assert (free_form.guess_allowance, free_form.adjusted_forgetting) == (0.0, 0.075)


def test_clipping_only_ever_raises() -> None:
    base, tuned = np.repeat([1.0, 0], [10, 90]), np.repeat([1.0, 0], [10, 90])
    found = flips(base, tuned, chance=0.25)
    assert found.adjusted_forgetting < 0 == found.clipped_forgetting


def test_churn_is_shown_to_exceed_the_floor_or_not() -> None:
    quiet, noisy = np.repeat([1, 0], [3, 97]), np.repeat([1, 0], [30, 70])
    assert churn_above_floor(noisy, quiet, 0.05)
    assert not churn_above_floor(quiet, quiet, 0.05)
    assert not churn_above_floor(quiet, noisy, 0.05)
    # Over a floor of nothing: four flips are not shown, five are, whatever they mean.
    few = [np.repeat([1, 0], [n, 100 - n]) for n in (0, 4, 5)]
    assert [churn_above_floor(x, few[0], 0.05) for x in few] == [False, False, True]


def test_chance_rescaled_takes_chance_per_item() -> None:
    found = chance_rescaled([1, 0, 1], [0.5, 0.5, 0.0])
    assert found.tolist() == [1.0, -1.0, 1.0]
    with pytest.raises(ValueError, match="chance 1"):
        chance_rescaled([1], 1.0)


def test_sequence_example() -> None:
    found = sequence_scores(SEQUENCE, before=[0.1] * 3, oracle=[0.85, 0.92, 0.97])
    assert found == pytest.approx((0.716667, -0.25, 0.15, 0.25, 0.03, -0.166667), abs=1e-6)


def test_sequence_without_references_leaves_them_out() -> None:
    found = sequence_scores(SEQUENCE)
    assert (found.forward_transfer, found.intransigence) == (None, None)
    alone = sequence_scores([[0.7]], before=[0.1])
    assert (alone.accuracy, alone.backward_transfer, alone.forgetting) == (0.7, None, None)


def test_sequence_needs_its_cells() -> None:
    future_unknown = [[0.8, 0.2, math.nan], *SEQUENCE[1:]]
    assert sequence_scores(future_unknown, before=[0.1] * 3).accuracy == pytest.approx(
        0.716667, abs=1e-6
    )
    broken = [SEQUENCE[0], [math.nan, 0.9, 0.3], SEQUENCE[2]]
    with pytest.raises(ValueError, match="missing"):
        sequence_scores(broken)
