"""Changes that decide nothing: soft scores, erosion, margins and calibration, with intervals.

Takes paired items; returns the fields of `TaskChange` and `AxisChange` that come from stored
log-likelihoods. They are early warnings, so their intervals have no worst item, which would hide
small changes. Reads and writes no files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from retainbench.harness.comparison.confidence import calibration_error, slope
from retainbench.harness.comparison.pairing import Floats, Pair
from retainbench.harness.core.changes import Interval
from retainbench.harness.statistics.estimate import design_of
from retainbench.harness.statistics.graded import edgeworth_interval, t_quantile
from retainbench.harness.statistics.multiplicity import axis_mean
from retainbench.harness.statistics.paired import Bounds

AXIS_METHOD = "t over tasks"
Which = Literal["soft", "tempered", "margins", "brier", "top", "hit"]


class Both(NamedTuple):
    """One quantity of every item, by base and candidate."""

    base: Floats
    candidate: Floats


def task_fields(one: Pair, level: float) -> dict[str, Any]:
    """Of a task; None where its records do not have what is needed."""
    brier, margins = _both(one, "brier"), _both(one, "margins")
    return {
        "soft_drop": _drop(one, "soft", level),
        "erosion": _drop(one, "tempered", level),
        "margin_drop": _drop(one, "margins", level),
        "margin_slope": slope(*margins) if margins else None,
        "base_brier": float(np.mean(brier.base)) if brier else None,
        "candidate_brier": float(np.mean(brier.candidate)) if brier else None,
        "brier_rise": _drop(one, "brier", level),
        "base_calibration_error": _calibration(one, "base"),
        "candidate_calibration_error": _calibration(one, "candidate"),
    }


def axis_fields(used: Sequence[Pair], level: float) -> dict[str, Any]:
    """Of an axis: unweighted means over its tasks."""
    slopes = [slope(*margins) for one in used if (margins := _both(one, "margins"))]
    return {
        "soft_drop": _axis_drop(used, "soft", level),
        "erosion": _axis_drop(used, "tempered", level),
        "margin_drop": _axis_drop(used, "margins", level),
        "margin_slope": _mean(slopes),
        "brier_rise": _axis_drop(used, "brier", level),
        "base_calibration_error": _mean([_calibration(one, "base") for one in used]),
        "candidate_calibration_error": _mean([_calibration(one, "candidate") for one in used]),
    }


def _both(one: Pair, which: Which) -> Both | None:
    if which == "soft":
        base, candidate = one.base_soft, one.candidate_soft
    else:
        base = getattr(one.base_sure, which, None)
        candidate = getattr(one.candidate_sure, which, None)
    return None if base is None or candidate is None else Both(base, candidate)


def _mean(values: Sequence[float | None]) -> float | None:
    """Mean over the tasks that have a value."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _calibration(one: Pair, side: Literal["base", "candidate"]) -> float | None:
    top, hit = _both(one, "top"), _both(one, "hit")
    if top is None or hit is None:
        return None
    return calibration_error(getattr(top, side), getattr(hit, side))


class _Soft(NamedTuple):
    """Paired drops and their interval."""

    drop: float
    bounds: Bounds
    degrees: float
    method: str


def _soft(d: Floats, clusters: Any, level: float) -> _Soft:
    design = design_of(clusters, len(d))
    mean = float(np.mean(d))
    if design.clustered and design.groups > 1:
        return _Soft(mean, design.interval(d, level).bounds, design.degrees, "cluster-t")
    return _Soft(mean, edgeworth_interval(d, level), math.inf, "edgeworth")


def _differences(one: Pair, which: Which) -> Floats | None:
    """Base minus candidate; of the Brier score, where more is worse, candidate minus base."""
    both = _both(one, which)
    if both is None or len(one.items) < 2:
        return None
    return both.candidate - both.base if which == "brier" else both.base - both.candidate


def _drop(one: Pair, which: Which, level: float) -> Interval | None:
    d = _differences(one, which)
    if d is None:
        return None
    found = _soft(d, one.clusters, level)
    return _interval(found.drop, found.bounds, level, len(d), found.method)


def _axis_drop(used: Sequence[Pair], which: Which, level: float) -> Interval | None:
    """Unweighted mean of the tasks' drops; soft scores are rescaled for chance as drops are.

    A random pick has soft score 1/k where its score is 1/k, so the same division serves both, at
    every temperature. Margins are nats and Brier scores are sums of squares: they stay as they are.
    Over the tasks that have them: one of written answers has none. None where no task has.
    """
    found: list[_Soft] = []
    errors, counts = [], []
    for one in used:
        d = _differences(one, which)
        if d is None:
            continue
        left = 1 - one.chance if which in ("soft", "tempered") else np.ones(len(d))
        soft = _soft(d / left, one.clusters, level)
        quantile = t_quantile((1 + level) / 2, soft.degrees)
        found.append(soft)
        errors.append((soft.bounds.high - soft.bounds.low) / 2 / quantile)
        counts.append(len(d))
    if not found:
        return None
    mean = axis_mean([s.drop for s in found], errors, level, [s.degrees for s in found])
    return _interval(mean.drop, mean.bounds, level, sum(counts), AXIS_METHOD)


def _interval(value: float, bounds: Bounds, level: float, n: int, method: str) -> Interval:
    low, high = bounds
    return Interval(value=value, low=low, high=high, level=level, n=n, method=method)
