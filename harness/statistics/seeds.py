"""Methods compared over training seeds and items: both are random, and every seed sees every item.

Certifying one checkpoint needs none of this (items random, seed fixed). A claim about a method
needs at least two seeds, better five; seeds, repeats and epochs are never pooled as if they were
items. X[s, i] is the paired drop (or gain) of seed s on item i. Two roads: `two_way`, the analysis
of variance, and `resampled_means`, a bootstrap that draws seeds and item clusters independently and
applies the same item draw to every seed. Pure functions, no files. Shapes: S seeds, I items, G
clusters, B resamples, P methods, T checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from retainbench.harness.statistics.estimate import FEWEST_CHANGES, item_codes
from retainbench.harness.statistics.graded import t_quantile
from retainbench.harness.statistics.paired import Bounds, Floats
from retainbench.harness.statistics.unseen import normal_scores, unseen_error

RESAMPLES = 9_999
BATCH_CELLS = 1_000_000  # item weights held at once: 8 MB of float64
UNSEEN = 2  # purpose of a random stream, beside 0 for seeds and 1 for items


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


class Draw(NamedTuple):
    """One batch of B bootstrap weightings; each row sums to 1."""

    seeds: list[Floats]
    """(B, S_p) per method."""
    items: Floats
    """(B, I), common to all methods and seeds."""


class ResampledMeans(NamedTuple):
    """Point estimates and bootstrap replicates of several means under common item draws."""

    points: Floats
    """(P,)"""
    replicates: Floats
    """(P, B)"""
    unseen: Floats
    """(P,) the part of their standard error that resampling could not see (`unseen_error`)."""

    def interval(self, index: int, confidence: float) -> Bounds:
        """Percentile interval of one mean."""
        return percentile(self.replicates[index], confidence)

    def difference(self, first: int, second: int, confidence: float) -> Bounds:
        """Percentile interval of mean `first` - mean `second`, paired over items."""
        return percentile(self.replicates[first] - self.replicates[second], confidence)


def method_name(seeds: int, unseen: float) -> str:
    """How an interval of `resampled_means` is called under a table.

    >>> method_name(1, 0.0), method_name(3, 0.0)
    ('two-level bootstrap, one seed', 'two-level bootstrap, 3 seeds')
    """
    name = f"two-level bootstrap, {'one seed' if seeds == 1 else f'{seeds} seeds'}"
    few = f"and Tango's error where under {FEWEST_CHANGES} items or clusters of a task changed"
    return f"{name} {few}" if unseen else name


def percentile(replicates: Floats, confidence: float) -> Bounds:
    """Equal-tailed percentile interval of bootstrap replicates."""
    low, high = np.quantile(replicates, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Bounds(float(low), float(high))


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


def decoded_means(scores: ArrayLike, items: ArrayLike) -> Floats:
    """Average the decode repeats of each item before anything else; sorted by item label.

    >>> decoded_means([1, 0, 1, 1], ["a", "a", "b", "b"]).tolist()
    [0.5, 1.0]
    """
    values = np.asarray(scores, np.float64)
    codes = item_codes(items, len(values))
    means: Floats = np.bincount(codes, weights=values) / np.bincount(codes)
    return means


def draws(
    seeds: Sequence[int],
    clusters: ArrayLike,
    strata: ArrayLike,
    resamples: int,
    seed: tuple[int, ...],
    batch: int | None = None,
) -> Iterator[Draw]:
    """Batches of bootstrap weights: one seed weighting per entry of `seeds`, one for all items.

    Items are drawn as whole clusters within their stratum (task); each stratum has weight 1/K, so a
    weighted sum is the unweighted mean of task means. `seeds` are the numbers of training seeds of
    the methods, drawn independently of each other; a method with one seed keeps it, and its
    interval then speaks of that run alone.
    """
    for_seeds, for_items = (np.random.default_rng((*seed, purpose)) for purpose in (0, 1))
    codes, layers = item_codes(clusters, len(np.asarray(clusters))), _layers(clusters, strata)
    batch = batch or max(1, BATCH_CELLS // len(codes))
    for start in range(0, resamples, batch):
        rows = min(batch, resamples - start)
        by_seed = [_times_drawn(for_seeds, s, rows) / s for s in seeds]
        items = np.empty((rows, len(codes)))
        for layer in layers:
            items[:, layer.items] = _layer_weights(for_items, layer, rows) / len(layers)
        yield Draw(by_seed, items)


class _Layer(NamedTuple):
    items: NDArray[np.intp]
    codes: NDArray[np.intp]
    """Cluster of each of these items, numbered from 0 within the stratum."""
    groups: int


def _layers(clusters: ArrayLike, strata: ArrayLike) -> list[_Layer]:
    codes, layer_of = np.asarray(clusters), np.asarray(strata)
    if codes.shape != layer_of.shape or codes.ndim != 1 or not len(codes):
        raise ValueError(f"need one cluster and one stratum per item, got {codes.shape}")
    layers = []
    for name in np.unique(layer_of):
        items = np.flatnonzero(layer_of == name)
        within = item_codes(codes[items], len(items))
        layers.append(_Layer(items, within, int(within.max()) + 1))
    return layers


def _times_drawn(rng: np.random.Generator, units: int, rows: int) -> Floats:
    """(rows, units): how often each unit comes up in `units` draws with replacement.

    Counting indices takes a fifth of the time of `Generator.multinomial` at 10,000 units.
    """
    picks = rng.integers(units, size=(rows, units)) + units * np.arange(rows)[:, None]
    counts = np.bincount(picks.ravel(), minlength=rows * units)
    return counts.reshape(rows, units).astype(np.float64)


def _layer_weights(rng: np.random.Generator, layer: _Layer, rows: int) -> Floats:
    weights = _times_drawn(rng, layer.groups, rows)[:, layer.codes]
    share: Floats = weights / weights.sum(axis=1, keepdims=True)
    return share


def resampled_means(
    tables: Sequence[ArrayLike],
    *,
    clusters: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    scale: ArrayLike = 1.0,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> ResampledMeans:
    """Crossed two-stage bootstrap of the means of several methods over the same items.

    Each table is (S_p, I): the paired drop of every seed on every item. Resampled: seeds within a
    method, and item clusters within strata, once for all methods and seeds, so differences between
    methods are paired over items. Assumes items in one order in every table. The variance is
    s_S/S (S-1)/S + s_I/I + about 2 s_E/(S I): too small in seeds when S is small, too large in the
    residual, hence `two_way` beside it. Source: Owen (2007, Ann. Appl. Stat. 1:386). Where hardly
    any item of a task changed, the replicates scatter by `unseen_error` as well; `scale` is its.

    >>> x = np.tile([1, 0, 0, 0, 1], (3, 20))
    >>> r = resampled_means([x, 0 * x], resamples=999)
    >>> r.points.tolist(), [round(limit, 4) for limit in r.interval(1, 0.9)]
    ([0.4, 0.0], [-0.0263, 0.0263])
    """
    stack = [np.atleast_2d(np.asarray(t, np.float64)) for t in tables]
    items = stack[0].shape[1]
    if any(t.shape[1] != items for t in stack):
        raise ValueError(f"tables must share their items, got {[t.shape for t in stack]}")
    groups = item_codes(clusters, items)
    layers = np.zeros(items) if strata is None else np.asarray(strata)
    weights = even_weights(layers)
    points = np.array([float(t.mean(axis=0) @ weights) for t in stack])
    found = [
        [np.sum((w @ t) * draw.items, axis=1) for w, t in zip(draw.seeds, stack, strict=True)]
        for draw in draws([len(t) for t in stack], groups, layers, resamples, (seed,))
    ]
    errors = [unseen_error(t, clusters=groups, strata=layers, scale=scale) for t in stack]
    unseen = np.array(errors)
    scatter = unseen[:, None] * normal_scores(len(stack), resamples, (seed, UNSEEN))
    seen = np.concatenate([np.array(f) for f in found], axis=1)
    return ResampledMeans(points, seen + scatter, unseen)


def even_weights(strata: ArrayLike) -> Floats:
    """Item weights whose weighted sum is the unweighted mean of the strata's means.

    >>> even_weights(["a", "a", "b"]).tolist()
    [0.25, 0.25, 0.5]
    """
    codes = item_codes(strata, len(np.asarray(strata)))
    sizes = np.bincount(codes)
    weights: Floats = 1 / (len(sizes) * sizes[codes])
    return weights
