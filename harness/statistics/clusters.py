"""Items that come in clusters: the planned design effect, CR2 errors, Bell-McCaffrey degrees.

Items that share a passage, template, subject or start point are sampled as wholes, so clusters, not
their items, carry the evidence. How much is lost by that cannot be read off a run in which few
items changed: with none changed the estimated design effect is undefined, with one it is 1. So one
effect is *planned*, from the sizes of the clusters and an intra-cluster correlation (ICC) that is
fixed before the run, and used for every number of changes, zero included. Pure functions, no files.

A closed population (all twelve months, asked in every form) is not a sample of clusters. The
intervals then speak of other questions of the same kind, and are wider than the population itself
needs; where the asked items are all there is, cluster by the form of question instead.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from retainbench.harness.statistics.graded import MeanInterval, t_quantile
from retainbench.harness.statistics.paired import Bounds, Floats

PLANNING_ICC = 0.2
"""Holds false PASS at 5 % up to a true ICC of .3 on the clusters of every core task
(results/statistics); tasks that lose more together have plans of their own (`MEASURED_ICCS`)."""


class ClusteredMean(NamedTuple):
    """A mean over items drawn in clusters."""

    mean: float
    standard_error: float
    """CR2."""
    naive_error: float
    """sd / sqrt(n), as if items were independent; never an interval's basis here."""
    clusters: int


class Design:
    """Cluster sizes of a task's items with the planning ICC: all that is known before a run.

    >>> design = Design([0, 0, 1, 1, 2, 2, 3, 3], icc=0.2)
    >>> round(design.effect, 6), round(design.effective_items, 4), round(design.degrees, 6)
    (1.2, 6.6667, 3.0)
    """

    def __init__(self, clusters: ArrayLike, icc: float) -> None:
        """Raises ValueError for an ICC outside [0, 1)."""
        if not 0 <= icc < 1:
            raise ValueError(f"a planning ICC is at least 0 and below 1, got {icc}")
        self.codes = cluster_codes(clusters)
        self.icc = icc
        self.items = len(self.codes)
        self.sizes: Floats = np.bincount(self.codes).astype(np.float64)
        self.groups = len(self.sizes)

    @property
    def clustered(self) -> bool:
        """True when some cluster holds more than one item."""
        return self.groups < self.items

    @cached_property
    def effect(self) -> float:
        """1 + (sum n_g^2 / n - 1) ICC: the planned variance of a mean over that of single items."""
        return 1 + (float(np.sum(self.sizes**2)) / self.items - 1) * self.icc

    @property
    def effective_items(self) -> float:
        """Independent items that the clustered ones are worth."""
        return self.items / self.effect

    @cached_property
    def leverage(self) -> Floats:
        """(G,) CR2's 1 / (1 - n_g / n), which makes a cluster's squared residual unbiased."""
        return 1 / (1 - self.sizes / self.items)

    @cached_property
    def degrees(self) -> float:
        """Bell-McCaffrey degrees of freedom of the CR2 variance of a mean, at least 1.

        (tr M)^2 / tr(M^2), M = covariance of the scaled cluster residuals when items correlate by
        the ICC within clusters. G - 1 for equal clusters. Sources: Bell and McCaffrey (2002, Survey
        Methodology 28:169), Imbens and Kolesar (2016, Rev. Econ. Stat. 98:701).
        """
        share, w = self.sizes / self.items, self.leverage
        own = self.sizes * (1 + (self.sizes - 1) * self.icc)
        total = float(own.sum())
        removed = -2 * share * own + share**2 * total
        trace = float(np.sum(w * (own + removed)))
        a, b, c = (float(np.sum(w * x)) for x in (share**2, own**2, share * own))
        # All pairs of clusters at once, then the diagonal with the clusters' own variance.
        pairs = 2 * a * b + 2 * c * c + (total * a) ** 2 - 4 * total * a * c
        diagonal = float(np.sum(w**2 * ((own + removed) ** 2 - removed**2)))
        return max(1.0, trace**2 / (pairs + diagonal))

    def mean(self, differences: Floats) -> ClusteredMean:
        """As `clustered_mean`."""
        n, groups = self.items, self.groups
        if len(differences) != n:
            raise ValueError(f"{len(differences)} items but {n} cluster labels")
        if groups < 2:
            raise ValueError(f"a clustered standard error needs two clusters, got {groups}")
        mean = float(np.mean(differences))
        sums = np.bincount(self.codes, weights=differences - mean, minlength=groups)
        error = math.sqrt(float(np.sum(self.leverage * sums * sums))) / n
        naive = float(np.std(differences, ddof=1)) / math.sqrt(n)
        return ClusteredMean(mean, error, naive, groups)

    def interval(self, differences: Floats, confidence: float) -> MeanInterval:
        """t interval around the mean with the CR2 error and Bell-McCaffrey degrees of freedom.

        >>> d = np.array([1., 1, 0, 0, -1, 0, 1, 0])
        >>> [round(x, 4) for x in Design([0, 0, 1, 1, 2, 2, 3, 3], 0.2).interval(d, 0.90).bounds]
        [-0.5095, 1.0095]
        """
        result = self.mean(differences)
        half = t_quantile((1 + confidence) / 2, self.degrees) * result.standard_error
        bounds = Bounds(result.mean - half, result.mean + half)
        return MeanInterval(result.mean, result.standard_error, bounds, self.degrees)


def cluster_codes(clusters: ArrayLike) -> NDArray[np.intp]:
    """Cluster labels of any kind as codes 0 .. G-1.

    >>> cluster_codes(["b", "a", "b"]).tolist()
    [1, 0, 1]
    """
    return np.unique(np.asarray(clusters), return_inverse=True)[1].astype(np.intp)


def clustered_mean(differences: Floats, clusters: ArrayLike) -> ClusteredMean:
    """Mean with its cluster-robust standard error (CR2).

    SE = sqrt(sum_g (sum_{i in g} (d_i - mean))^2 / (1 - n_g / n)) / n; for equal clusters that is
    the usual correction by G / (G - 1). Unit of sampling: the cluster; items of different clusters
    are independent. It can be 3 times the naive one (2411.00640). Raises ValueError with fewer than
    two clusters.

    >>> r = clustered_mean(np.array([1., 1, 0, 0, -1, 0, 1, 0]), [0, 0, 1, 1, 2, 2, 3, 3])
    >>> r.mean, r.naive_error, round(r.standard_error, 6)
    (0.25, 0.25, 0.322749)
    """
    return Design(clusters, 0.0).mean(differences)
