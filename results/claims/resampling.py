"""Statistics of cells with intervals over resampled recipes: the seeds of one are not independent.

Percentile bootstrap of whole clusters; 90 % limits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from results.claims.finding import ALPHA
from results.claims.published import Published
from retainbench.harness.report.publish import training_hours

RESAMPLES = 1_999
MOST_RECIPES = 100
"""More of them nobody runs for one claim: the estimate is too near its bound."""

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


def recipes_to_decide(
    known: Sequence[tuple[BootstrapEstimate, float]], recipes: int, folders: Sequence[Published]
) -> str:
    """How many more recipes would tell estimates from their bounds, and what they cost.

    A half width must fall below the distance from the bound, and falls with the square root of the
    recipes. Those that are told already need none.

    Args:
        known: estimates, each with its bound.
        folders: of the recipes, for their hours.
    """
    needed = max(
        recipes * ((one.high - one.low) / 2 / max(abs(one.value - bound), TINY)) ** 2
        for one, bound in known
        if one.low <= bound <= one.high
    )
    more = math.ceil(min(needed - recipes, MOST_RECIPES))
    hours = sum(training_hours(runs.cards) for runs in folders) / recipes * more
    cost = f"about {hours:.1f} CPU hours of training"
    if more == MOST_RECIPES:
        return f"more than {more} recipes ({cost}): it is too near its bound"
    return f"{more} more recipes, {cost}"


TINY = 1e-9


def explained(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    return _pearson(x, y) ** 2


def _pearson(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Correlation; 0 where one of them does not vary."""
    return float(np.corrcoef(x, y)[0, 1]) if np.ptp(x) and np.ptp(y) else 0.0


def rank_correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Spearman's, with mean ranks: a resample holds every row of a cluster several times."""
    from scipy import stats

    return _pearson(stats.rankdata(x), stats.rankdata(y))
