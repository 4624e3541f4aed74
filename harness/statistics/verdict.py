"""One task, base against candidate: the three-way verdict.

PASS if the whole 90% interval of D = base - candidate is at or below the margin, REGRESSION if
it is above, else INCONCLUSIVE. An empty, small, at-chance or too coarsely clustered task is
INCONCLUSIVE whatever its interval says. The interval is the union of every method that applies, so
the verdict is the safest of theirs. Pure functions, no files; `statistics/estimate.py` makes the
intervals and `statistics/multiplicity.py` combines tasks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from retainbench.harness.statistics.clusters import PLANNING_ICC, Design, clustered_mean
from retainbench.harness.statistics.estimate import (
    Estimate,
    IntervalMethod,
    design_of,
    estimate,
)
from retainbench.harness.statistics.paired import (
    Bounds,
    Floats,
    PairedCounts,
    checked_scores,
    is_binary,
    mcnemar,
    paired_counts,
)
from retainbench.harness.statistics.power import items_needed, minimum_detectable_effect

if TYPE_CHECKING:
    from retainbench.harness.core.records import Verdict

FEWEST_CLUSTERS = 10  # STATISTICS 4


@dataclass(frozen=True)
class Judgement:
    """A verdict on one task with everything it rests on; score points unless stated."""

    verdict: Verdict
    reasons: tuple[str, ...]
    """Why the verdict is not PASS, in words; empty for PASS."""
    margin: float
    alpha: float
    n: int
    clusters: int
    """Number of clusters; equal to n when items are independent."""
    base_score: float | None
    tuned_score: float | None
    chance: float
    at_chance: bool
    counts: PairedCounts | None
    """None for graded scores."""
    drop: float | None
    bounds: Bounds | None
    """The union of the methods' intervals; None when no interval can be computed."""
    methods: tuple[IntervalMethod, ...]
    p_within: float
    """Largest p of "D <= margin" over the methods; 1 when there is no interval."""
    p_beyond: float
    evidence_p: float | None
    """Two-sided McNemar p for independent binary items: shown, decides nothing."""
    rescaled_drop: float | None
    """Mean of d_i / (1 - chance_i): what axes average."""
    rescaled_error: float | None
    degrees: float
    """Of freedom of the error; infinite for score intervals."""
    mde: float | None
    """Smallest margin that passes with power .8 when nothing was lost; None without items."""
    items_if_unchanged: int
    """Items that would PASS with power .8 if the true drop were 0."""
    items_if_as_observed: int | None
    """Items that would decide with power .8 if the observed drop were true; None = never."""


def at_chance(base: ArrayLike, chance: ArrayLike = 0.0, clusters: ArrayLike | None = None) -> bool:
    """True when the base scores within 2 standard errors above chance, or below it.

    Such a task cannot show forgetting. The standard error is the clustered one where items share
    clusters. Chance is per item (1/k for k choices, 0 for free-form answers).

    >>> at_chance([1, 0, 0, 0] * 25, 0.25), at_chance([1, 1, 1, 0] * 25, 0.25)
    (True, False)
    """
    scores = checked_scores(base)
    if not len(scores):
        return True
    codes = design_of(clusters, len(scores)).codes
    above = scores - np.asarray(chance, np.float64)
    if len(scores) < 2 or int(codes.max()) == 0:
        return bool(np.mean(above) <= 0)
    return bool(np.mean(above) <= 2 * clustered_mean(above, codes).standard_error)


def decide(bounds: Bounds, margin: float) -> Verdict:
    """The three-way rule for one interval: every interval gets exactly one verdict.

    >>> [decide(Bounds(*b), 0.02) for b in ((-0.01, 0.02), (-0.01, 0.03), (0.021, 0.03))]
    ['PASS', 'INCONCLUSIVE', 'REGRESSION']
    """
    if bounds.high <= margin:
        return "PASS"
    return "REGRESSION" if bounds.low > margin else "INCONCLUSIVE"


