"""Few seeds: variances of differences over seeds that borrow strength from each other.

Three seeds give a variance two degrees of freedom, and Holm's correction over the pairs of thirteen
methods then asks for t above 20, which no difference reaches. All pairs of a measure were trained
alike, so their variances are treated as draws from one scaled inverse chi-square distribution that
the pairs themselves determine; each variance is moved towards its centre, by less the more they
differ. Source: Smyth (2004, Stat. Appl. Genet. Mol. Biol. 3:3), sections 6.1 and 6.2. Unlike there,
a variance is never made smaller than it was measured, so that a method which scatters keeps its
scatter, and the degrees of freedom never exceed those of the methods (pairs share methods).

How often intervals cover and pairs differ by mistake: results/statistics. Pure functions, no files.
Left out: two seeds (one degree of freedom does not show how much variances differ) and few methods.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from retainbench.harness.statistics.methods.seeds import Component, SeedMean
from retainbench.harness.statistics.paired import Floats

FEWEST_METHODS = 5
FEWEST_SEEDS = 3
SMALLEST = 1e-5
"""Share of the median below which a variance counts as that much: its logarithm is needed."""


class ModeratedVariances(NamedTuple):
    """K variances after they borrowed from each other."""

    variances: Floats
    degrees: float
    """Of freedom of each; infinite where the variances do not differ more than by chance."""


def applies(methods: int, seeds: int) -> bool:
    """Whether there are enough methods and seeds for the pairs of methods to be moderated."""
    return methods >= FEWEST_METHODS and seeds >= FEWEST_SEEDS


def moderate(means: Sequence[SeedMean], methods: int) -> list[SeedMean]:
    """Differences of methods with moderated variances over seeds.

    Args:
        means: differences of pairs, paired seed by seed, on one measure.
        methods: how many methods the pairs are made of.

    A difference that is the same in every seed stays as it is, as equal answers have it, and lends
    nothing. All are unchanged where `applies` says no or seeds were not paired.
    """
    varied = {n: one.seeds for n, one in enumerate(means) if one.seeds and one.seeds.variance > 0}
    degrees = {part.degrees for part in varied.values()}
    own = next(iter(degrees), 0.0)
    if len(varied) < 2 or len(degrees) > 1 or not applies(methods, round(own) + 1):
        return list(means)
    measured = np.array([part.variance for part in varied.values()])
    found = moderated_variances(measured, own)
    most = min(found.degrees, methods * own)
    moved = dict(zip(varied, np.maximum(found.variances, measured), strict=True))
    return [
        one._replace(seeds=Component(float(moved[n]), most)) if n in moved else one
        for n, one in enumerate(means)
    ]


def moderated_variances(variances: ArrayLike, degrees: float) -> ModeratedVariances:
    """Posterior variances (d0 s0^2 + d s^2) / (d0 + d) with d0 + d degrees of freedom.

    Args:
        variances: (K,) at least two above 0, each with `degrees` of freedom.

    d0 and s0^2 are fitted to the mean and variance of log s^2. Where these scatter no more than
    equal true variances would, all are pooled.

    >>> found = moderated_variances([1.0, 1.5, 0.5, 1.0], 2)
    >>> found.variances.round(6).tolist(), found.degrees
    ([1.0, 1.0, 1.0, 1.0], inf)
    >>> found = moderated_variances([0.01, 0.5, 1.0, 40.0], 2)
    >>> found.variances.round(3).tolist(), round(found.degrees, 3)
    ([0.048, 0.414, 0.788, 29.961], 2.674)
    """
    measured = np.asarray(variances, np.float64)
    kept = np.maximum(measured, SMALLEST * np.median(measured))
    logs = np.log(kept) - digamma(degrees / 2) + math.log(degrees / 2)
    excess = float(np.var(logs, ddof=1)) - trigamma(degrees / 2)
    if excess <= 0:
        return ModeratedVariances(np.full(len(kept), kept.mean()), math.inf)
    prior = 2 * _inverse_trigamma(excess)
    centre = math.exp(float(np.mean(logs)) + digamma(prior / 2) - math.log(prior / 2))
    return ModeratedVariances(
        (prior * centre + degrees * kept) / (prior + degrees), prior + degrees
    )


def digamma(x: float) -> float:
    """Derivative of log gamma for x > 0 (Abramowitz and Stegun 6.3.18), to 1e-12.

    >>> round(digamma(1.0), 10)
    -0.5772156649
    """
    if x < 10:
        return digamma(x + 1) - 1 / x
    y = 1 / (x * x)
    tail = y * (1 / 12 - y * (1 / 120 - y * (1 / 252 - y * (1 / 240 - y / 132))))
    return math.log(x) - 0.5 / x - tail


def trigamma(x: float) -> float:
    """Derivative of `digamma` for x > 0 (Abramowitz and Stegun 6.4.12), to 1e-12.

    >>> round(trigamma(1.0), 10)
    1.6449340668
    """
    if x < 10:
        return trigamma(x + 1) + 1 / (x * x)
    y = 1 / (x * x)
    tail = y * (1 / 6 - y * (1 / 30 - y * (1 / 42 - y * (1 / 30 - y * 5 / 66))))
    return (1 + 0.5 / x + tail) / x


def _inverse_trigamma(value: float) -> float:
    """x > 0 with trigamma(x) = value, by halving the interval between its bounds.

    trigamma is between 1/x + 1/(2 x^2) and 1/x + 1/x^2.
    """
    low = (1 + math.sqrt(1 + 2 * value)) / (2 * value)
    high = (1 + math.sqrt(1 + 4 * value)) / (2 * value)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if trigamma(middle) > value else (low, middle)
    return (low + high) / 2
