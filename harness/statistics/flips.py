"""What changed item by item: flips, soft scores, chance-rescaled accuracy, validity.

These describe; none of them gates. Raw flips and their net are always shown, with the churn of an
A/A run beside them; the published chance adjustment of flips is computed only because papers print
it (it assumes that what a model does not know before and after is unrelated, which is untrue of a
fine-tuned copy of itself). Chance is per item: 1/k for k choices, 0 for free-form answers. Pure
functions, no files.
"""

from __future__ import annotations

from collections.abc import Sequence
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


class ExpectedFlips(NamedTuple):
    """Exact expectations under a known model of knowledge and guessing, as shares of the items."""

    lost: float
    gained: float
    guess_allowance: float
    adjusted_forgetting: float
    true_forgetting: float


class SoftScores(NamedTuple):
    """Per-item confidence in the gold choice."""

    probability: Floats
    """Softmax of summed log-likelihoods over the choices, taken at gold."""
    length_normalised: Floats | None
    """The same after dividing each choice's log-likelihood by its length; None without lengths."""
    margin: Floats
    """Gold log-likelihood minus the best other choice, in nats; positive = answered right."""


class Validity(NamedTuple):
    """score = valid_rate * score_given_valid; an invalid answer scores 0."""

    score: float
    valid_rate: float
    score_given_valid: float | None
    """None when no answer was valid."""


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


def expected_flips(
    known_before: float, known_after: float, choices: int, repeated: float
) -> ExpectedFlips:
    """Expected flips when knowledge only shrinks and the rest is guessed among k choices.

    Model: a share known_before of the items is known before, known_after <= known_before of the
    same items after; of the items never known, a share `repeated` gets the same guess twice, the
    others two independent guesses. Shows how far the published adjustment is off: at no change its
    residual is p (1 - p) (k - 1) / k^2 for repeated = 0. Derived in STATISTICS 8.

    >>> [round(x, 5) for x in expected_flips(0.6, 0.55, 4, 0.8)]
    [0.0525, 0.015, 0.03375, 0.01875, 0.05]
    """
    if not 0 <= known_after <= known_before <= 1:
        raise ValueError(f"knowledge may only shrink, got {known_before} -> {known_after}")
    lucky = 1 / choices
    guessed = (1 - known_before) * (1 - repeated) * lucky * (1 - lucky)
    lost = (known_before - known_after) * (1 - lucky) + guessed
    wrong_before, wrong_after = (1 - known_before) * (1 - lucky), (1 - known_after) * (1 - lucky)
    allowance = wrong_before * wrong_after / (choices - 1)
    return ExpectedFlips(lost, guessed, allowance, lost - allowance, known_before - known_after)


def churn_above_floor(flipped: ArrayLike, flipped_in_aa: ArrayLike, alpha: float = 0.05) -> bool:
    """True when more items flip than in an A/A run of the same items (one-sided sign test).

    Churn that does not exceed the A/A churn must not be called forgetting. Unit: paired items,
    1 = the item flipped.

    >>> churn_above_floor([1] * 10 + [0] * 90, [1] * 2 + [0] * 98)
    True
    >>> churn_above_floor([1] * 3 + [0] * 97, [0] * 97 + [1] * 3)
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


def soft_scores(
    log_likelihoods: Sequence[Sequence[float]],
    gold: Sequence[int],
    lengths: Sequence[Sequence[int]] | None = None,
) -> SoftScores:
    """Probability of the gold choice per item, normalised over the item's choices.

    `log_likelihoods` are summed over the choice's tokens, in nats; items may differ in their number
    of choices (at least two). `lengths` (characters, bytes or tokens: one unit for all) give the
    length-normalised form. Compared with 0/1 scores the paired drop has far lower variance, but a
    change of confidence is not a change of answer. Raises ValueError on NaN or a gold out of range.

    >>> s = soft_scores([[-1, -2, -3], [-1, -2]], [0, 1])
    >>> s.probability.round(6).tolist(), s.margin.tolist()
    ([0.665241, 0.268941], [1.0, -1.0])
    """
    padded = _padded(log_likelihoods)
    rows, index = np.arange(len(padded)), np.asarray(gold, dtype=np.intp)
    sizes = np.array([len(row) for row in log_likelihoods])
    if len(index) != len(padded) or np.any(index < 0) or np.any(index >= sizes):
        raise ValueError("gold must name one choice of every item")
    others = padded.copy()
    others[rows, index] = -np.inf
    normalised = None
    if lengths is not None:
        units = _padded(lengths, fill=1.0)
        if units.shape != padded.shape or np.any(units <= 0):
            raise ValueError("need one positive length per choice")
        normalised = _gold_share(padded / units, index)
    margin = padded[rows, index] - others.max(axis=1)
    return SoftScores(_gold_share(padded, index), normalised, margin)


def _padded(rows: Sequence[Sequence[float]], fill: float = -np.inf) -> Floats:
    """Ragged rows as one matrix; short rows end in `fill`. Raises ValueError on NaN."""
    if not rows or min(len(row) for row in rows) < 2:
        raise ValueError("need items with at least two choices each")
    table = np.full((len(rows), max(len(row) for row in rows)), fill)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = row
    if np.any(np.isnan(table)) or np.any(np.isneginf(table.max(axis=1))):
        raise ValueError("a log-likelihood is NaN, or all of an item's are -inf: not a score")
    return table


def _gold_share(table: Floats, gold: ArrayLike) -> Floats:
    weights = np.exp(table - table.max(axis=1, keepdims=True))
    share: Floats = weights[np.arange(len(table)), gold] / weights.sum(axis=1)
    return share


def validity(scores: ArrayLike, valid: ArrayLike) -> Validity:
    """Split a mean score into how often the answer could be read and how good it was then.

    Format loss otherwise counts as forgetting. Raises ValueError when an invalid answer scores.

    >>> validity([1, 0, 1, 0], [1, 0, 1, 1])
    Validity(score=0.5, valid_rate=0.75, score_given_valid=0.6666666666666666)
    """
    values, flags = checked_scores(scores), np.asarray(valid, dtype=bool)
    if values.shape != flags.shape or not len(values):
        raise ValueError(f"need one flag per score, got {len(values)} and {len(flags)}")
    if np.any(values[~flags] != 0):
        raise ValueError("an invalid answer is a wrong answer: its score must be 0")
    given = float(np.mean(values[flags])) if flags.any() else None
    return Validity(float(np.mean(values)), float(np.mean(flags)), given)


def known_share(right: ArrayLike) -> float:
    """Share of items answered right under every permutation of their options.

    `right` is 0/1 of shape (items, permutations); permutations are repeats within the item. With
    k independent guesses k^-k is lucky (.0039 at k 4); a constant-position answerer knows nothing.

    >>> known_share([[1, 1, 1, 1], [1, 0, 0, 0]])
    0.5
    """
    table = np.asarray(right, dtype=np.float64)
    if table.ndim != 2 or table.size == 0 or not np.all(np.isin(table, (0, 1))):
        raise ValueError(f"need 0/1 of shape (items, permutations), got shape {table.shape}")
    return float(np.mean(table.all(axis=1)))
