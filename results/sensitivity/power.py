"""How surely a measure notices damage of a given size, by the mechanism that did it.

A mechanism is a trajectory of checkpoints, each with a size (what it lost over all tasks) and, for
every measure of every task, a change and its standard error. Between checkpoints both are linear in
the size. Power is the probability that a one-sided test of "nothing was lost" at level alpha
rejects, with the change as the true one and a normal error. Pure numpy; no files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from retainbench.harness.statistics.paired import Floats, normal_cdf, normal_quantile


class Path(NamedTuple):
    """One mechanism: checkpoints in the order of their budget, the base not among them."""

    sizes: Floats
    """(P,) Mean chance-rescaled drop over all tasks, score points."""
    changes: Floats
    """(P, K) Change of every measure; above 0 is worse."""
    errors: Floats
    """(P, K)"""


def statistics_at(path: Path, size: float) -> Floats | None:
    """(K,) Change over its error where the path first reaches a size; None if it never does.

    The base is the point of size 0 without any change, with the errors of the first checkpoint.

    >>> path = Path(np.array([0.02, 0.06]), np.array([[0.1], [0.3]]), np.array([[0.1], [0.1]]))
    >>> [round(float(statistics_at(path, size)[0]), 6) for size in (0.01, 0.04)]
    [0.5, 2.0]
    """
    reached = np.flatnonzero(path.sizes >= size)
    if not len(reached):
        return None
    after = int(reached[0])
    low = path.sizes[after - 1] if after else 0.0
    share = (size - low) / (path.sizes[after] - low)
    before = path.changes[after - 1] if after else np.zeros_like(path.changes[0])
    errors = path.errors[max(after - 1, 0)]
    change = before + share * (path.changes[after] - before)
    error = errors + share * (path.errors[after] - errors)
    found: Floats = change / error
    return found


def power(statistic: float, alpha: float = 0.05) -> float:
    """Of one measure.

    >>> round(power(2.486475), 4)
    0.8
    """
    return normal_cdf(statistic - normal_quantile(1 - alpha))


def joint_power(statistics: ArrayLike, alpha: float = 0.05) -> float:
    """Of a set, in which any measure may raise the alarm, each at alpha over their number.

    Assumes independent errors, as the tasks' items are; 0 for an empty set.

    >>> round(joint_power([2.486475]), 4), joint_power([])
    (0.8, 0.0)
    """
    values = np.atleast_1d(np.asarray(statistics, np.float64))
    if not len(values):
        return 0.0
    return 1 - float(np.prod([1 - power(value, alpha / len(values)) for value in values]))


class Choice(NamedTuple):
    """A greedy order of measures."""

    order: list[int]
    worst: list[float]
    """Worst-case power over mechanisms of the first 1, 2, ... of them."""
    size: int
    """Of the smallest set that suffices."""


def choose(statistics: Mapping[str, Floats], *, wanted: float = 0.8, alpha: float = 0.05) -> Choice:
    """Measures in the order in which they raise the worst-case power most.

    Args:
        statistics: mechanism -> (K,) at equal size of damage.
        wanted: the smallest set reaches this power, or the largest that any number of them does.
    """
    table = np.array(list(statistics.values()))
    order: list[int] = []
    worst: list[float] = []
    while len(order) < table.shape[1]:
        left = [k for k in range(table.shape[1]) if k not in order]
        scored = [(_worst(table[:, [*order, k]], alpha), _mean(table[:, k]), -k) for k in left]
        best = max(scored)
        order.append(-best[2])
        worst.append(best[0])
    size = 1 + next(
        (place for place, value in enumerate(worst) if value >= wanted), int(np.argmax(worst))
    )
    return Choice(order, worst, size)


def _worst(table: NDArray[np.float64], alpha: float) -> float:
    return round(min(joint_power(row, alpha) for row in table), 6)


def _mean(column: NDArray[np.float64]) -> float:
    return float(np.mean(np.minimum(column, 10.0)))


def held_out(
    statistics: Mapping[str, Floats], *, wanted: float = 0.8, alpha: float = 0.05
) -> dict[str, float]:
    """Mechanism -> power on it of the set that is chosen on all other mechanisms."""
    found = {}
    for name, row in statistics.items():
        others = {other: values for other, values in statistics.items() if other != name}
        chosen = choose(others, wanted=wanted, alpha=alpha)
        found[name] = joint_power(row[chosen.order[: chosen.size]], alpha)
    return found


def intra_cluster_correlation(lost: ArrayLike, clusters: Sequence[object]) -> float | None:
    """Analysis-of-variance estimator of the ICC for clusters of unequal sizes.

    (MSB - MSW) / (MSB + (n0 - 1) MSW), n0 = (n - sum n_g^2 / n) / (G - 1). Source: Donner (1986,
    Int. Stat. Rev. 54:67). None where no item, or every one, was lost, or no cluster has two items.

    >>> intra_cluster_correlation([1, 1, 0, 0], ["a", "a", "b", "b"])
    1.0
    >>> round(intra_cluster_correlation([1, 0, 1, 0], ["a", "a", "b", "b"]), 6)
    -1.0
    """
    values = np.asarray(lost, np.float64)
    codes = np.unique(np.asarray(clusters), return_inverse=True)[1]
    sizes = np.bincount(codes)
    groups, n = len(sizes), len(values)
    if groups == n or groups < 2 or np.ptp(values) == 0:
        return None
    means = np.bincount(codes, weights=values) / sizes
    between = float(np.sum(sizes * (means - values.mean()) ** 2)) / (groups - 1)
    within = float(np.sum((values - means[codes]) ** 2)) / (n - groups)
    size = (n - float(np.sum(sizes**2)) / n) / (groups - 1)
    return (between - within) / (between + (size - 1) * within)
