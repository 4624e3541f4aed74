"""The drop of one task with the interval that suits its data: binary, graded or clustered.

Two interval methods are computed where one alone is known to err; `statistics/verdict.py` uses the
safer of their verdicts. Pure functions, no files. Scores are in [0, 1], higher is better; integrity
(hashes, missing items, NaN) is settled before this module is called.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from retainbench.harness.statistics.graded import (
    MeanInterval,
    bca_interval,
    cluster_codes,
    clustered_interval,
    clustered_mean,
    edgeworth_interval,
    t_interval,
    t_tail,
)
from retainbench.harness.statistics.paired import (
    Bounds,
    Floats,
    PairedCounts,
    checked_scores,
    is_binary,
    newcombe_interval,
    normal_quantile,
    p_drop_beyond,
    p_drop_within,
    paired_counts,
    tango_interval,
)

FEWEST_FOR_BOOTSTRAP = 30  # STATISTICS 3
MOST_FOR_BOOTSTRAP = 1000  # above, BCa and its Edgeworth form differ by < .05 SE; BCa takes > 1 s
FEWEST_CHANGES = 10  # with fewer items or clusters that differ, t and bootstrap miss the tail


class Method(NamedTuple):
    """One way of putting an interval around the drop."""

    name: str
    bounds: Bounds
    p_within: float | None
    """One-sided p of H0 "D <= margin" (REGRESSION claim); None where another method gives it."""
    p_beyond: float | None
    """One-sided p of H0 "D >= margin" (PASS claim)."""


class Estimate(NamedTuple):
    """The drop with the interval that decides and, where there is one, its cross-check."""

    drop: float
    standard_error: float | None
    """Never 0: with no flips it is the half width of the score interval over its quantile."""
    primary: Method | None
    """None when the data cannot carry an interval (one cluster, one item)."""
    cross: Method | None

    @property
    def p_within(self) -> float:
        """Largest p of "D <= margin" over the methods; 1 without an interval."""
        return max((m.p_within for m in self._methods if m.p_within is not None), default=1.0)

    @property
    def p_beyond(self) -> float:
        """Largest p of "D >= margin" over the methods; 1 without an interval."""
        return max((m.p_beyond for m in self._methods if m.p_beyond is not None), default=1.0)

    @property
    def _methods(self) -> list[Method]:
        return [m for m in (self.primary, self.cross) if m is not None]


def _binary_estimate(counts: PairedCounts, confidence: float, margin: float) -> Estimate:
    bounds = tango_interval(counts, confidence)
    primary = Method("tango", bounds, p_drop_within(counts, margin), p_drop_beyond(counts, margin))
    cross = Method("newcombe", newcombe_interval(counts, confidence), None, None)
    return Estimate(counts.drop, _half_width_error(bounds, confidence), primary, cross)


def _half_width_error(bounds: Bounds, confidence: float) -> float:
    return (bounds.high - bounds.low) / 2 / normal_quantile((1 + confidence) / 2)


def _t_method(name: str, result: MeanInterval, margin: float) -> Method:
    gap = result.mean - margin
    zero_spread = math.copysign(math.inf, gap) if gap else 0.0
    statistic = gap / result.standard_error if result.standard_error > 0 else zero_spread
    p_within, p_beyond = (t_tail(s, result.degrees) for s in (statistic, -statistic))
    return Method(name, result.bounds, p_within, p_beyond)


def _summed_tango(d: Floats, effective: float, confidence: float, margin: float) -> Method | None:
    """Tango on summed losses and gains, scaled to `effective` items; None if some |d| > 1.

    Replacing a d in [-1, 1] by a flip with the same mean can only enlarge its variance, so the
    interval is conservative for graded scores and exact for flips.
    """
    if np.max(np.abs(d)) > 1:
        return None
    scale = effective / len(d)
    lost, gained = float(np.sum(d[d > 0])) * scale, -float(np.sum(d[d < 0])) * scale
    counts = PairedCounts(max(effective - lost - gained, 0.0), lost, gained, 0.0)
    return Method(
        "tango on summed changes",
        tango_interval(counts, confidence),
        p_drop_within(counts, margin),
        p_drop_beyond(counts, margin),
    )


def _graded_estimate(d: Floats, confidence: float, margin: float, seed: int) -> Estimate:
    mean, n = float(np.mean(d)), len(d)
    few = n >= FEWEST_FOR_BOOTSTRAP and np.count_nonzero(d) < FEWEST_CHANGES
    if n < 2 or few or np.ptp(d) == 0:
        method = _summed_tango(d, n, confidence, margin)
        error = _half_width_error(method.bounds, confidence) if method else None
        return Estimate(mean, error, method, None)
    student = t_interval(d, confidence)
    t_method = _t_method("t", student, margin)
    if n < FEWEST_FOR_BOOTSTRAP:
        return Estimate(mean, student.standard_error, t_method, None)
    if n <= MOST_FOR_BOOTSTRAP:
        primary = Method("bca", bca_interval(d, confidence, seed), None, None)
    else:
        primary = Method("edgeworth", edgeworth_interval(d, confidence), None, None)
    return Estimate(mean, student.standard_error, primary, t_method)


def _clustered_estimate(
    d: Floats, codes: NDArray[np.intp], confidence: float, margin: float
) -> Estimate:
    """Cluster t interval; few or binary changes are cross-checked by Tango at n / design effect."""
    mean, groups = float(np.mean(d)), int(codes.max()) + 1
    if groups < 2:
        return Estimate(mean, None, None, None)
    spread = clustered_mean(d, codes)
    effective = len(d) / max(spread.design_effect, 1.0) if spread.naive_error > 0 else groups
    changed = np.count_nonzero(np.bincount(codes, weights=np.abs(d), minlength=groups))
    flips = bool(np.all(np.isin(d, (-1, 0, 1))))
    cross = (
        _summed_tango(d, effective, confidence, margin)
        if flips or changed < FEWEST_CHANGES or spread.standard_error == 0
        else None
    )
    floor = _half_width_error(cross.bounds, confidence) if cross else 0.0
    if spread.standard_error == 0:
        return Estimate(mean, floor or None, cross, None)
    primary = _t_method("cluster-t", clustered_interval(d, codes, confidence), margin)
    return Estimate(mean, max(spread.standard_error, floor), primary, cross)


def estimate(
    base: ArrayLike,
    tuned: ArrayLike,
    *,
    confidence: float,
    clusters: ArrayLike | None = None,
    margin: float = 0.0,
    seed: int = 0,
) -> Estimate:
    """The paired drop of one task with the interval that suits its data.

    Independent 0/1 items: Tango, cross-checked by Newcombe. Independent graded items: BCa up to
    1,000 items and its Edgeworth form above, cross-checked by t; t alone below 30 items. Clusters
    with more than one item: t with G - 1 degrees of freedom; flips are cross-checked by Tango at
    n / design effect. Fewer than 10 changed items (or clusters), or no spread: Tango on the summed
    changes, because resampling cannot see what did not happen yet. The two p-values refer to
    `margin`. Raises ValueError on no items, unequal lengths or non-finite scores.

    >>> e = estimate([1, 1, 1, 0] * 25, [1, 1, 1, 0] * 25, confidence=0.90)
    >>> e.drop, e.primary.name, round(e.primary.bounds.high, 6)
    (0.0, 'tango', 0.026343)
    """
    b, t = checked_scores(base), checked_scores(tuned)
    if len(b) == 0 or b.shape != t.shape:
        raise ValueError(f"pairs need equal, non-zero lengths, got {len(b)} and {len(t)}")
    codes = item_codes(clusters, len(b))
    if is_clustered(codes):
        return _clustered_estimate(b - t, codes, confidence, margin)
    if is_binary(b, t):
        return _binary_estimate(paired_counts(b, t), confidence, margin)
    return _graded_estimate(b - t, confidence, margin, seed)


def item_codes(clusters: ArrayLike | None, n: int) -> NDArray[np.intp]:
    """Cluster codes of n items, each its own cluster when `clusters` is None."""
    codes = np.arange(n) if clusters is None else cluster_codes(clusters)
    if len(codes) != n:
        raise ValueError(f"{n} items but {len(codes)} cluster labels")
    return codes


def is_clustered(codes: NDArray[np.intp]) -> bool:
    """True when some cluster holds more than one item."""
    return len(codes) > 0 and int(codes.max()) + 1 < len(codes)
