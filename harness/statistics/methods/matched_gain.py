"""Methods at the same gain: drops where their mean trajectories first reach it, and ratios to cost.

Comparing at the same gain answers what the same budget cannot: whether a method forgets less or has
merely learned less. The gain is chosen before drops are seen, gain items and retention items are
disjoint, and neither chose the checkpoint. A method that never reaches the gain has no drop at it:
nothing is extrapolated. Pure functions, no files. Shapes: S seeds, T checkpoints (the base first),
I gain items, J retention items.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from retainbench.harness.statistics.graded import t_quantile
from retainbench.harness.statistics.methods.seeds import (
    ColumnLayout,
    Component,
    SeedMean,
    combined,
    item_part,
    mean_over_seeds,
)
from retainbench.harness.statistics.paired import Bounds, Floats


class TrajectoryItems(NamedTuple):
    """Per-item values of one method: its trajectories over seeds on common items."""

    gain: Floats
    """(S, T, I): reward of the candidate - reward of the base."""
    drop: Floats
    """(S, T, J): chance-rescaled base - candidate."""
    seeds: Sequence[int]
    """Training seeds; methods with equal ones are paired seed by seed."""


class Crossing(NamedTuple):
    """Where a mean trajectory first reaches a gain."""

    before: int
    """The checkpoint before it."""
    share: float
    """Of the way from there to the next checkpoint."""
    rise: float
    """Of the mean gain on that way; infinite where the first checkpoint has the gain already."""

    def at(self, values: Floats) -> Floats:
        """(S, T, ...) values interpolated to (S, ...)."""
        if not self.share:
            return values[:, self.before]
        found: Floats = (1 - self.share) * values[:, self.before]
        return found + self.share * values[:, self.before + 1]

    def slope(self, values_T: Floats) -> float:
        """Change of a mean per unit of gain on that way."""
        if math.isinf(self.rise):
            return 0.0
        return float(values_T[self.before + 1] - values_T[self.before]) / self.rise


class CostRatio(NamedTuple):
    """A ratio of two measured quantities, or the reason why there is none."""

    value: float | None
    bounds: Bounds | None
    reason: str | None


class _AtGain(NamedTuple):
    """A drop at a gain as two tables whose means' difference has its error."""

    kept_SJ: Floats
    asked_SI: Floats
    """Gains times the slope."""
    scale: float
    """The largest possible size of an entry of `asked_SI`."""


def crossing(gain: ArrayLike, target: float) -> Crossing | None:
    """First crossing of a gain on a mean trajectory, by linear interpolation; None if never.

    >>> crossing([0, 0.25, 0.5], 0.375)
    Crossing(before=1, share=0.5, rise=0.25)
    >>> crossing([0, 0.25], 0.375) is None
    True
    """
    path = np.asarray(gain, np.float64)
    above = np.flatnonzero(path >= target)
    if not len(above):
        return None
    at = int(above[0])
    if not at:
        return Crossing(0, 0.0, math.inf)
    rise = float(path[at] - path[at - 1])
    return Crossing(at - 1, float(target - path[at - 1]) / rise, rise)


def reach(
    items: TrajectoryItems, target: float, asked: ColumnLayout, confidence: float
) -> Crossing | str:
    """Where a method reaches a gain, or the reason why its drop there is not to be given.

    The mean gain at the best checkpoint must be shown to be at least the target: the lower limit
    of its interval (`mean_over_seeds`) is not below it.
    """
    path = items.gain.mean(axis=0) @ asked.weights
    found = crossing(path, target)
    if found is None:
        return "not reached"
    best = mean_over_seeds(items.gain[:, int(np.argmax(path))], asked, confidence)
    if best.interval(confidence).low < target:
        return f"not shown to be reached ({100 * (1 + confidence) / 2:g} %)"
    return found


