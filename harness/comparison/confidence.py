"""How sure the answers are, and how rightly: soft scores, margins, Brier score, calibration error.

Accuracy notices a change when an answer flips; the log-likelihoods of the choices notice it on the
way there. `tempered` is the gold choice's probability with log-likelihoods divided by 4, which
keeps it off the ceiling where accuracy is (STATISTICS 13); `margin` is its lead over the best other
choice in nats. Pure; works on the columns of `comparison/columns.py`.

Records name their gold choice as a number or a text, which no column holds, but they store its
probability: the gold choice is the one that has it. Leaves out: items with several gold choices,
which have no single one; a task with such an item has no erosion.

Calibration is of the probabilities at temperature 1: the softmax over an item's choices of their
summed log-likelihoods, not normalised by length. Brier score: the sum over choices of (probability
- [gold])^2, 0 to 2 (Brier 1950, Mon. Weather Rev. 78:1). Expected calibration error: the mean over
items of |right - confidence| between ten bins of equal width of the likeliest choice's probability
(Guo et al. 2017, 1706.04599).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retainbench.harness.comparison.columns import RecordTable, missing

Floats = NDArray[np.float64]

TEMPERATURE = 4.0
"""Of three that were tried (1, 2, 4) the one that separated most recipes (STATISTICS 13)."""
BINS = 10
"""Of the calibration error, equal in width."""
SAME = 1e-6
"""Relative difference up to which two probabilities are one; both come from the same sum."""


class Confidence(NamedTuple):
    """Per record, in order."""

    tempered: Floats
    margins: Floats | None
    """Nats; None where a record has one likelihood, of the answer, and no other choice, as are: """
    brier: Floats | None
    top: Floats | None
    """Probability of the likeliest choice."""
    hit: Floats | None
    """1 where the likeliest choice is the gold one."""


def confidence(rows: RecordTable) -> Confidence | None:
    """Of one task's records; None where any lacks likelihoods or a single gold choice."""
    values, counts = rows.choice_logprobs.values, rows.choice_logprobs.lengths
    if not len(rows) or (counts <= 0).any() or missing(rows["soft_score"]).any():
        return None
    if not np.isfinite(values).all():
        return None
    starts = rows.choice_logprobs.starts
    soft = rows["soft_score"]
    if (counts == 1).all():
        return Confidence(np.exp(np.minimum(values, 0.0) / TEMPERATURE), None, None, None, None)
    return _of_choices(values, starts, counts, soft)


def _of_choices(
    values: Floats, starts: NDArray[np.int64], counts: NDArray[np.int64], soft: Floats
) -> Confidence | None:
    top = np.repeat(np.maximum.reduceat(values, starts), counts)
    shares = np.exp(values - top)
    shares /= np.repeat(np.add.reduceat(shares, starts), counts)
    wanted = np.repeat(soft, counts)
    distance = np.abs(shares - wanted) / np.maximum(wanted, np.finfo(float).tiny)
    nearest = np.minimum.reduceat(distance, starts)
    if (nearest > SAME).any():
        return None
    # The first choice of each item that is as near as the nearest one.
    places = np.flatnonzero(distance == np.repeat(nearest, counts))
    items = np.searchsorted(starts, places, side="right") - 1
    gold = places[np.unique(items, return_index=True)[1]]
    cooled = np.exp((values - top) / TEMPERATURE)
    tempered = cooled[gold] / np.add.reduceat(cooled, starts)
    others = values.copy()
    others[gold] = -np.inf
    squares = np.add.reduceat(shares * shares, starts)
    return Confidence(
        tempered=tempered,
        margins=values[gold] - np.maximum.reduceat(others, starts),
        brier=squares - 2 * shares[gold] + 1,
        top=np.maximum.reduceat(shares, starts),
        hit=(values[gold] >= np.maximum.reduceat(others, starts)).astype(np.float64),
    )


def calibration_error(top: Floats, hit: Floats) -> float:
    """Expected calibration error in BINS bins of the likeliest choice's probability.

    >>> round(calibration_error(np.array([0.9, 0.95, 0.55, 0.55]), np.array([1.0, 1, 1, 0])), 6)
    0.0625
    """
    places = np.minimum((top * BINS).astype(np.intp), BINS - 1)
    gaps = np.bincount(places, weights=hit - top, minlength=BINS)
    return float(np.abs(gaps).sum()) / len(top)


def slope(base: Floats, candidate: Floats) -> float | None:
    """Slope through the origin of a candidate's margins on the base's: 1 where none shrank.

    Below 1 all margins shrank alike, which a model can do without knowing less. None where the base
    has no margin at all.

    >>> slope(np.array([2.0, 4.0]), np.array([1.0, 2.0]))
    0.5
    """
    square = float(base @ base)
    return float(base @ candidate) / square if square > 0 else None
