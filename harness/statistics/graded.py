"""Paired differences that are not 0/1: t, BCa and Edgeworth intervals, and the worst-item limit.

The unit is d_i = base_i - tuned_i of one item (lower-is-better metrics are sign-flipped before
they come here); the estimand is its mean D. The first three see only what happened; the last one
adds an item that lost everything, and so keeps a width where nothing did. Pure functions, no files.
Left out: percentile and basic bootstrap intervals, which BCa dominates for a mean.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from retainbench.harness.statistics import beta
from retainbench.harness.statistics.paired import Bounds, Floats, normal_cdf, normal_quantile

RESAMPLES = 99_999  # 9,999 moves the limits of ten discrete values by .005 (STATISTICS 3)
BATCH_CELLS = 2_000_000  # values held at once while resampling: 16 MB of float64


class MeanInterval(NamedTuple):
    """A mean of paired differences with its standard error and two-sided interval."""

    mean: float
    standard_error: float
    bounds: Bounds
    degrees: float
    """Degrees of freedom of the t quantile; infinity for a normal quantile."""


def t_quantile(probability: float, degrees: float) -> float:
    """Student t quantile; infinite degrees give the normal quantile.

    >>> round(t_quantile(0.95, 3), 6)
    2.353363
    """
    if math.isinf(degrees):
        return normal_quantile(probability)
    if probability < 0.5:
        return -beta.t_point(probability, degrees)
    return beta.t_point(1 - probability, degrees)


def t_tail(statistic: float, degrees: float) -> float:
    """P(T >= statistic); exactly 0 or 1 for an infinite statistic (zero standard error)."""
    if math.isinf(degrees) or math.isinf(statistic):
        return normal_cdf(-statistic)
    return beta.t_upper(statistic, degrees)


def t_interval(differences: Floats, confidence: float) -> MeanInterval:
    """Student interval of the mean; unit: independent items; needs n >= 2.

    >>> d = np.array([-.4, -.1, 0, 0, .05, .1, .1, .2, .3, .75])
    >>> [round(x, 6) for x in t_interval(d, 0.90).bounds]
    [-0.0712, 0.2712]
    """
    n = len(differences)
    if n < 2:
        raise ValueError(f"a t interval needs two items, got {n}")
    mean, error = float(np.mean(differences)), float(np.std(differences, ddof=1)) / math.sqrt(n)
    half = t_quantile((1 + confidence) / 2, n - 1) * error
    return MeanInterval(mean, error, Bounds(mean - half, mean + half), n - 1)


def acceleration(differences: Floats) -> float:
    """BCa acceleration of a mean: sum e^3 / (6 (sum e^2)^1.5), e = deviation from the mean.

    >>> round(acceleration(np.array([-.4, -.1, 0, 0, .05, .1, .1, .2, .3, .75])), 7)
    0.0355853
    """
    e = differences - np.mean(differences)
    spread = float(np.sum(e * e))
    return float(np.sum(e**3)) / (6 * spread**1.5) if spread > 0 else 0.0


def bca_interval(
    differences: Floats, confidence: float, seed: int, resamples: int = RESAMPLES
) -> Bounds:
    """Bias-corrected and accelerated bootstrap of the mean, resampling items.

    Deterministic in (differences, confidence, seed, resamples). Assumes independent items and a
    finite variance; needs at least two different values. Source: Efron (1987, JASA 82:171).

    >>> d = np.array([-.4, -.1, 0, 0, .05, .1, .1, .2, .3, .75])
    >>> [round(x, 2) for x in bca_interval(d, 0.90, seed=1, resamples=9999)]
    [-0.03, 0.27]
    """
    if len(np.unique(differences)) < 2:
        raise ValueError("all differences are equal: the bootstrap has no width to offer")
    means = _resampled_means(differences, np.random.default_rng(seed), resamples)
    mean, skew = np.mean(differences), acceleration(differences)
    # Ties count half, as in scipy.stats.bootstrap, of which this gives the limits.
    below = (np.sum(means < mean) + np.sum(means <= mean)) / (2 * resamples)
    bias, z = normal_quantile(float(below)), normal_quantile((1 + confidence) / 2)
    moved = [bias + (bias + side) / (1 - skew * (bias + side)) for side in (-z, z)]
    low, high = np.percentile(means, [100 * normal_cdf(place) for place in moved])
    return Bounds(float(low), float(high))


def _resampled_means(differences: Floats, generator: np.random.Generator, resamples: int) -> Floats:
    """Means of items drawn with replacement, some at once."""
    n = len(differences)
    batch = max(1, BATCH_CELLS // n)
    sizes = [min(batch, resamples - done) for done in range(0, resamples, batch)]
    return np.concatenate(
        [differences[generator.integers(0, n, (size, n))].mean(axis=-1) for size in sizes]
    )


def edgeworth_interval(differences: Floats, confidence: float) -> Bounds:
    """Second-order analytic form of the BCa interval of a mean, for many items.

    limit(z) = mean + SE (z + a (2 z^2 + 1)), a = acceleration: BCa with the bootstrap distribution
    replaced by its Edgeworth expansion; the two differ by O(1/n) of a standard error. It needs no
    random numbers and no resampling (99,999 resamples of 10,000 items take 14 s). Unit: independent
    items. Source: Hall (1988, Ann. Stat. 16:927), DiCiccio and Efron (1992, Biometrika 79:231).

    >>> d = np.array([-.4, -.1, 0, 0, .05, .1, .1, .2, .3, .75])
    >>> [round(x, 3) for x in edgeworth_interval(d, 0.90)]
    [-0.032, 0.275]
    """
    z, skew = normal_quantile((1 + confidence) / 2), acceleration(differences)
    mean = float(np.mean(differences))
    error = float(np.std(differences, ddof=1)) / math.sqrt(len(differences))
    shift = skew * (2 * z * z + 1)
    return Bounds(mean + error * (shift - z), mean + error * (shift + z))


class Moments(NamedTuple):
    """What the worst-item limit needs of the differences: numbers, or arrays of one shape."""

    mean: ArrayLike
    square: ArrayLike
    """Mean of d^2."""
    lowest: ArrayLike
    items: ArrayLike
    """Number of independent items; fewer than were asked where items share clusters."""


def moments(differences: Floats, items: float) -> Moments:
    """Moments of differences (..., I) in [-1, 1] that count as `items` independent ones."""
    square = np.mean(differences * differences, axis=-1)
    return Moments(np.mean(differences, axis=-1), square, np.min(differences, axis=-1), items)


def mirrored(m: Moments, highest: ArrayLike) -> Moments:
    """The moments of -d, which turn an upper limit into a lower one."""
    return Moments(-np.asarray(m.mean), m.square, -np.asarray(highest), m.items)


class _Shape(NamedTuple):
    """Beta distributions on [low, 1]; where every item lost everything, width is 0."""

    low: Floats
    width: Floats
    first: Floats
    second: Floats


def _shape(m: Moments) -> _Shape:
    """Mean and variance of the mean with one more item at 1 and Dirichlet(1, ..., 1) weights."""
    mean, square, low, n = np.broadcast_arrays(*(np.asarray(x, np.float64) for x in m))
    mean, square = (mean * n + 1) / (n + 1), (square * n + 1) / (n + 1)
    spread = (square - mean * mean) / (n + 2)
    room = (low < 1) & (spread > 0)
    width = np.where(room, 1 - low, 0.0)
    centre = np.where(room, (mean - low) / np.where(room, width, 1), 0.5)
    total = centre * (1 - centre) * width * width / np.where(room, spread, 1) - 1
    total = np.where(room, total, 2.0)
    return _Shape(low, width, centre * total, (1 - centre) * total)


def worst_item_limit(m: Moments, alpha: float) -> Floats:
    """Upper limit of D at one-sided level alpha, for differences of any shape in [-1, 1].

    Estimator: the 1 - alpha quantile of a mean whose weights are random (Dirichlet, all 1) over the
    items and one more that lost everything, d = 1; by a Beta distribution on [lowest d, 1] with its
    mean and variance. For 0/1 losses it is the Clopper-Pearson limit; with nothing lost it is
    1 - alpha^(1/n), so that 59 items pass 5 points. It does not count items that changed, so jitter
    cannot pass for evidence. Unit: independent items; assumes |d| <= 1.
    Sources: Clopper and Pearson (1934, Biometrika 26:404); the bound for a bounded mean is
    Learned-Miller and Thomas (2019, 1905.06208) after Gaffke (2005).

    >>> limits = [worst_item_limit(moments(np.zeros(n), n), 0.05) for n in (58, 59)]
    >>> [round(float(x), 6) for x in limits], round(1 - 0.05 ** (1 / 59), 6)
    ([0.050339, 0.049508], 0.049508)
    >>> round(float(worst_item_limit(moments(np.repeat([1.0, 0.0], [2, 98]), 100), 0.05)), 6)
    0.061619
    """
    shape = _shape(m)
    quantile = beta.quantile(shape.first, shape.second, 1 - alpha)
    limit: Floats = np.where(shape.width > 0, shape.low + shape.width * quantile, 1.0)
    return limit


def worst_item_tail(m: Moments, margin: float) -> Floats:
    """One-sided p of "D >= margin": at most alpha exactly where the limit is at most the margin."""
    shape = _shape(m)
    place = np.clip((margin - shape.low) / np.where(shape.width > 0, shape.width, 1), 0, 1)
    tail = beta.tails(shape.first, shape.second, place, 1 - place).upper
    p: Floats = np.where(shape.width > 0, tail, 1.0)
    return p
