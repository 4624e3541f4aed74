"""How many items and seeds a margin needs, and what a given number can detect.

Planning happens before a run: every function takes a design variance (from the A/A run or a
pilot), never the observed discordance of the run being judged. For binary items the variance of
one paired difference is q - D^2, q = discordance, D = true drop; for graded items put the variance
of d in place of q. Below `MOST_EXACT` expected flips the probabilities are enumerated over the
numbers of lost and gained items, for there the normal approximation promises .8 where the truth is
.2 to .7; above, it is used with the shift of the worst-item limit, one item in n. Clustered items
count as the independent ones that their planned design effect leaves. Left out: sequential designs;
n is fixed in the lock and growing it after a look is refused.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from retainbench.harness.statistics.beta import log_gamma
from retainbench.harness.statistics.graded import Moments, t_quantile, worst_item_limit
from retainbench.harness.statistics.paired import (
    Floats,
    normal_cdf,
    normal_quantile,
    tango_bounds,
    zero_flip_items,
)

POWER = 0.8
MOST_SEEDS = 10_000  # a search that has not ended there is answered with None
MOST_EXACT = 40.0  # expected flips; the approximation is within .01 of the enumeration there
MOST_ITEMS = 10_000_000


def _effort(alpha: float, power: float) -> float:
    """(z_alpha + z_power)^2; 6.182557 at alpha .05, power .8."""
    return (normal_quantile(1 - alpha) + normal_quantile(power)) ** 2


class _UpperLimits(NamedTuple):
    """Upper limits by rising size, with the probability that the limit is at most that."""

    upper: Floats
    chance: Floats


@lru_cache(maxsize=4096)
def _upper_limits(items: int, discordance: float, true_drop: float, alpha: float) -> _UpperLimits:
    """Distribution of the upper limit (Tango and worst item) over trinomial counts."""
    lost, gained = (discordance + true_drop) / 2, (discordance - true_drop) / 2
    grid = np.meshgrid(_likely(items, lost), _likely(items, gained), indexing="ij")
    n10, n01 = (x.ravel() for x in grid)
    kept = n10 + n01 <= items
    n10, n01 = n10[kept], n01[kept]
    counts = ((n10, lost), (n01, gained), (items - n10 - n01, 1 - discordance))
    logs = math.lgamma(items + 1) + sum(_log_of_power(p, n) - log_gamma(n + 1) for n, p in counts)
    lowest = np.where(n01 > 0, -1.0, np.where(n10 < items, 0.0, 1.0))
    shape = Moments((n10 - n01) / items, (n10 + n01) / items, lowest, float(items))
    tango = tango_bounds(n10, n01, float(items), 1 - 2 * alpha).high
    upper = np.maximum(tango, worst_item_limit(shape, alpha))
    order = np.argsort(upper)
    return _UpperLimits(upper[order], np.cumsum(np.exp(logs)[order]))


def _log_of_power(p: float, exponents: Floats) -> Floats:
    """ln p^n, where 0^0 is 1."""
    if p == 0:
        return np.where(exponents > 0, -math.inf, 0.0)
    return exponents * math.log(p)


def _likely(items: int, p: float) -> Floats:
    """Counts within seven standard deviations of a binomial's mean; mass beyond is < 1e-9."""
    reach = 7 * math.sqrt(items * p) + 7
    low, high = max(0, math.floor(items * p - reach)), min(items, math.ceil(items * p + reach))
    return np.arange(low, high + 1, dtype=np.float64)


def power_to_pass(
    items: float, margin: float, discordance: float, true_drop: float = 0.0, alpha: float = 0.05
) -> float:
    """Probability that one task passes, its base above chance.

    Exact for few flips; else Phi((m - D - 1/n) sqrt(n / (q - D^2)) - z_alpha). A variance below the
    drop (q < D) is that of graded scores, for which the approximation serves.

    >>> [round(power_to_pass(n, 0.05, 0.05), 2) for n in (58, 124, 160)]  # .8 by formula at 124
    [0.0, 0.66, 0.79]
    """
    n = math.floor(items + 1e-9)
    if n < zero_flip_items(margin, alpha):
        return 0.0
    if n * discordance <= MOST_EXACT and abs(true_drop) <= discordance <= 1:
        limits = _upper_limits(n, discordance, true_drop, alpha)
        passing = int(np.searchsorted(limits.upper, margin + 1e-12, side="right"))
        return float(min(1.0, limits.chance[passing - 1])) if passing else 0.0
    spread = math.sqrt(max(discordance - true_drop**2, 1e-12) / n)
    return normal_cdf((margin - true_drop - 1 / n) / spread - normal_quantile(1 - alpha))


