"""Methods compared over training seeds and items: both are random, and every seed sees every item.

Certifying one checkpoint needs none of this (items random, seed fixed). A claim about a method
needs at least two seeds, better five; seeds, repeats and epochs are never pooled as if they were
items. X[s, i] is the paired drop (or gain) of seed s on item i. `mean_over_seeds` gives the
interval that tables print; `two_way` splits the variance for planning. A failure that happens in
one run of three shows in none of three seeds 30 % of the time, and no interval then covers it
(results/statistics). Pure functions, no files. Shapes: S seeds, I items.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from retainbench.harness.statistics.clusters import PLANNING_ICC, Design
from retainbench.harness.statistics.estimate import estimate_of
from retainbench.harness.statistics.graded import t_quantile, t_tail
from retainbench.harness.statistics.paired import Bounds, Floats


class TwoWay(NamedTuple):
    """Two-way random effects of a fully crossed seeds x items table."""

    mean: float
    variance: float
    """Of the mean over seeds and items, for new seeds and new items."""
    degrees: float
    """Satterthwaite degrees of freedom of `variance`."""
    ms_seed: float
    ms_item: float
    ms_error: float
    seed_variance: float
    """Variance component of seeds, clipped at 0; the others likewise."""
    item_variance: float
    error_variance: float

    def interval(self, confidence: float) -> Bounds:
        """t interval of the mean with Satterthwaite degrees of freedom."""
        half = t_quantile((1 + confidence) / 2, self.degrees) * math.sqrt(self.variance)
        return Bounds(self.mean - half, self.mean + half)


class Component(NamedTuple):
    """One source of error of a mean."""

    variance: float
    degrees: float
    """Of freedom of the variance; infinite when it is known."""


class Stratum(NamedTuple):
    """The items of one task in a table of several."""

    items: NDArray[np.intp]
    design: Design
    scale: float
    """The largest possible size of a difference: 1, or 1 / (1 - chance) where it is rescaled."""


class ColumnLayout:
    """What the columns of a table are: which task, which cluster, how large a change can be."""

    def __init__(
        self,
        clusters: ArrayLike,
        strata: ArrayLike | None = None,
        scale: ArrayLike = 1.0,
        icc: Mapping[str, float] | None = None,
    ) -> None:
        """Layout of I items.

        Args:
            clusters: label of each item's cluster; those of different tasks never meet.
            strata: task of each item; None for one task.
            scale: per item or one number, see `Stratum`.
            icc: task -> planning ICC, where it is not `PLANNING_ICC`.

        Raises:
            ValueError: not one cluster and one task per item, or no items.
        """
        labels = np.asarray(clusters)
        names = np.zeros(len(labels), np.intp) if strata is None else np.asarray(strata)
        if labels.ndim != 1 or names.shape != labels.shape or not len(labels):
            raise ValueError(f"need one cluster and one task per item, got {labels.shape}")
        scales = np.broadcast_to(np.asarray(scale, np.float64), labels.shape)
        self.items = len(labels)
        self.strata: list[Stratum] = []
        for name in np.unique(names):
            at = np.flatnonzero(names == name)
            design = Design(labels[at], (icc or {}).get(str(name), PLANNING_ICC))
            self.strata.append(Stratum(at, design, float(scales[at].max())))

    @property
    def weights(self) -> Floats:
        """(I,) weights whose weighted sum is the unweighted mean of the tasks' means."""
        weights = np.empty(self.items)
        for stratum in self.strata:
            weights[stratum.items] = 1 / (len(self.strata) * len(stratum.items))
        return weights


