"""Trajectories of checkpoints: worst point, end, area and recovery.

A trajectory is the sequence of (budget, drop) of one cell's checkpoints, the base itself first
(drop 0). Drops at a matched gain: `statistics/methods/matched_gain.py`. Pure functions, no files.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from retainbench.harness.statistics.paired import Floats


class DropTrajectory(NamedTuple):
    """Drop along one trajectory, in score points."""

    worst: float
    """Largest drop at any checkpoint; the maximum of k noisy values is biased up, so its A/A value
    belongs next to it."""
    worst_at: float
    """Budget at which it occurs first."""
    end: float
    area: float
    """Integral of the drop over the budget by trapezoids: score points x unit of budget."""
    recovery: float
    """worst - end."""


def trajectory(budget: ArrayLike, drop: ArrayLike) -> DropTrajectory:
    """Worst point, end, area and recovery of one trajectory; budgets must increase.

    >>> trajectory([0, 1, 2], [0, 0.04, 0.02])
    DropTrajectory(worst=0.04, worst_at=1.0, end=0.02, area=0.05, recovery=0.02)
    """
    x, y = _points(budget, drop)
    if np.any(np.diff(x) <= 0):
        raise ValueError(f"budgets must increase, got {x.tolist()}")
    worst = int(np.argmax(y))
    area = float(np.trapezoid(y, x))
    return DropTrajectory(
        float(y[worst]), float(x[worst]), float(y[-1]), area, float(y[worst] - y[-1])
    )


def _points(first: ArrayLike, second: ArrayLike) -> tuple[Floats, Floats]:
    x, y = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if x.ndim != 1 or x.shape != y.shape or not len(x):
        raise ValueError(f"need two equal vectors, got shapes {x.shape} and {y.shape}")
    if not (np.all(np.isfinite(x)) and np.all(np.isfinite(y))):
        raise ValueError("a checkpoint's value is missing or not finite")
    return x, y
