"""Paired differences that are not 0/1, and items that come in clusters.

The unit is d_i = base_i - tuned_i of one item (lower-is-better metrics are sign-flipped before
they come here); the estimand is its mean D. Clusters (a shared passage, template, subject or
generator seed) are sampled as wholes, so they, not their items, carry the evidence. Pure functions,
no files. Left out: percentile and basic bootstrap intervals, which BCa dominates for a mean.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

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


class ClusteredMean(NamedTuple):
    """A mean over items drawn in clusters."""

    mean: float
    standard_error: float
    """Corrected by sqrt(G / (G - 1))."""
    naive_error: float
    """sd / sqrt(n), as if items were independent; never an interval's basis here."""
    clusters: int

    @property
    def design_effect(self) -> float:
        """(clustered SE / naive SE)^2, or 1 when no item differs."""
        return (self.standard_error / self.naive_error) ** 2 if self.naive_error > 0 else 1.0


def t_quantile(probability: float, degrees: float) -> float:
    """Student t quantile; infinite degrees give the normal quantile.

    >>> round(t_quantile(0.95, 3), 6)
    2.353363
    """
    if math.isinf(degrees):
        return normal_quantile(probability)
    from scipy import special  # 0.2 s, which a gate without clusters does not need

    return float(special.stdtrit(degrees, probability))


def t_tail(statistic: float, degrees: float) -> float:
    """P(T >= statistic); exactly 0 or 1 for an infinite statistic (zero standard error)."""
    if math.isinf(degrees) or math.isinf(statistic):
        return normal_cdf(-statistic)
    from scipy import special

    return float(special.stdtr(degrees, -statistic))


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
    from scipy import stats  # 0.5 s to import; most gates are binary and never need it

    if len(np.unique(differences)) < 2:
        raise ValueError("all differences are equal: the bootstrap has no width to offer")
    result = stats.bootstrap(
        (differences,),
        np.mean,
        method="BCa",
        confidence_level=confidence,
        n_resamples=resamples,
        batch=max(1, BATCH_CELLS // len(differences)),
        rng=np.random.default_rng(seed),
    )
    return Bounds(*(float(x) for x in result.confidence_interval))


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


def sign_flip_p(differences: Floats, seed: int, resamples: int = RESAMPLES) -> float:
    """One-sided p of the sign-flip permutation test of D = 0 against D > 0; evidence, not a gate.

    Exact when 2^n <= resamples, else Monte Carlo. Assumes d symmetric about 0 under H0.

    >>> sign_flip_p(np.array([-.4, -.1, 0, 0, .05, .1, .1, .2, .3, .75]), seed=0)
    0.1875
    """
    from scipy import stats  # see bca_interval

    if not np.any(differences):
        return 1.0
    result = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        alternative="greater",
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, BATCH_CELLS // len(differences)),
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def cluster_codes(clusters: ArrayLike) -> NDArray[np.intp]:
    """Cluster labels of any kind as codes 0 .. G-1.

    >>> cluster_codes(["b", "a", "b"]).tolist()
    [1, 0, 1]
    """
    return np.unique(np.asarray(clusters), return_inverse=True)[1].astype(np.intp)


def clustered_mean(differences: Floats, clusters: ArrayLike) -> ClusteredMean:
    """Mean with its cluster-robust standard error.

    SE = sqrt(G/(G-1) * sum_g (sum_{i in g} (d_i - mean))^2) / n. Unit of sampling: the cluster;
    items of different clusters are independent. It can be 3 times the naive one (2411.00640).
    Raises ValueError with fewer than two clusters.

    >>> r = clustered_mean(np.array([1., 1, 0, 0, -1, 0, 1, 0]), [0, 0, 1, 1, 2, 2, 3, 3])
    >>> r.mean, r.naive_error, round(r.standard_error, 6)
    (0.25, 0.25, 0.322749)
    """
    codes = cluster_codes(clusters)
    n, groups = len(differences), int(codes.max(initial=-1)) + 1
    if len(codes) != n:
        raise ValueError(f"{n} items but {len(codes)} cluster labels")
    if groups < 2:
        raise ValueError(f"a clustered standard error needs two clusters, got {groups}")
    mean = float(np.mean(differences))
    sums = np.bincount(codes, weights=differences - mean, minlength=groups)
    error = math.sqrt(groups / (groups - 1) * float(np.sum(sums * sums))) / n
    naive = float(np.std(differences, ddof=1)) / math.sqrt(n)
    return ClusteredMean(mean, error, naive, groups)


def clustered_interval(differences: Floats, clusters: ArrayLike, confidence: float) -> MeanInterval:
    """t interval with G - 1 degrees of freedom around the clustered mean.

    >>> d = np.array([1., 1, 0, 0, -1, 0, 1, 0])
    >>> [round(x, 4) for x in clustered_interval(d, [0, 0, 1, 1, 2, 2, 3, 3], 0.90).bounds]
    [-0.5095, 1.0095]
    """
    result = clustered_mean(differences, clusters)
    half = t_quantile((1 + confidence) / 2, result.clusters - 1) * result.standard_error
    bounds = Bounds(result.mean - half, result.mean + half)
    return MeanInterval(result.mean, result.standard_error, bounds, result.clusters - 1)
