"""Paired binary outcomes: counts, drop, Newcombe and Tango intervals, McNemar evidence.

Every item is answered by the base and by the candidate, so the unit is the pair (1-1, 1-0, 0-1,
0-0) and the estimand is the drop D = share right by the base - share right by the candidate.
Pure functions of numbers; no files. Used by `statistics/verdict.py`, which decides, and by
`comparison/compare.py`, which describes. Graded scores and clusters are in `statistics/graded.py`.

Left out on purpose: the Wald interval and the unpaired z test. With no flips Wald has width zero
and passes anything; the unpaired test throws the pairing away (n 1000, p .080 instead of .008).
Nothing of scipy is used here: `scipy.special` takes a third of the time in which a gate starts.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

BISECTIONS = 60  # halves a bracket of at most 2 below the spacing of float64


class Bounds(NamedTuple):
    """Lower and upper limit of a two-sided interval, in score points."""

    low: float
    high: float


class BoundsArray(NamedTuple):
    """Lower and upper limits of many intervals, in score points; equal shapes."""

    low: Floats
    high: Floats


class PairedCounts(NamedTuple):
    """Numbers of items by (base, candidate) outcome; n10 were lost, n01 gained.

    Fractional counts are allowed where a function says so (design-effect adjustment).
    """

    n11: float
    n10: float
    n01: float
    n00: float

    @property
    def n(self) -> float:
        """Number of items."""
        return self.n11 + self.n10 + self.n01 + self.n00

    @property
    def drop(self) -> float:
        """D = (n10 - n01) / n; positive when the candidate lost."""
        return (self.n10 - self.n01) / self.n

    @property
    def discordance(self) -> float:
        """q = (n10 + n01) / n, also called churn."""
        return (self.n10 + self.n01) / self.n


class McNemar(NamedTuple):
    """Exact p-values of the sign test on the discordant items (H0: lost and gained equally)."""

    two_sided: float
    drop: float
    """One-sided, against "more lost than gained"."""


def normal_quantile(probability: float) -> float:
    """Standard normal quantile, for example 1.644854 at .95.

    >>> round(normal_quantile(0.95), 6)
    1.644854
    """
    return NormalDist().inv_cdf(probability)


def normal_cdf(x: float) -> float:
    """P(Z <= x) of a standard normal, accurate in both tails.

    >>> round(normal_cdf(1.644854), 6), normal_cdf(-40) > 0, normal_cdf(math.inf)
    (0.95, False, 1.0)
    """
    return math.erfc(-x / math.sqrt(2)) / 2


def is_binary(*scores: Floats) -> bool:
    """True when every score is exactly 0 or 1 (an empty array counts as binary)."""
    return all(bool(np.all((s == 0) | (s == 1))) for s in scores)


def checked_scores(values: ArrayLike) -> Floats:
    """`values` as a float vector; raises ValueError when not one-dimensional or not finite."""
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1:
        raise ValueError(f"scores must be one-dimensional, got shape {scores.shape}")
    if not np.all(np.isfinite(scores)):
        first = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise ValueError(f"score {first} is {scores[first]}: an errored item is not a score")
    return scores


def paired_counts(base: ArrayLike, tuned: ArrayLike) -> PairedCounts:
    """Cross-tabulate two vectors of 0/1 outcomes over the same items in the same order.

    Raises ValueError on unequal lengths, NaN or a value other than 0 and 1.

    >>> paired_counts([1, 1, 0, 0, 1], [1, 0, 1, 0, 0])
    PairedCounts(n11=1, n10=2, n01=1, n00=1)
    """
    b, t = checked_scores(base), checked_scores(tuned)
    if b.shape != t.shape:
        raise ValueError(f"pairs need equal lengths, got {len(b)} and {len(t)}")
    if not is_binary(b, t):
        raise ValueError("outcomes must be 0 or 1; graded scores have their own functions")
    n11, n10 = int(np.sum(b * t)), int(np.sum(b * (1 - t)))
    n01 = int(np.sum((1 - b) * t))
    return PairedCounts(n11, n10, n01, len(b) - n11 - n10 - n01)


def wilson(successes: ArrayLike, n: ArrayLike, confidence: float) -> BoundsArray:
    """Wilson score interval of one proportion; vectorised.

    Estimator: inverted score test; unit: independent items. Source: Wilson (1927, JASA 22:209).

    >>> [round(float(x), 6) for x in wilson(0, 100, 0.90)]
    [0.0, 0.026343]
    """
    z = normal_quantile((1 + confidence) / 2)
    n_ = np.asarray(n, np.float64)
    p = np.asarray(successes, np.float64) / n_
    centre = (p + z * z / (2 * n_)) / (1 + z * z / n_)
    half = z / (1 + z * z / n_) * np.sqrt(p * (1 - p) / n_ + z * z / (4 * n_ * n_))
    # At p = 0 and p = 1 the limit is p itself; rounding would put it a hair outside or inside.
    low, high = np.where(p == 0, 0.0, centre - half), np.where(p == 1, 1.0, centre + half)
    return BoundsArray(low, high)


def _newcombe_phi(n11: Floats, n10: Floats, n01: Floats, n00: Floats) -> Floats:
    """Correlation of the two outcomes with Newcombe's continuity correction; 0 at a zero margin."""
    n = n11 + n10 + n01 + n00
    margins = (n11 + n10) * (n01 + n00) * (n11 + n01) * (n10 + n00)
    excess = n11 * n00 - n10 * n01
    corrected = np.where(excess > 0, np.maximum(excess - n / 2, 0), excess)
    return np.where(margins > 0, corrected / np.sqrt(np.where(margins > 0, margins, 1)), 0.0)


