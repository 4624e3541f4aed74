"""Claims about the drift of evolution strategies: C1 and C2, read from es-forgetting."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from results.claims import finding
from results.claims.evolution import ARMS
from results.claims.finding import Finding
from results.claims.published import Published
from retainbench.harness.core.scorecards import PointScore, Scorecard

DRIFT_RATIO = 10.0
"""What C1 expects at least (METHODS 17): the papers have 90 to 1,000."""
WALK = (0.9, 1.25)
"""Drift over that of a random walk of the same length (C2)."""
SQUARE_ROOT = (0.4, 0.6)
"""Slope of log drift on log updates (C2)."""


def at_equal_gain(runs: Published) -> Finding:
    """C1: drift of ES over that of GRPO where each first reaches half of the lower best gain.

    Asked of every recipe of ES without an anchor, since the claim names none, whose gain is shown:
    where nothing was gained there is no place of the same gain. The geometric mean over seeds, with
    t limits of its logarithm. All must be above the factor, and one below it contradicts.
    """
    grpo = {card.seed: card for card in runs.of("grpo")}
    without = [arm for arm in ARMS if (row := runs.row(arm)) and row.gain.low <= 0]
    ratios = {
        arm: [_ratio(es, grpo[es.seed]) for es in runs.of(arm) if es.seed in grpo]
        for arm in ARMS
        if arm not in without
    }
    known = {
        arm: finding.over_seeds([math.log(ratio) for ratio in found if ratio is not None])
        for arm, found in ratios.items()
        if len(found) >= finding.SCATTER_SEEDS and None not in found
    }
    if not known:
        return finding.missing(runs)
    limits = [finding.for_all(each, len(known), each.n - 1) for each in known.values()]
    all_above = all(math.exp(one.low) > DRIFT_RATIO for one in limits)
    one_below = any(math.exp(one.high) < DRIFT_RATIO for one in limits)
    texts = (
        f"{arm} {math.exp(each.value):.1f} [{math.exp(each.low):.1f}, {math.exp(each.high):.1f}]"
        for arm, each in known.items()
    )
    asked = f"drift over that of grpo at the same gain, {finding.seeds_text(runs)}: "
    return Finding(
        "contradicted" if one_below else "reproduced" if all_above else "undecided",
        [asked + ", ".join(texts)]
        + [f"not asked of {arm}, whose gain is not shown" for arm in without],
        runs.name,
        finding.more_seeds(runs),
    )


def _ratio(es: Scorecard, grpo: Scorecard) -> float | None:
    """Drift of ES over that of GRPO at half of the smaller best gain; None without a gain."""
    goal = min(max(p.gain.value for p in card.points) for card in (es, grpo)) / 2
    return _drift_at(es, goal) / _drift_at(grpo, goal) if goal > 0 else None


def _drift_at(card: Scorecard, goal: float) -> float:
    """Relative drift at the first crossing of a gain that is reached, between two checkpoints."""
    before = (0.0, 0.0)
    for point in card.points:
        gain, drift = point.gain.value, point.drift.relative if point.drift else math.nan
        if gain >= goal:
            share = (goal - before[0]) / (gain - before[0]) if gain > before[0] else 1.0
            return before[1] + share * (drift - before[1])
        before = (gain, drift)
    raise ValueError(f"{card.recipe} never gains {goal:.3f}")


def random_walk(runs: Published) -> Finding:
    """C2: drift over the null, and the slopes of log drift."""
    cards = [card for arm in ARMS for card in runs.of(arm)]
    points_ = [p for card in cards for p in card.points if p.drift and p.drift.over_null]
    if not points_:
        return finding.missing(runs)
    over = [p.drift.over_null for p in points_ if p.drift and p.drift.over_null]
    slopes = [_slope(card.points) for card in cards]
    status = finding.every(
        finding.within(min(over), max(over), WALK),
        finding.within(min(slopes), max(slopes), SQUARE_ROOT),
    )
    return Finding(
        status,
        [
            f"drift over that of a random walk: {finding.range_text(min(over), max(over))} at "
            f"{len(over)} checkpoints",
            f"slope of log drift on log updates: {finding.range_text(min(slopes), max(slopes))}",
        ],
        runs.name,
        finding.more_seeds(runs),
    )


def _slope(points_: Sequence[PointScore]) -> float:
    """Least-squares slope of log drift on log updates."""
    used = [(p.ledger.steps, p.drift.relative) for p in points_ if p.drift and p.ledger.steps]
    steps, drifts = np.log(np.array(used)).T
    return float(np.polyfit(steps, drifts, 1)[0])
