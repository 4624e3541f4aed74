"""The intervals of many simulated runs at once: `statistics/estimate.py` over a leading axis.

A calibration needs a million intervals; one call a run takes milliseconds each. The formulas are
the package's own (`Design`, `tango_bounds`, `newcombe_bounds`, `worst_item_limit`); a test compares
each result with `estimate` and `mean_over_seeds` run by run. Pure functions, no files. Shapes: R
runs, S seeds, N items, G clusters.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import special

from retainbench.harness.statistics.clusters import Design
from retainbench.harness.statistics.graded import Moments, mirrored, moments, worst_item_limit
from retainbench.harness.statistics.paired import (
    BoundsArray,
    Floats,
    newcombe_bounds,
    normal_quantile,
    tango_bounds,
    tango_variance,
)


class Many(NamedTuple):
    """Estimates of R runs on the items of one task."""

    drop: Floats
    bounds: BoundsArray
    error: Floats
    degrees: float


def cluster_errors(d_RN: Floats, design: Design) -> Floats:
    """(R,) CR2 standard errors of the mean."""
    order = np.argsort(design.codes, kind="stable")
    starts = np.concatenate([[0], np.cumsum(design.sizes)[:-1]]).astype(np.intp)
    sums = np.add.reduceat(d_RN[:, order], starts, axis=1)
    residuals = sums - design.sizes * d_RN.mean(axis=1)[:, None]
    error: Floats = np.sqrt((residuals**2 * design.leverage).sum(axis=1)) / design.items
    return error


def worst_item(m: Moments, highest: Floats, alpha: float) -> BoundsArray:
    """Both worst-item limits of R runs."""
    down = mirrored(m, highest)
    return BoundsArray(-worst_item_limit(down, alpha), worst_item_limit(m, alpha))


def estimates(base_RN: Floats, tuned_RN: Floats, design: Design, alpha: float) -> Many:
    """What `estimate` gives for 0/1 items."""
    d, z = base_RN - tuned_RN, normal_quantile(1 - alpha)
    drop, effective, runs = d.mean(axis=1), design.effective_items, len(d)
    lost, gained = ((sign * d > 0).mean(axis=1) * effective for sign in (1, -1))
    found = [
        tango_bounds(lost, gained, np.full(runs, effective), 1 - 2 * alpha),
        worst_item(moments(d, effective), d.max(axis=1), alpha),
    ]
    if not design.clustered:
        both = (base_RN * tuned_RN).sum(axis=1)
        counts = (both, lost, gained, design.items - both - lost - gained)
        found.append(newcombe_bounds(*counts, 1 - 2 * alpha))
    errors = [(one.high - one.low) / 2 / z for one in found]
    if design.clustered:
        error = cluster_errors(d, design)
        half = special.stdtrit(design.degrees, 1 - alpha) * error
        found.append(BoundsArray(drop - half, drop + half))
        errors.append(error)
    low = np.min([one.low for one in found], axis=0)
    high = np.max([one.high for one in found], axis=0)
    degrees = design.degrees if design.clustered else np.inf
    return Many(drop, BoundsArray(low, high), np.max(errors, axis=0), degrees)


def graded(d_RN: Floats, alpha: float) -> BoundsArray:
    """What `estimate_of` gives for independent graded items: Edgeworth, t and worst item."""
    n, z = d_RN.shape[1], normal_quantile(1 - alpha)
    mean = d_RN.mean(axis=1)
    residuals = d_RN - mean[:, None]
    squares = (residuals**2).sum(axis=1)
    error = np.sqrt(squares / (n - 1) / n)
    skew = (residuals**3).sum(axis=1) / (6 * squares**1.5) * (2 * z * z + 1)
    half = special.stdtrit(n - 1, 1 - alpha) * error
    worst = worst_item(moments(d_RN, n), d_RN.max(axis=1), alpha)
    low = np.min([mean + error * (skew - z), mean - half, worst.low], axis=0)
    high = np.max([mean + error * (skew + z), mean + half, worst.high], axis=0)
    return BoundsArray(low, high)


def regression_p(base_RN: Floats, tuned_RN: Floats, design: Design, margin: float) -> Floats:
    """(R,) largest p of "D <= margin" over the methods that give one."""
    d, effective, runs = base_RN - tuned_RN, design.effective_items, len(base_RN)
    drop = d.mean(axis=1)
    lost, gained = ((sign * d > 0).mean(axis=1) * effective for sign in (1, -1))
    n = np.full(runs, effective)
    spread = np.sqrt(tango_variance(lost, gained, n, np.full(runs, margin)))
    ps = [special.ndtr(-(lost - gained - n * margin) / spread)]
    if design.clustered:
        error = cluster_errors(d, design)
        statistic = (drop - margin) / np.where(error > 0, error, 1)
        ps.append(np.where(error > 0, special.stdtr(design.degrees, -statistic), 0.0))
    p: Floats = np.max(ps, axis=0)
    return p


def over_seeds(tables_RSN: list[Floats], designs: list[Design], alpha: float) -> BoundsArray:
    """What `mean_over_seeds` gives for the mean over tasks of graded or 0/1 differences."""
    tasks, seeds = len(designs), tables_RSN[0].shape[1]
    z = normal_quantile(1 - alpha)
    by_seed = np.mean([x.mean(axis=2) for x in tables_RSN], axis=0)
    variance, spread = np.zeros(len(by_seed)), np.zeros(len(by_seed))
    for x, design in zip(tables_RSN, designs, strict=True):
        d = x.mean(axis=1)
        worst = worst_item(moments(d, design.effective_items), d.max(axis=1), alpha)
        error = np.maximum(cluster_errors(d, design), (worst.high - worst.low) / 2 / z) / tasks
        variance += error**2
        spread += error**4 / design.degrees
    mean, between = by_seed.mean(axis=1), by_seed.var(axis=1, ddof=1) / seeds
    total = variance + between
    degrees = total**2 / (spread + between**2 / (seeds - 1))
    half = special.stdtrit(degrees, 1 - alpha) * np.sqrt(total)
    alone = special.stdtrit(seeds - 1, 1 - alpha) * np.sqrt(between)
    half = np.maximum(half, alone)
    return BoundsArray(mean - half, mean + half)
