"""Trajectories of checkpoints: worst point, area, and the drop at a matched gain.

A trajectory is the sequence of (budget, gain, drop) of one cell's checkpoints, the base itself
first (gain 0, drop 0). Comparing methods at the same gain answers what the same budget cannot:
whether a method forgets less or has merely learned less. The gain to match is chosen before drops
are seen, gain items and retention items are disjoint, and neither chose the checkpoint. Pure
functions, no files. Left out: extrapolation; a gain that is never reached is reported as such.
Shapes: S seeds, T checkpoints, I gain items, J retention items, B resamples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from retainbench.harness.statistics.graded import t_interval
from retainbench.harness.statistics.methods.seeds import ColumnLayout
from retainbench.harness.statistics.paired import Bounds, Floats, normal_quantile
from retainbench.harness.statistics.resampling import (
    RESAMPLES,
    draws,
    normal_scores,
    percentile,
    unseen_error,
)

BATCH = 250  # resamples at once; weights of 4,000 items then take 8 MB
UNSEEN = 2  # seed of the order in which unseen errors are added
MOST_UNREACHED = 0.05  # share of resamples that may miss the gain before the interval is withheld


class DropTrajectory(NamedTuple):
    """Drop along one trajectory, in score points."""

    worst: float
    """Largest drop at any checkpoint; the maximum of k noisy values is biased up, so its A/A value
    belongs beside it."""
    worst_at: float
    """Budget at which it occurs first."""
    end: float
    area: float
    """Integral of the drop over the budget by trapezoids: score points x unit of budget."""
    recovery: float
    """worst - end."""


class MatchedGain(NamedTuple):
    """Drop of one method at the first crossing of the target gain."""

    drop: float | None
    """None: the mean trajectory never reaches the gain."""
    bounds: Bounds | None
    """None: too many resamples do not reach it."""
    reached: float
    """Share of resamples that reach the gain."""
    reason: str | None


class MatchedGains(NamedTuple):
    """Methods at one target gain, with replicates drawn jointly so that they can be subtracted."""

    target: float
    methods: tuple[MatchedGain, ...]
    replicates: Floats
    """(P, B) drops at the crossing as resampled; NaN where a resample does not reach the gain."""
    drops: Floats
    """(P, J) drop of each item, mean over seeds and checkpoints: what resampling could see."""
    layout: ColumnLayout
    """Of the J items."""

    def difference(self, first: int, second: int, confidence: float) -> Bounds | None:
        """Interval of drop(first) - drop(second); None unless both reach the gain often enough.

        Widened by what the pair's own differences leave unseen, not by that of either method.
        """
        moved = self.drops[first] - self.drops[second]
        gaps = self.replicates[first] - self.replicates[second]
        gaps = gaps + _scatter(moved, self.layout, confidence, len(gaps))
        reached = gaps[np.isfinite(gaps)]
        if len(reached) < (1 - MOST_UNREACHED) * len(gaps):
            return None
        return percentile(reached, confidence)


class TrajectoryItems(NamedTuple):
    """Per-item values of one method: its trajectories over seeds on common items."""

    gain: Floats
    """(S, T, I): reward of the candidate - reward of the base."""
    drop: Floats
    """(S, T, J): chance-rescaled base - candidate."""


class CostRatio(NamedTuple):
    """A ratio of two measured quantities, or the reason why there is none."""

    value: float | None
    bounds: Bounds | None
    reason: str | None


def trajectory(budget: ArrayLike, drop: ArrayLike) -> DropTrajectory:
    """Worst point, end, area and recovery of one trajectory; budgets must increase.

    >>> trajectory([0, 1, 2], [0, 0.04, 0.02])
    DropTrajectory(worst=0.04, worst_at=1.0, end=0.02, area=0.05, recovery=0.02)
    """
    x, y = _points(budget, drop)
    if np.any(np.diff(x) <= 0):
        raise ValueError(f"budgets must increase, got {x.tolist()}")
    worst = int(np.argmax(y))
    area = float(np.trapezoid(y, x))
    return DropTrajectory(
        float(y[worst]), float(x[worst]), float(y[-1]), area, float(y[worst] - y[-1])
    )


def drop_at_gain(gain: ArrayLike, drop: ArrayLike, target: float) -> float | None:
    """Drop where the gain first reaches `target`, by linear interpolation; None if it never does.

    >>> a = drop_at_gain([0, 0.2, 0.4, 0.5], [0, 0.01, 0.03, 0.08], 0.3)
    >>> b = drop_at_gain([0, 0.1, 0.3], [0, 0, 0.01], 0.3)
    >>> round(a, 6), round(b, 6), drop_at_gain([0, 0.1], [0, 0], 0.3)
    (0.02, 0.01, None)
    """
    x, y = _points(gain, drop)
    found = float(_first_crossings(x[None], y[None], target)[0])
    return None if np.isnan(found) else found


def _points(first: ArrayLike, second: ArrayLike) -> tuple[Floats, Floats]:
    x, y = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if x.ndim != 1 or x.shape != y.shape or not len(x):
        raise ValueError(f"need two equal vectors, got shapes {x.shape} and {y.shape}")
    if not (np.all(np.isfinite(x)) and np.all(np.isfinite(y))):
        raise ValueError("a checkpoint's value is missing or not finite")
    return x, y


def _first_crossings(gain_BT: Floats, drop_BT: Floats, target: float) -> Floats:
    """Drop at the first crossing per row; NaN where a row never reaches the target."""
    above = gain_BT >= target
    rows, at = np.arange(len(gain_BT)), np.argmax(above, axis=1)
    before = np.maximum(at - 1, 0)
    x0, x1, y0, y1 = (
        v[rows, k] for v, k in ((gain_BT, before), (gain_BT, at), (drop_BT, before), (drop_BT, at))
    )
    rise = np.where(x1 > x0, x1 - x0, 1.0)
    # At the first point there is nothing to interpolate from: x0 = x1 and the drop is its own.
    share = np.where(x1 > x0, (target - x0) / rise, 1.0)
    return np.where(above.any(axis=1), y0 + share * (y1 - y0), np.nan)


def matched_gains(
    methods: Sequence[TrajectoryItems],
    target: float,
    asked: ColumnLayout,
    kept: ColumnLayout,
    *,
    confidence: float,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> MatchedGains:
    """Drop of each method where its mean trajectory first reaches the target gain, with intervals.

    Estimator: linear interpolation on the trajectory averaged over seeds and items (retention
    items: the unweighted mean over tasks). Resampled jointly: each method's seeds, with the same
    draw for its gains and drops; gain-item clusters; retention-item clusters within tasks; items
    drawn once for all methods. Percentile interval, widened by what the drops at the method's
    checkpoints leave unseen (`unseen_error`). Assumes the same items, in one order, for all
    methods, and checkpoints at the same budget fractions in every seed.

    Args:
        asked: layout of the I gain items.
        kept: layout of the J retention items.
    """
    gains, drops = [m.gain for m in methods], [m.drop for m in methods]
    if not methods or any(g.shape[:2] != d.shape[:2] for g, d in zip(gains, drops, strict=True)):
        raise ValueError("gain and drop of a method need the same seeds and checkpoints")
    sizes = [len(g) for g in gains]
    gain_draws = draws(sizes, asked, resamples, (seed, 0), BATCH)
    drop_draws = draws(sizes, kept, resamples, (seed, 1), BATCH)
    found = [
        [
            # One seed draw serves both: a seed's gain and drop belong to the same run.
            _first_crossings(_path(w, g, one.items), _path(w, d, two.items), target)
            for w, g, d in zip(one.seeds, gains, drops, strict=True)
        ]
        for one, two in zip(gain_draws, drop_draws, strict=True)
    ]
    replicates = np.concatenate([np.array(f) for f in found], axis=1)
    moved = np.array([d[:, 1:].mean(axis=(0, 1)) for d in drops])
    points = [
        drop_at_gain(g.mean(axis=0) @ asked.weights, d.mean(axis=0) @ kept.weights, target)
        for g, d in zip(gains, drops, strict=True)
    ]
    rows = tuple(
        _matched(p, r + _scatter(m, kept, confidence, resamples), confidence)
        for p, r, m in zip(points, replicates, moved, strict=True)
    )
    return MatchedGains(target, rows, replicates, moved, kept)


def _scatter(moved: Floats, layout: ColumnLayout, confidence: float, resamples: int) -> Floats:
    """(B,) normal errors of the size that resampling could not see, in a fixed order."""
    scores = normal_scores(resamples, UNSEEN)
    return unseen_error(moved, layout, confidence) * scores


def _path(seeds_BS: Floats, values_STI: Floats, items_BI: Floats) -> Floats:
    """Weighted mean trajectory (B, T) of every resample."""
    by_item = np.einsum("sti,bi->bst", values_STI, items_BI, optimize=True)
    path: Floats = np.einsum("bs,bst->bt", seeds_BS, by_item)
    return path


def _matched(point: float | None, replicates: Floats, confidence: float) -> MatchedGain:
    reached = replicates[np.isfinite(replicates)]
    share = len(reached) / len(replicates)
    if point is None:
        return MatchedGain(None, None, share, "not reached")
    if share < 1 - MOST_UNREACHED:
        return MatchedGain(point, None, share, f"only {share:.0%} of resamples reach the gain")
    return MatchedGain(point, percentile(reached, confidence), share, None)


def gain_per_cost(
    gain: ArrayLike,
    cost: ArrayLike,
    *,
    layout: ColumnLayout,
    confidence: float,
    cost_errors: ArrayLike = 0.0,
    smallest_cost: float = 0.0,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> CostRatio:
    """Mean gain divided by mean cost (relative drift, or KL in nats per token) with its interval.

    `gain` is (S, I), per seed and item; `cost` is (S,), one number per seed, each with the standard
    error `cost_errors` (that of a KL over its tokens; 0 for a drift, which is exact). Seeds are
    resampled together for both, items (or their clusters) for the gain; percentile interval,
    widened by what the items leave unseen (`unseen_error`). With one seed the cost is a constant of
    that run. The ratio is withheld, with a reason, when the cost does not exceed `smallest_cost`
    (the noise floor) or its own interval over seeds reaches down to it: a ratio over a number near
    zero says nothing, and a sentinel would be averaged by somebody.

    >>> layout = ColumnLayout(range(4))
    >>> gain_per_cost(
    ...     [[1, 0, 1, 0]], [0.02], layout=layout, confidence=0.90, resamples=999
    ... ).value
    25.0
    >>> gain_per_cost([[1, 0, 1, 0]], [0.0], layout=layout, confidence=0.90).reason
    'the cost, 0, does not exceed 0'
    """
    table, costs = np.atleast_2d(np.asarray(gain, np.float64)), np.asarray(cost, np.float64)
    if costs.shape != (len(table),) or not np.all(np.isfinite(costs)):
        raise ValueError(f"need one finite cost per seed ({len(table)}), got shape {costs.shape}")
    mean_cost = float(costs.mean())
    if mean_cost <= smallest_cost:
        return CostRatio(None, None, f"the cost, {mean_cost:g}, does not exceed {smallest_cost:g}")
    if len(costs) > 1 and t_interval(costs, confidence).bounds.low <= smallest_cost:
        return CostRatio(None, None, f"the interval of the cost reaches {smallest_cost:g}")
    errors = np.broadcast_to(np.asarray(cost_errors, np.float64), costs.shape)
    error = math.sqrt(float(np.sum(errors**2))) / len(costs)
    if mean_cost - normal_quantile((1 + confidence) / 2) * error <= smallest_cost:
        return CostRatio(None, None, f"the interval of the cost reaches {smallest_cost:g}")
    found = list(draws([len(table)], layout, resamples, (seed,)))
    gains = np.concatenate([np.sum((d.seeds[0] @ table) * d.items, axis=1) for d in found])
    paid = np.concatenate([d.seeds[0] @ costs for d in found])
    gains = gains + _scatter(table.mean(axis=0), layout, confidence, resamples)
    paid = paid + error * normal_scores(resamples, UNSEEN + 1)
    value = float(table.mean(axis=0) @ layout.weights) / mean_cost
    return CostRatio(value, percentile(gains / paid, confidence), None)
