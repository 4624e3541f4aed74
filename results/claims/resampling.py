"""Statistics of cells with intervals over resampled recipes: the seeds of one are not independent.

Percentile bootstrap of whole clusters; 90 % limits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from results.claims.finding import ALPHA

RESAMPLES = 1_999

Clusters = list[NDArray[np.float64]]
"""Of each cluster its rows."""


class BootstrapEstimate(NamedTuple):
    """A statistic with its 90 % limits."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def bootstrap(
    table: Clusters, statistic: Callable[[NDArray[np.float64]], float]
) -> BootstrapEstimate:
    """A statistic of rows with percentile limits over resampled clusters."""
    draw = np.random.default_rng(0).integers(0, len(table), (RESAMPLES, len(table)))
    values = [statistic(np.concatenate([table[k] for k in chosen])) for chosen in draw]
    low, high = np.quantile(values, [ALPHA / 2, 1 - ALPHA / 2])
    return BootstrapEstimate(statistic(np.concatenate(table)), float(low), float(high))


def explained(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    return _pearson(x, y) ** 2


def _pearson(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Correlation; 0 where one of them does not vary."""
    return float(np.corrcoef(x, y)[0, 1]) if np.ptp(x) and np.ptp(y) else 0.0


def rank_correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Spearman's, with mean ranks: a resample holds every row of a cluster several times."""
    from scipy import stats

    return _pearson(stats.rankdata(x), stats.rankdata(y))