class SeedMean(NamedTuple):
    """A mean over seeds and items with its two sources of error."""

    value: float
    seeds: Component | None
    """None with one seed: the interval then speaks of that run alone."""
    items: Component

    def half_width(self, confidence: float) -> float:
        """Of the two-sided interval; see `mean_over_seeds`."""
        return _half_width([self.seeds, self.items], self.seeds, (1 + confidence) / 2)

    def interval(self, confidence: float) -> Bounds:
        """Two-sided interval of the mean."""
        half = self.half_width(confidence)
        return Bounds(self.value - half, self.value + half)

    def p_at_most(self, value: float) -> float:
        """One-sided p of H0 "the mean is at most this": the larger of the two intervals' p."""
        return max(
            t_tail((self.value - value) / math.sqrt(part.variance), part.degrees)
            if part.variance > 0
            else float(self.value <= value)
            for part in self._deciding
        )

    def p_at_least(self, value: float) -> float:
        """One-sided p of H0 "the mean is at least this"."""
        return self._replace(value=-self.value).p_at_most(-value)

    @property
    def p_zero(self) -> float:
        """Two-sided p of H0 "the mean is 0"."""
        return min(1.0, 2 * min(self.p_at_most(0.0), self.p_at_least(0.0)))

    @property
    def _deciding(self) -> list[Component]:
        both = combined([self.seeds, self.items])
        return [both] if self.seeds is None else [both, self.seeds]


def combined(parts: Sequence[Component | None]) -> Component:
    """The sum of independent variances with Satterthwaite degrees of freedom.

    >>> part = combined([Component(1.0, 2), Component(1.0, 10), None])
    >>> part.variance, round(part.degrees, 3)
    (2.0, 6.667)
    """
    known = [part for part in parts if part is not None]
    total = sum(part.variance for part in known)
    spread = sum(part.variance**2 / part.degrees for part in known)
    return Component(total, total**2 / spread if spread > 0 else math.inf)


def _half_width(parts: Sequence[Component | None], seeds: Component | None, level: float) -> float:
    found = [combined(parts), *([] if seeds is None else [seeds])]
    return max(t_quantile(level, part.degrees) * math.sqrt(part.variance) for part in found)


def mean_over_seeds(table: ArrayLike, layout: ColumnLayout, confidence: float) -> SeedMean:
    """Mean of X[S, I] over seeds and tasks, for new seeds and new items.

    Estimator: the unweighted mean of the tasks' means. Variance: that of the seeds' means over S,
    plus that of the items' means over seeds (as `estimate_of` has it: CR2 over clusters, never
    below the worst-item limit's), so the residual, which is in both, counts twice, and no component
    can be negative. Interval: t with Satterthwaite degrees of freedom, and at least as wide as the
    t interval over the seeds' means alone, without which two seeds that agree by chance would show
    too much. For the difference of two methods with the same seeds, give the difference of their
    tables: seeds and items are then paired, and equal tables differ by exactly 0, with the width
    that no flip in so many items leaves (equal answers do not show equal models). Units: seeds and
    item clusters, both sampled; every seed is scored on every item. Differences are at most the
    layout's scale. Source: Cameron, Gelbach and Miller (2011, J. Bus. Econ. Stat. 29:238) without
    their subtraction of the residual.

    >>> x = np.tile([1.0, 0, 0, 0, 1], (3, 20)) * [[1.0], [0.9], [1.1]]
    >>> found = mean_over_seeds(x, ColumnLayout(np.arange(100), scale=1.1), 0.90)
    >>> round(found.value, 4), [round(limit, 4) for limit in found.interval(0.90)]
    (0.4, [0.2971, 0.5029])
    >>> same = mean_over_seeds(x - x, ColumnLayout(np.arange(100)), 0.90)
    >>> same.value, [round(limit, 4) for limit in same.interval(0.90)]
    (0.0, [-0.0298, 0.0298])
    """
    x = np.atleast_2d(np.asarray(table, np.float64))
    if x.shape[1] != layout.items or not np.all(np.isfinite(x)):
        raise ValueError(f"need a finite table of seeds x {layout.items} items, got {x.shape}")
    by_seed = x @ layout.weights
    seeds = len(by_seed)
    spread = Component(float(np.var(by_seed, ddof=1)) / seeds, seeds - 1) if seeds > 1 else None
    return SeedMean(float(by_seed.mean()), spread, item_part(x.mean(axis=0), layout, confidence))


