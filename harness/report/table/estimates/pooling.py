"""Intervals and means of the seeds' own estimates; every figure to six significant digits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from retainbench.harness.core.changes import Interval
from retainbench.harness.core.text.formatting import significant
from retainbench.harness.statistics.graded import t_quantile
from retainbench.harness.statistics.paired import normal_quantile


def pool(intervals: Sequence[Interval]) -> Interval:
    """One interval for the mean over training seeds from each seed's interval over items.

    Estimator: mean of the seeds' estimates. SE^2 = s^2 / S (s: sd between seeds) + the mean squared
    item SE, read off the intervals' widths. The seeds answer the same items, so item error does not
    shrink with S; the residual part that would is kept too, so the interval is conservative.
    Quantile: Student t with Welch-Satterthwaite degrees. One seed: its own interval, unchanged.

    >>> one = Interval(value=0.1, low=0.05, high=0.15, level=0.95, n=100, method="newcombe")
    >>> pool([one]) == one
    True
    >>> two = pool([one, one])
    >>> (two.value, two.n, two.low < 0.051)
    (0.1, 100, True)
    """
    if len(intervals) == 1:
        return intervals[0]
    level, n = intervals[0].level, min(interval.n for interval in intervals)
    values = np.array([interval.value for interval in intervals])
    halves = np.array([(interval.high - interval.low) / 2 for interval in intervals])
    items = float(np.mean((halves / normal_quantile((1 + level) / 2)) ** 2))
    seeds = float(values.var(ddof=1)) / len(values)
    weight = seeds**2 / (len(values) - 1) + items**2 / max(n - 1, 1)
    degrees = (seeds + items) ** 2 / weight if weight > 0 else math.inf
    half = t_quantile((1 + level) / 2, degrees) * math.sqrt(seeds + items)
    mean = float(values.mean())
    label = f"t over {len(values)} seeds and items ({intervals[0].method})"
    return Interval(value=mean, low=mean - half, high=mean + half, level=level, n=n, method=label)


def pooled(intervals: Iterable[Interval | None]) -> Interval | None:
    """The seeds' mean; None where a seed has none."""
    every = list(intervals)
    known = [interval for interval in every if interval]
    return rounded(pool(known)) if len(known) == len(every) else None


def mean(values: Iterable[float | int | None]) -> float | None:
    """Mean to six significant digits; None when there is nothing or any value is missing."""
    found = list(values)
    if not found or any(value is None for value in found):
        return None
    return significant(math.fsum(value for value in found if value is not None) / len(found))


def bounded(
    value: float | None, low: float | None, high: float | None, like: Interval, method: str
) -> Interval | None:
    """An interval from the comparison, or None where it withheld the estimate or its limits."""
    if value is None or low is None or high is None:
        return None
    update = {"value": value, "low": low, "high": high, "method": method}
    return rounded(like.model_copy(update=update))


def rounded(interval: Interval) -> Interval:
    """The interval with its value and limits to six significant digits."""
    limits = {name: significant(getattr(interval, name)) for name in ("value", "low", "high")}
    return interval.model_copy(update=limits)