def drop_at(
    items: TrajectoryItems,
    found: Crossing,
    asked: ColumnLayout,
    kept: ColumnLayout,
    confidence: float,
) -> SeedMean:
    """Drop at the crossing of a gain, over seeds and items.

    Estimator: linear interpolation of the drop on the trajectory averaged over seeds and items.
    Error: by the delta method, d(g) = (1 - s) d0 + s d1 with s = (g - g0) / (g1 - g0), so the
    gains at the two checkpoints enter with minus the slope (d1 - d0) / (g1 - g0). Per seed: drop
    minus slope x gain, t over seeds. Items: those of both kinds, which are disjoint, as
    `mean_over_seeds` has them. Assumes a slope that noise does not turn over; `reach` asks for it.
    """
    parts = _at_gain(items, found, kept)
    value = float(parts.kept_SJ.mean(axis=0) @ kept.weights)
    return _mean(value, [parts], parts, asked, kept, confidence)


def difference_at(
    first: TrajectoryItems,
    second: TrajectoryItems,
    found: tuple[Crossing, Crossing],
    asked: ColumnLayout,
    kept: ColumnLayout,
    confidence: float,
) -> SeedMean:
    """Drop of `first` minus drop of `second` at their crossings of the same gain.

    Paired on the items and, with equal seeds, on the seeds; otherwise as `drop_at`.
    """
    one, two = (_at_gain(*side, kept) for side in zip((first, second), found, strict=True))
    value = float((one.kept_SJ.mean(axis=0) - two.kept_SJ.mean(axis=0)) @ kept.weights)
    gap = _AtGain(
        one.kept_SJ.mean(axis=0, keepdims=True) - two.kept_SJ.mean(axis=0, keepdims=True),
        one.asked_SI.mean(axis=0, keepdims=True) - two.asked_SI.mean(axis=0, keepdims=True),
        one.scale + two.scale,
    )
    sides = [one, two]
    if list(first.seeds) == list(second.seeds):
        sides = [_AtGain(one.kept_SJ - two.kept_SJ, one.asked_SI - two.asked_SI, gap.scale)]
    return _mean(value, sides, gap, asked, kept, confidence)


def _at_gain(items: TrajectoryItems, found: Crossing, kept: ColumnLayout) -> _AtGain:
    slope = found.slope(items.drop.mean(axis=0) @ kept.weights)
    return _AtGain(found.at(items.drop), slope * found.at(items.gain), abs(slope))


def _mean(
    value: float,
    by_seed: Sequence[_AtGain],
    items: _AtGain,
    asked: ColumnLayout,
    kept: ColumnLayout,
    confidence: float,
) -> SeedMean:
    """A mean with the errors of its seeds (one entry per independent set) and of its items."""
    spreads = [
        Component(float(np.var(means, ddof=1)) / len(means), len(means) - 1)
        for one in by_seed
        for means in [one.kept_SJ @ kept.weights - one.asked_SI @ asked.weights]
        if len(means) > 1
    ]
    parts = [item_part(items.kept_SJ.mean(axis=0), kept, confidence)]
    if items.scale:
        gains = item_part(items.asked_SI.mean(axis=0) / items.scale, asked, confidence)
        parts.append(gains._replace(variance=gains.variance * items.scale**2))
    return SeedMean(value, combined(spreads) if spreads else None, combined(parts))