def newcombe_bounds(
    n11: ArrayLike, n10: ArrayLike, n01: ArrayLike, n00: ArrayLike, confidence: float
) -> BoundsArray:
    """Newcombe's method 10 for the paired drop, over arrays of counts of one shape."""
    a, b, c, d = (np.asarray(x, np.float64) for x in (n11, n10, n01, n00))
    n = a + b + c + d
    p1, p2, drop = (a + b) / n, (a + c) / n, (b - c) / n
    (l1, u1), (l2, u2) = wilson(a + b, n, confidence), wilson(a + c, n, confidence)
    phi = _newcombe_phi(a, b, c, d)

    def distance(x: Floats, y: Floats) -> Floats:
        return np.sqrt(np.maximum(x * x - 2 * phi * x * y + y * y, 0))

    return BoundsArray(drop - distance(p1 - l1, u2 - p2), drop + distance(u1 - p1, p2 - l2))


def newcombe_interval(counts: PairedCounts, confidence: float) -> Bounds:
    """Newcombe's method 10 (square-and-add of Wilson limits with the phi correction).

    Estimator: D of the counts; unit: independent paired items; printed as the cross-check.
    Source: Newcombe (1998, Stat. Med. 17:2635-2650). Raises ValueError when there are no items.

    >>> [round(x, 6) for x in newcombe_interval(PairedCounts(36, 12, 2, 0), 0.95)]
    [0.05693, 0.340428]
    """
    _require_items(counts)
    low, high = newcombe_bounds(*counts, confidence)
    return Bounds(float(low), float(high))


def tango_variance(n10: Floats, n01: Floats, n: Floats, drop: Floats) -> Floats:
    """n (2 w + d (1 - d)): variance of n10 - n01 when the true drop is d, w = MLE of p01."""
    a = 2 * n
    b = -n10 - n01 + (2 * n - n10 + n01) * drop
    c = -n01 * drop * (1 - drop)
    root = np.sqrt(np.maximum(b * b - 4 * a * c, 0))
    # Two forms of one root: the first loses all digits to cancellation when b > 0 and c is small.
    stable = -2 * c / np.where(b > 0, b + root, 1)
    w = np.where(b > 0, stable, (root - b) / (2 * a))
    return np.maximum(n * (2 * w + drop * (1 - drop)), 0)


def _tango_upper(n10: Floats, n01: Floats, n: Floats, z: float) -> Floats:
    """The drop d in [D, 1] at which the score statistic falls to -z, by bisection."""
    low, high = (n10 - n01) / n, np.ones_like(n)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        deviation = n10 - n01 - n * middle
        inside = deviation + z * np.sqrt(tango_variance(n10, n01, n, middle)) > 0
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return high


