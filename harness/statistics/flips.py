"""What changed item by item: flips and chance-rescaled accuracy.

These describe; none of them gates. Raw flips and their net are always shown, with the churn of an
A/A run next to them; the published chance adjustment of flips is computed only because papers print
it (it assumes that what a model does not know before and after is unrelated, which is untrue of a
fine-tuned copy of itself). Chance is per item: 1/k for k choices, 0 for free-form answers. Pure
functions, no files.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from retainbench.harness.statistics.paired import Floats, checked_scores, mcnemar, paired_counts


class Flips(NamedTuple):
    """Raw changes of correctness between base and candidate, and their published companions."""

    lost: int
    """n10: right before, wrong after."""
    gained: int
    """n01."""
    net: float
    """(n10 - n01) / n, the drop."""
    churn: float
    """(n10 + n01) / n."""
    guess_allowance: float
    """c: the flips in each direction that independent guessing would give, as a share of n."""
    adjusted_forgetting: float
    """F = n10/n - c, unclipped: negative when guesses are repeated."""
    adjusted_transfer: float
    """B = n01/n - c, unclipped."""
    clipped_forgetting: float
    """max(0, F), as published; biased upward."""
    clipped_transfer: float


def flips(base: ArrayLike, tuned: ArrayLike, chance: ArrayLike = 0.0) -> Flips:
    """Flips between two vectors of 0/1 outcomes, with the published adjustment for guessing.

    c = (1 - a_b)(1 - a_t) / (k - 1), averaged over items as chance / (1 - chance) = 1 / (k - 1).
    Source: 2510.17776 and its code (post-forget/post-forget:src/analyze/create_csv.py). Raises
    ValueError for a chance of 1, unequal lengths, no items or outcomes other than 0 and 1.

    >>> f = flips([1, 1, 1, 0, 0], [1, 0, 1, 1, 0], chance=0.25)
    >>> f.lost, f.gained, round(f.guess_allowance, 4), round(f.adjusted_forgetting, 4)
    (1, 1, 0.0533, 0.1467)
    """
    counts = paired_counts(base, tuned)
    n, chances = int(counts.n), np.asarray(chance, np.float64)
    if n == 0 or np.any(chances >= 1):
        raise ValueError(f"need items and chances below 1, got {n} items")
    odds = float(np.mean(np.broadcast_to(chances / (1 - chances), n)))
    wrong_before = (counts.n01 + counts.n00) / n
    wrong_after = (counts.n10 + counts.n00) / n
    allowance = wrong_before * wrong_after * odds
    forgetting, transfer = counts.n10 / n - allowance, counts.n01 / n - allowance
    return Flips(
        lost=int(counts.n10),
        gained=int(counts.n01),
        net=counts.drop,
        churn=counts.discordance,
        guess_allowance=allowance,
        adjusted_forgetting=forgetting,
        adjusted_transfer=transfer,
        clipped_forgetting=max(0.0, forgetting),
        clipped_transfer=max(0.0, transfer),
    )


def churn_above_floor(flipped: ArrayLike, flipped_in_aa: ArrayLike, alpha: float) -> bool:
    """True when more items flip than in an A/A run of the same items (one-sided sign test).

    False is not a statement that both are equal: over a floor of 0, four flips are not significant
    at .05, and may well be forgetting. Unit: paired items,
    1 = the item flipped.

    >>> churn_above_floor([1] * 10 + [0] * 90, [1] * 2 + [0] * 98, 0.05)
    True
    >>> churn_above_floor([1] * 3 + [0] * 97, [0] * 97 + [1] * 3, 0.05)
    False
    """
    counts = paired_counts(flipped, flipped_in_aa)
    return mcnemar(counts.n10, counts.n01).drop <= alpha


def chance_rescaled(scores: ArrayLike, chance: ArrayLike) -> Floats:
    """(score - chance) / (1 - chance) per item: 0 for a guesser, 1 when right.

    The mean over items is unbiased for the known share when the rest is guessed, and so is its
    change, however guesses are correlated.

    >>> chance_rescaled([1, 0], 0.25).round(4).tolist()
    [1.0, -0.3333]
    """
    values, chances = checked_scores(scores), np.asarray(chance, np.float64)
    if np.any(chances >= 1):
        raise ValueError("an item with chance 1 cannot be wrong; it measures nothing")
    return (values - chances) / (1 - chances)