def difference(
    first: ArrayLike, second: ArrayLike, layout: ColumnLayout, confidence: float, *, paired: bool
) -> SeedMean:
    """Mean of `first` minus mean of `second`, paired over items and, with equal seeds, over seeds.

    Args:
        paired: whether row s of both tables is the same training seed; without it the variances of
            the two methods' seeds add up.
    """
    a, b = (np.atleast_2d(np.asarray(t, np.float64)) for t in (first, second))
    if paired:
        return mean_over_seeds(a - b, layout, confidence)
    sides = [mean_over_seeds(t, layout, confidence) for t in (a, b)]
    known = [side.seeds for side in sides if side.seeds is not None]
    items = item_part(a.mean(axis=0) - b.mean(axis=0), layout, confidence)
    return SeedMean(sides[0].value - sides[1].value, combined(known) if known else None, items)


def item_part(values: Floats, layout: ColumnLayout, confidence: float) -> Component:
    """Variance that sampling items gives the mean over tasks of (I,) values.

    A task all of whose items are one cluster says nothing about others: its error is the scale.
    """
    parts = []
    for stratum in layout.strata:
        found = estimate_of(
            values[stratum.items] / stratum.scale, stratum.design, confidence=confidence
        )
        error = 1.0 if found.standard_error is None else found.standard_error
        error *= stratum.scale / len(layout.strata)
        parts.append(Component(error**2, found.degrees))
    return combined(parts)


def two_way(table: ArrayLike) -> TwoWay:
    """Mean of X[S, I] with the variance of a two-way random-effects design.

    Var = s_S/S + s_I/I + s_E/(S I), equal to (MS_S + MS_I - MS_E)/(S I) when no component is
    negative; negative components clip to 0. Assumes seeds and items are random samples and every
    seed is scored on every item. Raises ValueError below two seeds or two items.

    >>> r = two_way([[1, 0, 0, 1], [0, 0, 0, 1], [1, 1, 0, 1]])
    >>> [round(x, 6) for x in (r.mean, r.ms_seed, r.ms_item, r.ms_error, r.variance)]
    [0.5, 0.25, 0.555556, 0.138889, 0.055556]
    """
    x = np.asarray(table, np.float64)
    if x.ndim != 2 or min(x.shape) < 2 or not np.all(np.isfinite(x)):
        raise ValueError(f"need a finite table of at least 2 seeds x 2 items, got {x.shape}")
    seeds, items = x.shape
    mean, by_seed, by_item = float(x.mean()), x.mean(axis=1), x.mean(axis=0)
    residual = x - by_seed[:, None] - by_item + mean
    ms_seed = items * float(np.var(by_seed, ddof=1))
    ms_item = seeds * float(np.var(by_item, ddof=1))
    ms_error = float(np.sum(residual**2)) / ((seeds - 1) * (items - 1))
    part_seed, part_item = max(0.0, ms_seed - ms_error), max(0.0, ms_item - ms_error)
    variance = (part_seed + part_item + ms_error) / (seeds * items)
    degrees = _satterthwaite((ms_seed, ms_item, ms_error), (part_seed, part_item), x.shape)
    return TwoWay(
        mean, variance, degrees, ms_seed, ms_item, ms_error,
        part_seed / items, part_item / seeds, ms_error,
    )  # fmt: skip


def _satterthwaite(
    squares: tuple[float, float, float], parts: tuple[float, float], shape: tuple[int, ...]
) -> float:
    """V^2 / sum (c_j MS_j)^2 / df_j; a clipped component leaves MS_E in its place."""
    seeds, items = shape
    signs = (1.0 * (parts[0] > 0), 1.0 * (parts[1] > 0))
    coefficients = (*signs, 1.0 - sum(signs))
    degrees = (seeds - 1, items - 1, (seeds - 1) * (items - 1))
    total = sum(c * m for c, m in zip(coefficients, squares, strict=True))
    spread = sum((c * m) ** 2 / d for c, m, d in zip(coefficients, squares, degrees, strict=True))
    return total**2 / spread if spread > 0 else math.inf