def tango_bounds(n10: ArrayLike, n01: ArrayLike, n: ArrayLike, confidence: float) -> BoundsArray:
    """Tango's score interval for the paired drop, over arrays of counts that broadcast.

    The lower limit is minus the upper limit with base and candidate swapped, so the interval is
    mirrored exactly, to the last bit. Fractional counts are allowed.
    """
    z = normal_quantile((1 + confidence) / 2)
    b, c, n_ = np.broadcast_arrays(*(np.asarray(x, np.float64) for x in (n10, n01, n)))
    return BoundsArray(-_tango_upper(c, b, n_, z), _tango_upper(b, c, n_, z))


def tango_interval(counts: PairedCounts, confidence: float) -> Bounds:
    """Tango's score interval of the drop: the interval that decides binary tasks.

    Estimator: D of the counts; unit: independent paired items; inverts the score test with the
    constrained MLE, so it keeps a positive width with no flips at all (z^2 / (n + z^2)).
    Source: Tango (1998, Stat. Med. 17:891-908). Raises ValueError when there are no items.

    >>> [round(x, 6) for x in tango_interval(PairedCounts(600, 60, 45, 295), 0.90)]
    [-0.001876, 0.032132]
    """
    _require_items(counts)
    low, high = tango_bounds(counts.n10, counts.n01, counts.n, confidence)
    return Bounds(float(low), float(high))


def tango_statistic(counts: PairedCounts, drop: float) -> float:
    """T(d) = (n10 - n01 - n d) / sqrt(variance under d); 0 for no flips at d = 0.

    >>> round(tango_statistic(PairedCounts(600, 110, 50, 240), 0.02), 4)
    3.2103
    """
    _require_items(counts)
    n10, n01, n, d = (np.asarray(x, np.float64) for x in (*counts[1:3], counts.n, drop))
    deviation = float(n10 - n01 - n * d)
    if deviation == 0:
        return 0.0
    variance = float(tango_variance(n10, n01, n, d))
    return deviation / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, deviation)


def p_drop_within(counts: PairedCounts, margin: float) -> float:
    """One-sided p of H0 "D <= margin": small values support a REGRESSION claim.

    >>> round(p_drop_within(PairedCounts(600, 110, 50, 240), 0.02), 9)
    0.000662984
    """
    return normal_cdf(-tango_statistic(counts, margin))


def p_drop_beyond(counts: PairedCounts, margin: float) -> float:
    """One-sided p of H0 "D >= margin": small values support a PASS.

    >>> p_drop_beyond(PairedCounts(600, 30, 28, 342), 0.02) < 0.05
    True
    """
    return normal_cdf(tango_statistic(counts, margin))


def mcnemar(lost: float, gained: float) -> McNemar:
    """Exact sign test on the discordant items: printed as evidence, decides nothing.

    Equal to scipy.stats.binomtest(lost, lost + gained); with no flips both p are 1. Not
    significant is not a PASS, and significant within the margin is not a REGRESSION. Use per
    sample: 2602.10144.

    >>> round(mcnemar(60, 45).two_sided, 6), mcnemar(4, 0).drop
    (0.171565, 0.0625)
    """
    flips, fewer = int(lost + gained), int(min(lost, gained))
    if flips == 0:
        return McNemar(1.0, 1.0)
    two_sided = min(1.0, 2 * _coin_cdf(fewer, flips))
    return McNemar(two_sided, _coin_cdf(int(gained), flips))


def _coin_cdf(heads: int, flips: int) -> float:
    """P(at most so many heads) of a fair coin: binomials by their ratios, in logarithms."""
    done = np.arange(heads)
    logs = np.concatenate([[0.0], np.cumsum(np.log((flips - done) / (done + 1)))])
    return float(min(1.0, np.exp(logs - flips * math.log(2)).sum()))


def zero_flip_items(margin: float, alpha: float = 0.05) -> int:
    """Items needed for a PASS when not one item flips: (1 - m)^n <= alpha.

    The number at which a true drop of the margin shows no flip in at most alpha of the runs; by
    Tango alone 52, 133 and 268 would do, and pass wrongly in 7 % of them.

    >>> [zero_flip_items(m) for m in (0.05, 0.02, 0.01)]
    [59, 149, 299]
    """
    return math.ceil(math.log(alpha) / math.log1p(-margin))


def _require_items(counts: PairedCounts) -> None:
    if counts.n <= 0 or min(counts) < 0:
        raise ValueError(f"need at least one item and no negative count, got {counts}")
