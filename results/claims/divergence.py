"""Claims about the KL to the base: C9 and C10, read from frontier and es-forgetting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

import numpy as np

from results.claims import finding
from results.claims.finding import Finding
from results.claims.published import Published, end
from results.claims.resampling import (
    Clusters,
    bootstrap,
    explained,
    rank_correlation,
    recipes_to_decide,
)
from retainbench.harness.core.scorecards import Scorecard

FEWEST_RECIPES = 6
PREDICTS = 0.5
"""Least rank correlation that is called a prediction (C9). Above 0 is no finding: hotter rates move
KL and drops alike."""


def kl_predicts(runs: Published) -> Finding:
    """C9: how well KL on the new task orders the drops of methods and rates, without ES."""
    table = _kl_and_drop(runs.cards)
    if len(table) < FEWEST_RECIPES:
        return finding.missing(runs)
    square = bootstrap(table, lambda t: explained(t[:, 0], t[:, 2]))
    order = bootstrap(table, lambda t: rank_correlation(t[:, 0], t[:, 2]))
    drift = bootstrap(table, lambda t: rank_correlation(t[:, 3], t[:, 2]))
    status = finding.within(order.low, order.high, (PREDICTS, 1.0))
    return Finding(
        status,
        [
            f"rank correlation of the mean drop with KL of the new task: {order}, R² {square}, "
            f"{len(table)} recipes of {sum(map(len, table))} cells",
            f"with drift: {drift}",
        ],
        runs.name,
        recipes_to_decide([(order, PREDICTS)], len(table), [runs]) if status == "undecided" else "",
    )


def kl_across_families(runs: Published, more: Published) -> Finding:
    """C10: with ES in the pool, KL on the new task no longer orders drops, KL elsewhere does.

    Three parts: KL elsewhere orders them better, it reaches what C9 calls a prediction, and KL on
    the new task stays below that.
    """
    own, other = _kl_and_drop(runs.cards), _kl_and_drop(more.cards)
    if not own or not other or len(own) + len(other) < FEWEST_RECIPES:
        return finding.missing(more if own else runs)
    table = [*own, *other]
    on = bootstrap(table, lambda t: rank_correlation(t[:, 0], t[:, 2]))
    off = bootstrap(table, lambda t: rank_correlation(t[:, 1], t[:, 2]))
    gap = bootstrap(
        table,
        lambda t: rank_correlation(t[:, 1], t[:, 2]) - rank_correlation(t[:, 0], t[:, 2]),
    )
    status = finding.every(
        finding.within(gap.low, gap.high, (0.0, math.inf)),
        finding.within(off.low, off.high, (PREDICTS, 1.0)),
        finding.within(on.low, on.high, (-1.0, PREDICTS)),
    )
    bounds = [(gap, 0.0), (off, PREDICTS), (on, PREDICTS)]
    return Finding(
        status,
        [
            f"rank correlation of the mean drop with KL of the new task {on}, with KL on retention "
            f"prompts {off}, difference {gap}, {len(table)} recipes of "
            f"{sum(map(len, table))} cells",
            f"without ES: {_alone(own, 0)} and {_alone(own, 1)}",
        ],
        runs.name,
        recipes_to_decide(bounds, len(table), [runs, more]) if status == "undecided" else "",
    )


def _alone(table: Clusters, column: int) -> str:
    """Rank correlation of the mean drop with one KL in one pool."""
    rows = np.concatenate(table)
    return f"{rank_correlation(rows[:, column], rows[:, 2]):.2f}"


def _kl_and_drop(cards: Sequence[Scorecard]) -> Clusters:
    """Rows: KL on the target, mean KL on the axes, mean drop over the axes, drift, at the end."""
    found: dict[str, list[tuple[float, ...]]] = {}
    for card in cards:
        if card.status != "done" or not card.points:
            continue
        point = end(card)
        if point.divergence is None or point.drift is None or not point.axes:
            continue
        kl = dict(point.divergence.forward)
        on = kl.pop("target")
        drop = fmean(change.drop.value for change in point.axes)
        row = (on, fmean(kl.values()), drop, point.drift.relative)
        found.setdefault(card.recipe, []).append(row)
    return [np.array(rows) for rows in found.values()]
