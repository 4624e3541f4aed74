"""The drop of one task with the interval that suits its data: binary, graded or clustered.

Each interval method errs somewhere: Tango below the margin at few flips, t and bootstrap where
what matters did not happen in the sample. So two or three are computed and their *union* is the
interval: the one that is printed is the one that decides. Pure functions, no files. Scores are in
[0, 1], higher is better; integrity (hashes, missing items, NaN) is settled before this module is
called.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from retainbench.harness.statistics.clusters import PLANNING_ICC, Design
from retainbench.harness.statistics.graded import (
    MeanInterval,
    bca_interval,
    edgeworth_interval,
    mirrored,
    moments,
    t_interval,
    t_tail,
    worst_item_limit,
    worst_item_tail,
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
NOT_GIVEN = None
"""Seed of an estimate that takes the Edgeworth form of BCa for any number of items."""


class IntervalMethod(NamedTuple):
    """How an interval is put around the drop."""

    name: str
    bounds: Bounds
    p_within: float | None
    """One-sided p of H0 "D <= margin" (REGRESSION claim); None where another method gives it."""
    p_beyond: float | None
    """One-sided p of H0 "D >= margin" (PASS claim)."""
    error: float
    """Standard error, or the half width over the quantile that made it."""


class Estimate(NamedTuple):
    """The drop with every method that applies; their union is its interval."""

    drop: float
    methods: tuple[IntervalMethod, ...]
    """Empty when the data cannot carry an interval (one cluster; scores beyond [0, 1])."""
    degrees: float
    """Of freedom of the standard error; infinite for a score interval."""

    @property
    def bounds(self) -> Bounds | None:
        """Lowest lower and highest upper limit: the interval that is printed and that decides."""
        if not self.methods:
            return None
        lows, highs = zip(*(method.bounds for method in self.methods), strict=True)
        return Bounds(min(lows), max(highs))

    @property
    def name(self) -> str:
        """The methods whose union the interval is."""
        return ", ".join(method.name for method in self.methods)

    @property
    def standard_error(self) -> float | None:
        """The largest of the methods' errors; never 0."""
        return max((method.error for method in self.methods), default=None)

    @property
    def p_within(self) -> float:
        """Largest p of "D <= margin" over the methods; 1 without an interval."""
        return max((m.p_within for m in self.methods if m.p_within is not None), default=1.0)

    @property
    def p_beyond(self) -> float:
        """Largest p of "D >= margin" over the methods; 1 without an interval."""
        return max((m.p_beyond for m in self.methods if m.p_beyond is not None), default=1.0)


def estimate(
    base: ArrayLike,
    tuned: ArrayLike,
    *,
    confidence: float,
    clusters: ArrayLike | None = None,
    icc: float = PLANNING_ICC,
    margin: float = 0.0,
    seed: int | None = 0,
) -> Estimate:
    """The paired drop of one task with the interval that suits its data.

    Independent 0/1 items: Tango and Newcombe. Independent graded items: BCa (its Edgeworth form
    above 1,000 items or without a seed) and t; t alone below 30 items. Clusters with more than one
    item: t with CR2 error and Bell-McCaffrey degrees of freedom; for flips also Tango with the
    items that the planned design effect leaves. Everywhere the worst-item limit. The interval is
    the union, so nothing jumps where a method begins to apply, and losing more never lowers the
    upper limit. The p-values refer to `margin`. Raises ValueError on no items, unequal lengths or
    non-finite scores.

    >>> e = estimate([1, 1, 1, 0] * 25, [1, 1, 1, 0] * 25, confidence=0.90)
    >>> e.drop, e.name, round(e.bounds.high, 6)
    (0.0, 'tango, newcombe, worst item', 0.029513)
    """
    b, t = checked_scores(base), checked_scores(tuned)
    if len(b) == 0 or b.shape != t.shape:
        raise ValueError(f"pairs need equal, non-zero lengths, got {len(b)} and {len(t)}")
    design = design_of(clusters, len(b), icc)
    if not design.clustered and is_binary(b, t):
        counts = paired_counts(b, t)
        cross = newcombe_interval(counts, confidence)
        z = normal_quantile((1 + confidence) / 2)
        methods = (
            _tango(counts, confidence, margin),
            IntervalMethod("newcombe", cross, None, None, (cross.high - cross.low) / 2 / z),
            *_worst_item(b - t, design, confidence, margin),
        )
        return Estimate(counts.drop, methods, math.inf)
    return estimate_of(b - t, design, confidence=confidence, margin=margin, seed=seed)


