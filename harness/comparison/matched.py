"""Arms of a target at the same gain: drops, their differences by pairs, gain per drift and per KL.

Takes the tables of `comparison/seed_tables.py`; `comparison/methods.py` puts the rows into
`methods.json`. One gain per target is for the rows of the table; every pair of arms is compared at
a gain of its own, so that weak methods have a place too. Both rules look at gains alone: half of
the largest mean end gain, and half of the smaller of the pair's largest mean gains. Reads and
writes no files.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations
from typing import NamedTuple

import numpy as np

from retainbench.harness.comparison.arms import Arm
from retainbench.harness.comparison.seed_tables import SeedTable, as_interval
from retainbench.harness.core.changes import Interval
from retainbench.harness.core.records import Record
from retainbench.harness.core.scorecards import DivergenceSummary, PointScore
from retainbench.harness.statistics.graded import t_quantile
from retainbench.harness.statistics.methods.matched_gain import (
    CostRatio,
    Crossing,
    TrajectoryItems,
    difference_at,
    drop_at,
    gain_per_cost,
    gain_per_cost_at,
    reach,
)
from retainbench.harness.statistics.methods.moderated import moderate
from retainbench.harness.statistics.methods.seeds import SeedMean, difference
from retainbench.harness.statistics.multiplicity import AxisMean, axis_mean, holm

MATCHED_SHARE = 0.5


class MatchedRow(Record):
    """Drop where the arm's mean trajectory first reaches the gain to match."""

    gain: float
    drop: float | None
    low: float | None
    high: float | None
    reason: str | None
    """The reason for a missing drop or interval."""


class RatioRow(Record):
    """Gain per unit of drift or of KL, with Fieller's limits."""

    value: float | None
    low: float | None
    high: float | None
    reason: str | None


NOT_MEASURED = RatioRow(value=None, low=None, high=None, reason="not measured for every seed")


class MatchedPairRow(Record):
    """Drop of one arm minus that of another on one axis, at a gain that both reach."""

    target: str
    first: str
    second: str
    axis: str
    gain: float
    """Half of the smaller of their largest mean gains."""
    share: float | None
    """None at the first crossing of the gain; else a later share of the budget at which both still
    hold it."""
    difference: Interval | None
    p: float | None
    """Two-sided, of no difference."""
    holm_p: float | None
    """Over all pairs of arms on this target and axis at their first crossings."""
    reason: str | None
    """The reason for a missing difference."""


class _Place(NamedTuple):
    """A pair of arms where both have the common gain."""

    share: float | None
    mean: SeedMean


def goal_of(table: SeedTable) -> float:
    """The gain at which all arms of a target are compared: half of the largest mean end gain."""
    ends = (float(ends.mean(axis=0) @ table.asked.weights) for ends in table.ends("gain"))
    return MATCHED_SHARE * max(ends)


def matched_drop(table: SeedTable, place: int, axis: str, goal: float) -> MatchedRow:
    """One arm's drop at the gain to match."""
    items = _items(table.arms[place], axis)
    found = reach(items, goal, table.asked, table.level)
    if isinstance(found, str):
        return MatchedRow(gain=goal, drop=None, low=None, high=None, reason=found)
    mean = drop_at(items, found, table.asked, table.kept[axis], table.level)
    low, high = mean.interval(table.level)
    return MatchedRow(gain=goal, drop=mean.value, low=low, high=high, reason=None)


def matched_pairs(table: SeedTable, target: str) -> list[MatchedPairRow]:
    """All pairs of arms on every axis, at the first crossing of their gain and wherever later."""
    rows: list[MatchedPairRow] = []
    for axis in table.kept:
        found = [
            _pair(table, first, second, axis)
            for first, second in combinations(range(len(table.arms)), 2)
        ]
        found = _moderated(found, len(table.arms))
        known = [one.places[0].mean.p_zero for one in found if one.places]
        adjusted = iter(holm(known))
        for one in found:
            rows += _rows(table, target, axis, one, next(adjusted) if one.places else None)
    return rows


class _Pair(NamedTuple):
    first: int
    second: int
    gain: float
    places: list[_Place]
    """First the crossing; none where one of them does not reach the gain."""
    reason: str | None


def _moderated(pairs: list[_Pair], methods: int) -> list[_Pair]:
    """The crossings borrow strength from each other, and so do the later checkpoints."""
    crossings = iter(moderate([one.places[0].mean for one in pairs if one.places], methods))
    later = iter(moderate([place.mean for one in pairs for place in one.places[1:]], methods))
    return [
        one._replace(
            places=[
                place._replace(mean=next(later if number else crossings))
                for number, place in enumerate(one.places)
            ]
        )
        for one in pairs
    ]


def _pair(table: SeedTable, first: int, second: int, axis: str) -> _Pair:
    arms = table.arms[first], table.arms[second]
    one, two = (_items(arm, axis) for arm in arms)
    paths = [items.gain.mean(axis=0) @ table.asked.weights for items in (one, two)]
    goal = MATCHED_SHARE * float(min(path.max() for path in paths))
    if goal <= 0:
        return _Pair(first, second, goal, [], "one of them gains nothing")
    found = [reach(items, goal, table.asked, table.level) for items in (one, two)]
    for arm, place in zip(arms, found, strict=True):
        if isinstance(place, str):
            return _Pair(first, second, goal, [], f"{arm.recipe}: {place}")
    here, there = (place for place in found if isinstance(place, Crossing))
    layouts = table.asked, table.kept[axis]
    places = [_Place(None, difference_at(one, two, (here, there), *layouts, table.level))]
    paired = list(one.seeds) == list(two.seeds)
    for share, a, b in _shared(*arms):
        held = paths[0][a] >= goal and paths[1][b] >= goal
        if held and a > here.before and b > there.before:
            ends = one.drop[:, a], two.drop[:, b]
            places.append(_Place(share, difference(*ends, layouts[1], table.level, paired=paired)))
    return _Pair(first, second, goal, places, None)