def judge(
    base: ArrayLike,
    tuned: ArrayLike,
    *,
    margin: float,
    min_items: int,
    alpha: float = 0.05,
    chance: ArrayLike = 0.0,
    clusters: ArrayLike | None = None,
    icc: float = PLANNING_ICC,
    min_clusters: int = FEWEST_CLUSTERS,
    design_variance: float | None = None,
    seed: int = 0,
) -> Judgement:
    """Verdict on one task from the paired scores of its items, in one order.

    Estimand: mean drop over the task's items for these two checkpoints; items (or clusters) are
    random, the training seed is fixed. Level: one-sided alpha, that is the two-sided 1 - 2 alpha
    interval. `chance` is a number or one per item. `icc` is the intra-cluster correlation that was
    planned for; it counts for every number of flips. `design_variance` is the variance of a paired
    difference (discordance for 0/1 items) known before the run, from a pilot or an A/A run; without
    it, twice the base's own variance, which is that of two independent runs of the base and in
    practice too large. `seed` drives the bootstrap of graded scores and belongs in the lock.
    Raises ValueError for a margin outside (0, 1), unequal lengths, scores that are not finite or
    outside [0, 1].

    >>> base, tuned = [1] * 900 + [0] * 100, [1] * 880 + [0] * 100 + [1] * 20
    >>> j = judge(base, tuned, margin=0.03, min_items=100)
    >>> j.verdict, j.drop, [round(x, 4) for x in j.bounds]
    ('PASS', 0.0, [-0.0115, 0.0115])
    >>> judge(base[-30:], tuned[-30:], margin=0.03, min_items=100).verdict
    'INCONCLUSIVE'
    """
    limits = _Limits(margin, alpha, min_items, min_clusters)
    b, t, chances = _checked(base, tuned, chance, margin)
    if not len(b):
        return _empty(limits)
    design = design_of(clusters, len(b), icc)
    found = estimate(
        b, t, confidence=1 - 2 * alpha, clusters=design.codes, icc=icc, margin=margin, seed=seed
    )
    lucky = at_chance(b, chances, design.codes)
    verdict, reasons = _ruling(found, len(b), design.groups, lucky, limits)
    counts = paired_counts(b, t) if is_binary(b, t) else None
    signs = None if counts is None or design.clustered else mcnemar(counts.n10, counts.n01)
    rescaled = _rescaled(found, b - t, chances)
    needs = _needs(b, design, found.drop, limits, design_variance)
    return Judgement(
        verdict=verdict,
        reasons=reasons,
        margin=margin,
        alpha=alpha,
        n=len(b),
        clusters=design.groups,
        base_score=float(np.mean(b)),
        tuned_score=float(np.mean(t)),
        chance=float(np.mean(chances)),
        at_chance=lucky,
        counts=counts,
        drop=found.drop,
        bounds=found.bounds,
        methods=found.methods,
        p_within=found.p_within,
        p_beyond=found.p_beyond,
        evidence_p=signs.two_sided if signs else None,
        rescaled_drop=rescaled.drop,
        rescaled_error=rescaled.error,
        degrees=found.degrees,
        mde=needs.mde,
        items_if_unchanged=needs.unchanged,
        items_if_as_observed=needs.as_observed,
    )


def _empty(limits: _Limits) -> Judgement:
    """No items: nothing is known, and nothing passes."""
    return Judgement(
        verdict="INCONCLUSIVE",
        reasons=(f"0 items, the policy asks for {limits.min_items}",),
        margin=limits.margin,
        alpha=limits.alpha,
        n=0,
        clusters=0,
        base_score=None,
        tuned_score=None,
        chance=0.0,
        at_chance=False,
        counts=None,
        drop=None,
        bounds=None,
        methods=(),
        p_within=1.0,
        p_beyond=1.0,
        evidence_p=None,
        rescaled_drop=None,
        rescaled_error=None,
        degrees=math.inf,
        mde=None,
        items_if_unchanged=items_needed(limits.margin, 0.5, 0.0, limits.alpha) or 0,
        items_if_as_observed=None,
    )


class _Checked(NamedTuple):
    base: Floats
    tuned: Floats
    chances: Floats