def estimate_of(
    differences: Floats,
    design: Design,
    *,
    confidence: float,
    margin: float = 0.0,
    seed: int | None = NOT_GIVEN,
) -> Estimate:
    """The same for differences that are not, or not known to be, of independent 0/1 items."""
    mean = float(np.mean(differences))
    if design.clustered and design.groups < 2:
        return Estimate(mean, (), 1.0)
    if design.clustered:
        return Estimate(mean, _clustered(differences, design, confidence, margin), design.degrees)
    worst = _worst_item(differences, design, confidence, margin)
    found = _graded(differences, confidence, margin, seed)
    return Estimate(mean, (*found, *worst), max(len(differences) - 1, 1))


def design_of(clusters: ArrayLike | None, n: int, icc: float = PLANNING_ICC) -> Design:
    """The design of n items, each its own cluster when `clusters` is None."""
    design = Design(np.arange(n) if clusters is None else clusters, icc)
    if design.items != n:
        raise ValueError(f"{n} items but {design.items} cluster labels")
    return design


def _tango(counts: PairedCounts, confidence: float, margin: float) -> IntervalMethod:
    bounds = tango_interval(counts, confidence)
    error = (bounds.high - bounds.low) / 2 / normal_quantile((1 + confidence) / 2)
    beyond, within = p_drop_beyond(counts, margin), p_drop_within(counts, margin)
    return IntervalMethod("tango", bounds, within, beyond, error)


def _worst_item(
    d: Floats, design: Design, confidence: float, margin: float
) -> tuple[IntervalMethod] | tuple[()]:
    """The worst-item limits on both sides; nothing where some |d| > 1, since no item is worst."""
    if np.max(np.abs(d)) > 1:
        return ()
    alpha, up = (1 - confidence) / 2, moments(d, design.effective_items)
    down = mirrored(up, float(np.max(d)))
    bounds = Bounds(-float(worst_item_limit(down, alpha)), float(worst_item_limit(up, alpha)))
    error = (bounds.high - bounds.low) / 2 / normal_quantile((1 + confidence) / 2)
    within, beyond = float(worst_item_tail(down, -margin)), float(worst_item_tail(up, margin))
    return (IntervalMethod("worst item", bounds, within, beyond, error),)


def _graded(
    d: Floats, confidence: float, margin: float, seed: int | None
) -> tuple[IntervalMethod, ...]:
    if len(d) < 2 or np.ptp(d) == 0:
        return ()
    student = _t_method("t", t_interval(d, confidence), margin)
    if len(d) < FEWEST_FOR_BOOTSTRAP:
        return (student,)
    if seed is None or len(d) > MOST_FOR_BOOTSTRAP:
        name, bounds = "edgeworth", edgeworth_interval(d, confidence)
    else:
        name, bounds = "bca", bca_interval(d, confidence, seed)
    return (IntervalMethod(name, bounds, None, None, student.error), student)


def _clustered(
    d: Floats, design: Design, confidence: float, margin: float
) -> tuple[IntervalMethod, ...]:
    student = design.interval(d, confidence)
    found = [_t_method("cluster-t", student, margin)] if student.standard_error > 0 else []
    if np.all(np.isin(d, (-1, 0, 1))):
        effective = design.effective_items
        lost, gained = (float(np.mean(d == sign)) * effective for sign in (1, -1))
        counts = PairedCounts(max(effective - lost - gained, 0.0), lost, gained, 0.0)
        found.append(_tango(counts, confidence, margin))
    return (*found, *_worst_item(d, design, confidence, margin))


def _t_method(name: str, result: MeanInterval, margin: float) -> IntervalMethod:
    gap = result.mean - margin
    statistic = gap / result.standard_error
    within, beyond = (t_tail(s, result.degrees) for s in (statistic, -statistic))
    return IntervalMethod(name, result.bounds, within, beyond, result.standard_error)