def _shared(first: Arm, second: Arm) -> list[tuple[float, int, int]]:
    """Checkpoints that both arms have: share of the budget, place in each."""
    there = {share: place for place, share in enumerate(second.fractions)}
    return [(s, place, there[s]) for place, s in enumerate(first.fractions) if s in there]


def _rows(
    table: SeedTable, target: str, axis: str, pair: _Pair, holm_p: float | None
) -> list[MatchedPairRow]:
    head = {
        "target": target,
        "first": table.arms[pair.first].recipe,
        "second": table.arms[pair.second].recipe,
        "axis": axis,
        "gain": pair.gain,
        "reason": pair.reason,
    }
    if not pair.places:
        missing = dict.fromkeys(("share", "difference", "p", "holm_p"))
        return [MatchedPairRow.model_validate(head | missing)]
    return [
        MatchedPairRow.model_validate(
            head
            | {
                "share": place.share,
                "difference": _interval(place.mean, table, axis),
                "p": place.mean.p_zero,
                "holm_p": holm_p if place.share is None else None,
            }
        )
        for place in pair.places
    ]


def _interval(mean: SeedMean, table: SeedTable, axis: str) -> Interval:
    method = f"{table.paired_method}, same gain"
    return as_interval(mean, table.kept[axis], table.level, method)


def _items(arm: Arm, axis: str) -> TrajectoryItems:
    return TrajectoryItems(arm.gain, arm.drops[axis], arm.seeds)


class Measured(NamedTuple):
    """A cost at one checkpoint with its standard error."""

    value: float
    error: float


PointCost = Callable[[PointScore], Measured | None]


def drift(point: PointScore) -> Measured | None:
    """Relative drift as a share of the base's norm; exact."""
    return Measured(point.drift.relative, 0.0) if point.drift else None


def kl(point: PointScore) -> Measured | None:
    """Mean forward KL over the retention axes, nats per token, with the error over its prompts.

    A set without an interval (one prompt, or an older record) adds no error.
    """
    if point.divergence is None:
        return None
    forward, intervals = point.divergence.forward, point.divergence.intervals
    off = [name for name in forward if name != "target"]
    if not off:
        return None
    errors = [_error(intervals[name]) for name in off if name in intervals]
    mean = float(np.mean([forward[name] for name in off]))
    return Measured(mean, math.sqrt(sum(error**2 for error in errors)) / len(off))


def off_target_mean(kl: DivergenceSummary) -> AxisMean | None:
    """Mean forward KL over the axes, nats per token; None where one of them has no interval.

    The axes' prompts are disjoint, so their errors, read off t intervals over prompts, are
    independent.
    """
    axes = [name for name in kl.forward if name != "target"]
    intervals = [kl.intervals[name] for name in axes if name in kl.intervals]
    if not axes or len(intervals) < len(axes):
        return None
    errors = [_error(interval) for interval in intervals]
    degrees = [interval.n - 1 for interval in intervals]
    return axis_mean([one.value for one in intervals], errors, intervals[0].level, degrees)


def _error(interval: Interval) -> float:
    half = (interval.high - interval.low) / 2
    return half / t_quantile((1 + interval.level) / 2, interval.n - 1)


def at_the_end(table: SeedTable, arm: Arm, cost: PointCost) -> RatioRow:
    """Gain per cost at the end of the budget."""
    costs = [cost(points[-1]) for points in arm.points]
    known = [one for one in costs if one is not None]
    if len(known) < len(costs):
        return NOT_MEASURED
    return _ratio(
        gain_per_cost(
            arm.gain[:, -1],
            [one.value for one in known],
            layout=table.asked,
            confidence=table.level,
            cost_errors=[one.error for one in known],
        )
    )


def at_the_goal(table: SeedTable, place: int, goal: float, cost: PointCost) -> RatioRow:
    """Gain per cost where an arm first reaches the gain to match."""
    arm = table.arms[place]
    costs = [[cost(point) for point in points] for points in arm.points]
    known = [[Measured(0.0, 0.0), *(one for one in row if one is not None)] for row in costs]
    if any(one is None for row in costs for one in row):
        return NOT_MEASURED
    found = reach(_items(arm, next(iter(table.kept))), goal, table.asked, table.level)
    if isinstance(found, str):
        return RatioRow(value=None, low=None, high=None, reason=found)
    return _ratio(
        gain_per_cost_at(
            arm.gain,
            np.array([[one.value for one in row] for row in known]),
            found,
            goal,
            layout=table.asked,
            confidence=table.level,
            cost_errors=np.array([[one.error for one in row] for row in known]),
        )
    )


def _ratio(found: CostRatio) -> RatioRow:
    low, high = found.bounds or (None, None)
    return RatioRow(value=found.value, low=low, high=high, reason=found.reason)
