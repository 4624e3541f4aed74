"""Joint resampling of seeds and item clusters, for what has no standard error of its own.

A drop at a matched gain and a ratio are no means; their intervals come from a bootstrap that draws
seeds and, once for all methods, item clusters. A bootstrap draws from what happened: where no item
of a task flipped it would answer with an interval of width zero. `unseen_error` is what its
replicates lack, against the error that `statistics/estimate.py` gives the same items. Pure
functions, no files. Shapes: S seeds, I items, B resamples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from retainbench.harness.statistics.estimate import estimate_of
from retainbench.harness.statistics.methods.seeds import ColumnLayout, Stratum
from retainbench.harness.statistics.paired import Bounds, Floats, normal_quantile

RESAMPLES = 9_999
BATCH_CELLS = 1_000_000  # item weights held at once: 8 MB of float64


class Draw(NamedTuple):
    """One batch of B bootstrap weightings; each row sums to 1."""

    seeds: list[Floats]
    """(B, S_p) per method."""
    items: Floats
    """(B, I), common to all methods and seeds."""


def percentile(replicates: Floats, confidence: float) -> Bounds:
    """Equal-tailed percentile interval of bootstrap replicates."""
    low, high = np.quantile(replicates, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Bounds(float(low), float(high))


def draws(
    seeds: Sequence[int],
    layout: ColumnLayout,
    resamples: int,
    seed: tuple[int, ...],
    batch: int | None = None,
) -> Iterator[Draw]:
    """Batches of bootstrap weights: one seed weighting per entry of `seeds`, one for all items.

    Items are drawn as whole clusters within their task; each task has weight 1/K, so a weighted sum
    is the unweighted mean of task means. `seeds` are the numbers of training seeds of the methods,
    drawn independently of each other; a method with one seed keeps it, and its interval then speaks
    of that run alone.
    """
    for_seeds, for_items = (np.random.default_rng((*seed, purpose)) for purpose in (0, 1))
    batch = batch or max(1, BATCH_CELLS // layout.items)
    for start in range(0, resamples, batch):
        rows = min(batch, resamples - start)
        by_seed = [_times_drawn(for_seeds, s, rows) / s for s in seeds]
        items = np.empty((rows, layout.items))
        for stratum in layout.strata:
            weights = _stratum_weights(for_items, stratum, rows)
            items[:, stratum.items] = weights / len(layout.strata)
        yield Draw(by_seed, items)


def _times_drawn(rng: np.random.Generator, units: int, rows: int) -> Floats:
    """(rows, units): how often each unit comes up in `units` draws with replacement.

    Counting indices takes a fifth of the time of `Generator.multinomial` at 10,000 units.
    """
    picks = rng.integers(units, size=(rows, units)) + units * np.arange(rows)[:, None]
    counts = np.bincount(picks.ravel(), minlength=rows * units)
    return counts.reshape(rows, units).astype(np.float64)


def _stratum_weights(rng: np.random.Generator, stratum: Stratum, rows: int) -> Floats:
    weights = _times_drawn(rng, stratum.design.groups, rows)[:, stratum.design.codes]
    share: Floats = weights / weights.sum(axis=1, keepdims=True)
    return share


def unseen_error(values: Floats, layout: ColumnLayout, confidence: float) -> float:
    """Standard error to add to the replicates of a mean over (I,) values.

    Per task sqrt(max(0, e^2 - b^2)), e = error of `estimate_of`, b = standard deviation of the
    cluster bootstrap, sqrt(sum of squared cluster residuals) / n; over K tasks sqrt(sum) / K. With
    it the replicates spread as widely as that error says, and no number of changes is a threshold.

    >>> layout = ColumnLayout(np.arange(100))
    >>> none, many = np.zeros(100), np.linspace(-1, 1, 100)
    >>> [round(1.644854 * unseen_error(x, layout, 0.90), 4) for x in (none, many)]
    [0.0295, 0.0445]
    """
    total = 0.0
    for stratum in layout.strata:
        x, design = values[stratum.items] / stratum.scale, stratum.design
        error = estimate_of(x, design, confidence=confidence).standard_error
        sums = np.bincount(design.codes, weights=x - np.mean(x))
        drawn = float(np.sum(sums * sums)) / len(x) ** 2
        missing = max(0.0, (1.0 if error is None else error) ** 2 - drawn)
        total += missing * stratum.scale**2
    return math.sqrt(total) / len(layout.strata)


def normal_scores(resamples: int, seed: int) -> Floats:
    """(B,) normal quantiles in a random order that the seed fixes.

    Equally spaced in probability, so that limits read off them are exact and not drawn.
    """
    scores = np.array([normal_quantile((n + 0.5) / resamples) for n in range(resamples)])
    order: Floats = np.random.default_rng(seed).permutation(scores)
    return order
