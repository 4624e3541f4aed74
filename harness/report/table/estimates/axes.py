"""An axis' columns of one row, and the flips of its tasks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from retainbench.harness.core.axes import ordered
from retainbench.harness.core.changes import AxisChange, Interval, TaskChange
from retainbench.harness.core.scorecards import PointScore, Scorecard
from retainbench.harness.core.text.formatting import significant
from retainbench.harness.report.table.estimates.pooling import bounded, mean, pool, pooled, rounded
from retainbench.harness.report.table.model import AxisColumns

if TYPE_CHECKING:
    from retainbench.harness.comparison.matched import MatchedRow
    from retainbench.harness.comparison.methods import MethodRow

_COMPANIONS = ("forgetting_chance_adjusted", "backward_transfer_chance_adjusted")


def axis_columns(
    cards: Sequence[Scorecard], method: MethodRow | None, over_seeds: MethodRow | None
) -> dict[str, AxisColumns]:
    """Columns of every axis that any seed was scored on; empty ones where a seed was not."""
    ends = [card.points[-1] for card in cards]
    with_answers = [task.axis for end in ends for task in end.tasks]
    scored = ordered([*with_answers, *(one.axis for end in ends for one in end.perplexity)])
    return {
        axis: _axis(axis, cards, method, over_seeds).model_copy(update=_documents(axis, ends))
        for axis in scored
    }


def _documents(axis: str, ends: Sequence[PointScore]) -> dict[str, Any]:
    """Held-out perplexity of an axis; nothing where a seed has none."""
    found = [one for end in ends for one in end.perplexity if one.axis == axis]
    if len(found) < len(ends):
        return {}
    tasks = [task for one in found for task in one.tasks]
    return {
        "perplexity": rounded(pool([one.change for one in found])),
        "perplexity_margin": found[0].margin,
        "base_bits_per_byte": mean(task.base_bits_per_byte for task in tasks),
        "candidate_bits_per_byte": mean(task.candidate_bits_per_byte for task in tasks),
    }


def _axis(
    axis: str,
    cards: Sequence[Scorecard],
    method: MethodRow | None,
    over_seeds: MethodRow | None,
) -> AxisColumns:
    ends = [_change(card.points[-1], axis) for card in cards]
    found = [change for change in ends if change]
    if len(found) < len(ends):
        return AxisColumns()
    drops = over_seeds.drops if over_seeds else {}
    worst = worst_point(cards, axis)
    path = method.trajectories.get(axis) if method else None
    matched = method.matched.get(axis) if method else None
    drop = drops.get(axis) or pool([change.drop for change in found])
    return AxisColumns(
        drop=rounded(drop),
        soft_drop=pooled(change.soft_drop for change in found),
        erosion=pooled(change.erosion for change in found),
        erosion_margin=found[0].erosion_margin,
        margin_drop=pooled(change.margin_drop for change in found),
        margin_slope=mean(change.margin_slope for change in found),
        brier_rise=pooled(change.brier_rise for change in found),
        base_calibration_error=mean(change.base_calibration_error for change in found),
        candidate_calibration_error=mean(change.candidate_calibration_error for change in found),
        lost=mean(change.lost for change in found),
        gained=mean(change.gained for change in found),
        **companions(binary_tasks(card.points[-1] for card in cards), axis),
        tasks=found[0].tasks,
        items=found[0].n,
        worst_drop=worst[1] if worst else None,
        worst_fraction=worst[0] if worst else None,
        area=significant(path.area) if path else None,
        matched_drop=_matched(matched, drop),
        matched_reason=matched.reason if matched else None,
        at_chance=list(dict.fromkeys(task for change in found for task in change.at_chance)),
    )


def _matched(found: MatchedRow | None, drop: Interval) -> Interval | None:
    if found is None:
        return None
    return bounded(found.drop, found.low, found.high, drop, "two-way, delta")


def worst_point(cards: Sequence[Scorecard], axis: str) -> tuple[float, float] | None:
    """Where the drop, averaged over seeds, is largest; None if a seed lacks every point.

    Returns the share of the budget that was really spent there, mean over seeds, and the drop.
    """
    seen: dict[tuple[int, float], list[tuple[float, float]]] = {}
    for card in cards:
        for point in card.points:
            if change := _change(point, axis):
                at = (point.stage, point.fraction)
                seen.setdefault(at, []).append((card.share(point), change.drop.value))
    complete = [np.mean(found, axis=0) for found in seen.values() if len(found) == len(cards)]
    if not complete:
        return None
    spent, drop = max(complete, key=lambda place: float(place[1]))
    return significant(float(spent)), significant(float(drop))


def _change(point: PointScore, axis: str) -> AxisChange | None:
    return next((change for change in point.axes if change.axis == axis), None)


def binary_tasks(ends: Iterable[PointScore]) -> list[TaskChange]:
    """Retention tasks of right and wrong answers; graded ones have no flips."""
    every = (task for end in ends for task in end.tasks if task.axis != "target")
    return [task for task in every if task.lost is not None]


def companions(binary: Sequence[TaskChange], axis: str = "") -> dict[str, Any]:
    """Chance-adjusted flips, mean over the tasks of one axis or of all."""
    own = [task for task in binary if axis in ("", task.axis)]
    return {name: mean(getattr(task, name) for task in own) for name in _COMPANIONS}
