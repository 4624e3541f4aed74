"""How far an evolution strategy would drift if its rewards had nothing to do with its noise.

Reads and writes nothing. Report drift / null instead of a raw norm: C2 of METHODS 17 says that
published ES runs sit at 1.0 to 1.2.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class EsStep(NamedTuple):
    """One update theta += (alpha / population) sum_j w_j e_j and the anchor's pull after it."""

    alpha: float
    population: int
    """N, the divisor of the update."""
    weights: Sequence[float]
    """w_j: net coefficient of each distinct direction (members that share a seed are summed, an
    antithetic pair is one direction with the difference of its two fitnesses)."""
    kept: float = 1.0
    """Factor that an l2 anchor applies to the drift after the step, 1 - alpha lambda."""


def es_null(d: int, schedule: Iterable[EsStep]) -> float:
    """Root mean square Frobenius drift of pure-noise updates (METHODS 14, general form, derived).

    null^2 = d sum_t (alpha_t / N_t)^2 sum_j w_tj^2, each term shrunk by the later `kept`^2. Steps
    without reward differences have all w = 0 and add nothing.

    Args:
        d: perturbed parameters, each with independent noise of unit variance.
        schedule: the updates in order.

    Returns:
        The null in the unit of the weights.

    Example: z-scored rewards have sum w^2 = N, so 30 members, alpha 5e-4 and 500 steps on
    Qwen2.5-3B give alpha sqrt(d T / N):

    >>> step = EsStep(5e-4, 30, [30**0.5])
    >>> round(es_null(3_086_000_000, [step] * 500), 1)
    113.4
    """
    squared = 0.0
    for step in schedule:
        added = (step.alpha / step.population) ** 2 * math.fsum(w * w for w in step.weights)
        squared = step.kept**2 * (squared + added)
    return math.sqrt(d * squared)


def anchored_es_null(d: int, alpha: float, population: int, steps: int, strength: float) -> float:
    """Closed form for z-scored rewards and an l2 anchor (METHODS 14): rho = 1 - alpha strength,

    null = alpha sqrt(d / N (1 - rho^(2T)) / (1 - rho^2)).

    This is the drift just before the last pull of the anchor; `es_null` with `kept` = rho gives the
    drift after it, which is rho times as large. Strength 0 gives the plain alpha sqrt(d T / N).

    >>> round(anchored_es_null(3_086_000_000, 5e-4, 30, 500, 10.0), 1)
    50.6
    """
    rho = 1 - alpha * strength
    terms = steps if rho == 1 else (1 - rho ** (2 * steps)) / (1 - rho**2)
    return alpha * math.sqrt(d / population * terms)
