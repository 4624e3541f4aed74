"""What resampling cannot see: the error of a mean over items of which hardly any changed.

A bootstrap draws from what happened. Where no item of a task flipped in any seed it answers with an
interval of width zero, as if a loss had been excluded; with a handful of flips it is too narrow
still. One checkpoint has Tango's score interval for that (`statistics/estimate.py`); this is the
same for a table of seeds x items: the error of a score interval, added to the resampled means. Pure
functions, no files. Left out: seeds. No number of items says what a seed that was not run would do.
Shapes: R rows (seeds, or seeds and checkpoints), I items, P methods, B resamples.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from retainbench.harness.statistics.estimate import FEWEST_CHANGES, item_codes
from retainbench.harness.statistics.graded import clustered_mean
from retainbench.harness.statistics.paired import Floats, normal_quantile, tango_bounds

LEVEL = 0.90  # of the score interval whose half width over its quantile is the error


def unseen_error(
    table: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    scale: ArrayLike = 1.0,
) -> float:
    """Standard error to add to the bootstrap of a mean; 0 where enough items changed.

    Per stratum (task): if fewer than `FEWEST_CHANGES` items, or clusters, differ from the most
    common value in any row, the error is that of Tango's interval at the rows' mean counts of lost
    and gained, with n divided by the design effect (where nothing differs, with clusters for n). A
    partial change counts as a flip with the same mean, which can only have a larger variance.
    Strata are combined as in the mean of K of them: sqrt(sum e^2) / K. Added to what the bootstrap
    did see it counts that twice: the interval is conservative.

    Args:
        table: (R, I) paired differences, or scores; one row is one seed.
        scale: per item, the largest possible magnitude: 1, or 1 / (1 - chance) for rescaled drops.

    >>> round(1.644854 * unseen_error(np.zeros((3, 100))), 6)  # as one run without flips: case Z
    0.026343
    >>> unseen_error(np.eye(3, 100)[:, ::-1]) > 0, unseen_error(np.ones((3, 100)) * range(100))
    (True, 0.0)
    """
    x = np.atleast_2d(np.asarray(table, np.float64))
    items = x.shape[1]
    codes, scales = item_codes(clusters, items), np.broadcast_to(scale, items)
    layers = np.zeros(items) if strata is None else np.asarray(strata)
    members = [np.flatnonzero(layers == name) for name in np.unique(layers)]
    errors = [_error(x[:, at], item_codes(codes[at], len(at)), max(scales[at])) for at in members]
    return math.sqrt(sum(error**2 for error in errors)) / len(errors)


def _error(x: Floats, codes: NDArray[np.intp], scale: float) -> float:
    values, counts = np.unique(x, return_counts=True)
    common = float(values[np.argmax(counts)])
    moved = x - common
    n, groups = len(codes), int(codes.max()) + 1
    if np.count_nonzero(np.bincount(codes, np.abs(moved).sum(axis=0))) >= FEWEST_CHANGES:
        return 0.0
    reach, effective = scale + abs(common), float(groups)
    spread = clustered_mean(moved.mean(axis=0), codes) if groups > 1 else None
    if spread and spread.naive_error > 0:
        effective = n / max(spread.design_effect, 1.0)
    up, down = (np.maximum(side, 0).sum() / x.size * effective / reach for side in (moved, -moved))
    low, high = tango_bounds(up, down, effective, LEVEL)
    return float(high - low) / 2 / normal_quantile((1 + LEVEL) / 2) * reach


def normal_scores(methods: int, resamples: int, seed: tuple[int, ...]) -> Floats:
    """(P, B) normal quantiles in an independent random order for each method.

    Equally spaced in probability, so that limits read off them are exact and not drawn.
    """
    scores = np.array([normal_quantile((n + 0.5) / resamples) for n in range(resamples)])
    rng = np.random.default_rng(seed)
    return np.array([rng.permutation(scores) for _ in range(methods)])