def gain_per_cost(
    gain: ArrayLike,
    cost: ArrayLike,
    *,
    layout: ColumnLayout,
    confidence: float,
    cost_errors: ArrayLike = 0.0,
    smallest_cost: float = 0.0,
) -> CostRatio:
    """Mean gain divided by mean cost (relative drift, or KL in nats per token) with its interval.

    `gain` is (S, I), per seed and item; `cost` is (S,), one number per seed, each with the standard
    error `cost_errors` (that of a KL over its tokens; 0 for a drift, which is exact). Interval:
    Fieller (1954, J. R. Stat. Soc. B 16:175), with the gain's error over seeds and items, the
    cost's over seeds and its own, and their covariance over seeds. With one seed the cost is a
    constant of that run, its own error apart. The ratio is withheld, with a reason, when the cost
    does not exceed `smallest_cost` (the noise floor) or its own interval reaches down to it: a
    ratio over a number near zero says nothing, and a sentinel would be averaged by somebody.

    >>> layout = ColumnLayout(range(4))
    >>> gain_per_cost([[1, 0, 1, 0]], [0.02], layout=layout, confidence=0.90).value
    25.0
    >>> gain_per_cost([[1, 0, 1, 0]], [0.0], layout=layout, confidence=0.90).reason
    'the cost, 0, does not exceed 0'
    """
    table, costs = np.atleast_2d(np.asarray(gain, np.float64)), np.asarray(cost, np.float64)
    if costs.shape != (len(table),) or not np.all(np.isfinite(costs)):
        raise ValueError(f"need one finite cost per seed ({len(table)}), got shape {costs.shape}")
    errors = np.broadcast_to(np.asarray(cost_errors, np.float64), costs.shape)
    paid = _cost(costs, errors)
    if reason := _worthless(paid, smallest_cost, confidence):
        return CostRatio(None, None, reason)
    earned = mean_over_seeds(table, layout, confidence)
    shared = 0.0
    if len(costs) > 1:
        both = np.cov(table @ layout.weights, costs)[0, 1] / len(costs)
        shared = float(both) * t_quantile((1 + confidence) / 2, len(costs) - 1) ** 2
    bounds = _fieller(
        earned.value, earned.half_width(confidence), paid.value, paid.half_width(confidence), shared
    )
    return CostRatio(earned.value / paid.value, bounds, None)


def _cost(by_seed: Floats, errors: Floats) -> SeedMean:
    """Mean cost with its errors over seeds and of its own measurement."""
    seeds = len(by_seed)
    spread = Component(float(np.var(by_seed, ddof=1)) / seeds, seeds - 1) if seeds > 1 else None
    own = Component(float(np.sum(errors**2)) / seeds**2, math.inf)
    return SeedMean(float(by_seed.mean()), spread, own)


def _worthless(paid: SeedMean, smallest: float, confidence: float) -> str | None:
    if paid.value <= smallest:
        return f"the cost, {paid.value:g}, does not exceed {smallest:g}"
    if paid.interval(confidence).low <= smallest:
        return f"the interval of the cost reaches {smallest:g}"
    return None


def _fieller(top: float, top_half: float, bottom: float, half: float, shared: float) -> Bounds:
    """Limits of top / bottom from the half widths of both and their t^2-fold covariance."""
    a = bottom**2 - half**2
    b = top * bottom - shared
    c = top**2 - top_half**2
    root = math.sqrt(max(0.0, b * b - a * c))
    return Bounds((b - root) / a, (b + root) / a)


def gain_per_cost_at(
    gain: Floats,
    cost: Floats,
    found: Crossing,
    target: float,
    *,
    layout: ColumnLayout,
    confidence: float,
    cost_errors: ArrayLike = 0.0,
) -> CostRatio:
    """The gain to match divided by the cost where the mean trajectory first reaches it.

    `gain` is (S, T, I), `cost` and its standard errors (S, T). The gain is a constant here, so
    Fieller's limits are the gain over the limits of the cost, whose error is that of `drop_at` (the
    measured gain moves the crossing) and its own. Withheld as in `gain_per_cost`.
    """
    slope = found.slope(cost.mean(axis=0))
    gains = found.at(gain)
    by_seed = found.at(cost) - slope * (gains @ layout.weights)
    errors = np.broadcast_to(np.asarray(cost_errors, np.float64), cost.shape)
    paid = _cost(by_seed, np.sqrt(found.at(errors**2)))  # no larger than that of either checkpoint
    items = item_part(gains.mean(axis=0), layout, confidence)
    items = items._replace(variance=items.variance * slope**2)
    paid = paid._replace(value=float(found.at(cost).mean()), items=combined([paid.items, items]))
    if reason := _worthless(paid, 0.0, confidence):
        return CostRatio(None, None, reason)
    low, high = paid.interval(confidence)
    return CostRatio(target / paid.value, Bounds(target / high, target / low), None)