def _checked(base: ArrayLike, tuned: ArrayLike, chance: ArrayLike, margin: float) -> _Checked:
    if not 0 < margin < 1:
        raise ValueError(f"a margin is in score points between 0 and 1, got {margin}")
    b, t = checked_scores(base), checked_scores(tuned)
    if b.shape != t.shape:
        raise ValueError(f"pairs need equal lengths, got {len(b)} and {len(t)}")
    if len(b) and not (min(b.min(), t.min()) >= 0 and max(b.max(), t.max()) <= 1):
        raise ValueError("scores must be in [0, 1]; rescale the metric before judging it")
    return _Checked(b, t, np.broadcast_to(np.asarray(chance, np.float64), b.shape))


class _Limits(NamedTuple):
    margin: float
    alpha: float
    min_items: int
    min_clusters: int


class _Ruling(NamedTuple):
    verdict: Verdict
    reasons: tuple[str, ...]


class _Rescaled(NamedTuple):
    drop: float | None
    error: float | None


class _Needs(NamedTuple):
    mde: float | None
    unchanged: int
    as_observed: int | None


def _ruling(found: Estimate, n: int, groups: int, lucky: bool, limits: _Limits) -> _Ruling:
    """Verdict by the union of the methods, unless the evidence is not allowed to decide."""
    bars = []
    if n < limits.min_items:
        bars.append(f"{n} items, the policy asks for {limits.min_items}")
    if groups < min(n, limits.min_clusters):
        bars.append(f"{groups} clusters, the policy asks for {limits.min_clusters}")
    if lucky:
        bars.append("the base is within 2 standard errors of chance: forgetting cannot show")
    if found.bounds is None:
        bars.append("no interval can be computed")
    if bars or found.bounds is None:
        return _Ruling("INCONCLUSIVE", tuple(bars))
    verdict = decide(found.bounds, limits.margin)
    if verdict == "PASS":
        return _Ruling(verdict, ())
    place = "is above" if verdict == "REGRESSION" else "contains"
    interval = f"the {100 * (1 - 2 * limits.alpha):g} % interval of the drop"
    return _Ruling(verdict, (against_margin(interval, found.bounds, place, limits.margin),))


def against_margin(interval: str, bounds: Bounds, place: str, margin: float) -> str:
    """Why a verdict is not PASS, in points as every table shows them.

    >>> against_margin("the interval", Bounds(-0.0295, 0.0295), "contains", 0.02)
    'the interval, -2.95 to 2.95 points, contains the margin of 2'
    """
    low, high = (100 * limit for limit in bounds)
    return f"{interval}, {low:.2f} to {high:.2f} points, {place} the margin of {100 * margin:g}"


def _rescaled(found: Estimate, d: Floats, chances: Floats) -> _Rescaled:
    """Mean of d / (1 - chance) and its error: the estimate's error times the ratio of spreads."""
    if found.standard_error is None:
        return _Rescaled(None, None)
    if np.any(chances >= 1):
        raise ValueError("an item with chance 1 cannot be wrong; it measures nothing")
    weights = 1 / (1 - chances)
    spread, wider = float(np.std(d)), float(np.std(d * weights))
    ratio = wider / spread if spread > 0 and wider > 0 else float(np.mean(weights))
    return _Rescaled(float(np.mean(d * weights)), found.standard_error * ratio)


def _needs(
    base: Floats, design: Design, drop: float, limits: _Limits, variance: float | None
) -> _Needs:
    """MDE and items needed, from the design variance and the planned design effect."""
    n = len(base)
    if variance is None:
        right = (float(np.sum(base)) + 1) / (n + 2)  # keeps all right and all wrong off variance 0
        variance = 2 * (float(np.var(base)) or right * (1 - right))
    unchanged = items_needed(limits.margin, variance, 0.0, limits.alpha)
    observed = items_needed(limits.margin, variance, drop, limits.alpha)
    return _Needs(
        minimum_detectable_effect(design.effective_items, variance, limits.alpha),
        math.ceil(design.effect * (unchanged or 0)),
        None if observed is None else math.ceil(design.effect * observed),
    )