def items_needed(
    margin: float,
    discordance: float,
    true_drop: float = 0.0,
    alpha: float = 0.05,
    power: float = POWER,
) -> int | None:
    """Items for a decision at this power: PASS if D is below the margin, REGRESSION if above.

    n (|m - D| - 1/n)^2 = (z_alpha + z_power)^2 (q - D^2), and where the margin is above the drop
    and that means few flips, a number found by exact enumeration; never fewer than pass without a
    flip. None when the true drop is the margin: no number of items decides that. Unit: independent
    items; multiply by the design effect for clusters.

    >>> [items_needed(0.02, q) for q in (0.05, 0.10, 0.20)], items_needed(0.05, 0.01)
    ([870, 1645, 3191], 93)
    >>> round(_effort(0.05, 0.8) * 0.05 / 0.02**2)  # without the worst item: STATISTICS 7
    773
    """
    if true_drop == margin:
        return None
    gap, variance = abs(margin - true_drop), max(discordance - true_drop**2, 0.0)
    spread = math.sqrt(_effort(alpha, power) * variance)
    normal = math.ceil(((spread + math.sqrt(spread**2 + 4 * gap)) / (2 * gap)) ** 2)
    if true_drop > margin:
        return normal
    least = zero_flip_items(margin, alpha)
    high = max(normal, least)
    if high * discordance > MOST_EXACT or not abs(true_drop) <= discordance <= 1:
        return high
    while power_to_pass(high, margin, discordance, true_drop, alpha) < power:
        high *= 2
        if high > MOST_ITEMS:
            return None
    low = least - 1
    while high - low > 1:
        middle = (low + high) // 2
        enough = power_to_pass(middle, margin, discordance, true_drop, alpha) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high


def minimum_detectable_effect(
    items: float,
    discordance: float,
    alpha: float = 0.05,
    power: float = POWER,
) -> float:
    """Smallest margin that passes with this power when nothing was lost, in score points.

    The quantile `power` of the upper limit: enumerated for few flips, else (z_alpha + z_power)
    sqrt(q / n) + 1 / n. On the scale of all items; the mistake to avoid is 2.8 / sqrt(n q), on the
    scale of discordant items: 28 points instead of 2.8 at n 1000, q .1.

    >>> [round(100 * minimum_detectable_effect(1000, q), 2) for q in (0.05, 0.10, 0.20)]
    [1.86, 2.59, 3.62]
    """
    n = math.floor(items + 1e-9)
    if n < 1:
        return math.inf
    if n * discordance <= MOST_EXACT and discordance <= 1:
        limits = _upper_limits(n, discordance, 0.0, alpha)
        place = int(np.searchsorted(limits.chance, min(power, limits.chance[-1])))
        return float(limits.upper[place])
    return math.sqrt(_effort(alpha, power) * discordance / n) + 1 / n


def power_per_task(joint: float, tasks: int) -> float:
    """Power that each of K independent tasks needs for this joint power.

    >>> [round(power_per_task(0.8, k), 4) for k in (3, 9, 12)]
    [0.9283, 0.9755, 0.9816]
    """
    return float(joint ** (1 / tasks))


def growth_for_joint_power(joint: float, tasks: int, alpha: float = 0.05) -> float:
    """Factor by which items grow when K tasks, not one, must all pass with this power.

    >>> [round(growth_for_joint_power(0.8, k), 2) for k in (3, 9, 12)]
    [1.56, 2.11, 2.25]
    """
    return _effort(alpha, power_per_task(joint, tasks)) / _effort(alpha, joint)


def detectable_drop(
    items: float,
    margin: float,
    *,
    discordance: float,
    tasks: int = 1,
    alpha: float = 0.05,
    power: float = POWER,
) -> float | None:
    """Smallest true drop that one task of K shows as a REGRESSION with this power after Holm.

    Solves n (D - m - 1/n)^2 = (z_{1 - alpha / K} + z_power)^2 (q + D - D^2) for D > m, with q =
    the discordance of what is not lost, since every net loss is itself a discordant item; 1/n is
    the shift of the worst-item limit. Normal approximation; None when even a drop of 1 would not
    show.

    >>> [round(detectable_drop(n, 0.05, tasks=9, discordance=0.1), 3) for n in (100, 200, 400)]
    [0.24, 0.173, 0.131]
    """
    if items < 1:
        return None
    effort = (normal_quantile(1 - alpha / tasks) + normal_quantile(power)) ** 2
    drops = np.linspace(margin, 1, 20_001)[1:]  # steps below a hundredth of a point
    variance = np.maximum(discordance + drops - drops**2, 0)
    gaps = np.maximum(drops - margin - 1 / items, 0)
    shown = (gaps > 0) & (items * gaps**2 >= effort * variance)
    return float(drops[int(np.argmax(shown))]) if shown.any() else None


def seeds_needed(
    margin: float,
    seed_variance: float,
    item_variance: float,
    error_variance: float,
    items: int,
    true_drop: float = 0.0,
    alpha: float = 0.05,
    power: float = POWER,
) -> int | None:
    """Training seeds S so that a method's mean drop is shown to be within the margin.

    Smallest S >= 2 with (t_{1-alpha,S-1} + t_{power,S-1})^2 Var(S) <= (m - D)^2 and Var(S) =
    s_S/S + s_I/I + s_E/(S I), the components of `two_way`. None when items alone already exceed the
    margin: then no number of seeds is enough.

    >>> seeds_needed(0.02, 0.0001, 0.02, 0.05, items=2000)
    5
    >>> seeds_needed(0.02, 0.0001, 0.2, 0.05, items=500) is None
    True
    """
    goal = (margin - true_drop) ** 2
    if _effort(alpha, power) * item_variance / items >= goal:
        return None
    for seeds in range(2, MOST_SEEDS):
        variance = seed_variance / seeds + (item_variance + error_variance / seeds) / items
        effort = t_quantile(1 - alpha, seeds - 1) + t_quantile(power, seeds - 1)
        if effort**2 * variance <= goal:
            return seeds
    return None
