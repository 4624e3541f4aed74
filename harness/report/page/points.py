"""Scorecards and table rows -> the flat rows behind each figure and its data table.

Pure. Every row is a plain dictionary with the arm's target and recipe; shares are in percentage
points and retention is minus the drop, so that up and right are better in every figure. Arms with a
failed seed have no rows, as they have no estimates in the table. Left out: drawing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from retainbench.harness.core.changes import Interval
from retainbench.harness.core.scorecards import DriftSummary, PointScore, Scorecard
from retainbench.harness.core.text.formatting import significant
from retainbench.harness.report.table.estimates.pooling import mean, pool
from retainbench.harness.report.table.estimates.row import off_target
from retainbench.harness.report.table.model import TableRow, axes_of
from retainbench.harness.report.table.variants import Tried

Value = str | int | float | None
Datum = dict[str, Value]
ScorecardsByArm = Mapping[tuple[str, str, str], list[Scorecard]]


def finished(rows: Sequence[TableRow], cards: Sequence[Scorecard]) -> ScorecardsByArm:
    """(base, target, recipe) -> scorecards of its seeds, for the arms that have estimates."""
    whole = {(row.base, row.target, row.recipe) for row in rows if not row.absent}
    arms: dict[tuple[str, str, str], list[Scorecard]] = {}
    for card in cards:
        key = (card.base, card.target, card.recipe)
        if key in whole:
            arms.setdefault(key, []).append(card)
    return arms


def gain_and_retention(rows: Sequence[TableRow]) -> list[Datum]:
    """One row per arm and axis: gain and retention at the end, each with its interval."""
    return [
        {
            "target": row.target,
            "recipe": row.recipe,
            "adaptation": row.adaptation,
            "axis": axis,
            "front": "not compared" if row.on_front is None else "yes" if row.on_front else "no",
            **_percent("gain", row.gain),
            **_percent("retention", _mirrored(drop)),
        }
        for row in rows
        for axis in axes_of([row])
        if row.gain and (drop := row.axis(axis).drop)
    ]


def swept(tried: Sequence[Tried]) -> list[Datum]:
    """One row per variant of a sweep and axis; values that were taken are the arms themselves."""
    return [
        datum | {"recipe": one.choice.recipe, "value": one.what}
        for one in tried
        if not one.taken
        for datum in gain_and_retention([one.row])
    ]


def trajectories(arms: ScorecardsByArm) -> list[Datum]:
    """One row per arm, axis and scored point: means over seeds with the retention's interval.

    Every trajectory starts at the base: nothing spent, nothing gained, nothing lost.
    """
    found: list[Datum] = []
    for (_, target, recipe), cards in arms.items():
        series = [points for points in _aligned(cards) if points[0].fraction > 0]
        for axis in dict.fromkeys(change.axis for change in cards[0].points[-1].axes):
            head: Datum = {"target": target, "recipe": recipe, "axis": axis}
            unchanged = dict.fromkeys(("retention", "retention_low", "retention_high"), 0.0)
            found.append({**head, "budget": 0.0, "gain": 0.0, **unchanged})
            for points in series:
                drops = [change.drop for p in points for change in p.axes if change.axis == axis]
                if len(drops) == len(points):
                    values = _percent("retention", _mirrored(pool(drops)))
                    found.append({**head, **_place_of(cards, points), **values})
    return found


def interpolations(arms: ScorecardsByArm) -> list[Datum]:
    """One row per arm, axis and weight between base (0) and end (1): means over seeds."""
    found: list[Datum] = []
    for (_, target, recipe), cards in arms.items():
        if not all(card.interpolated for card in cards):
            continue
        between = [list(points) for points in zip(*(c.interpolated for c in cards), strict=True)]
        weighted = [(points[0].fraction, points) for points in between] + [(1.0, _ends(cards))]
        for axis in dict.fromkeys(change.axis for change in cards[0].points[-1].axes):
            head: Datum = {"target": target, "recipe": recipe, "axis": axis}
            unchanged = dict.fromkeys(("retention", "retention_low", "retention_high"), 0.0)
            found.append({**head, "weight": 0.0, "gain": 0.0, **unchanged})
            for weight, points in weighted:
                drops = [change.drop for p in points for change in p.axes if change.axis == axis]
                gain = mean(100 * point.gain.value for point in points)
                values = _percent("retention", _mirrored(pool(drops)))
                found.append({**head, "weight": weight, "gain": gain, **values})
    return found


def _place_of(cards: Sequence[Scorecard], points: Sequence[PointScore]) -> Datum:
    """Spending and gain at a point, means over seeds."""
    pairs = zip(cards, points, strict=True)
    return {
        "budget": mean(100 * card.share(point) for card, point in pairs),
        "gain": mean(100 * point.gain.value for point in points),
    }


def drift_places(arms: ScorecardsByArm) -> list[Datum]:
    """One row per arm and module kind or layer: relative drift, and share of the squared norm."""
    found: list[Datum] = []
    for (_, target, recipe), cards in arms.items():
        drifts = [end.drift for end in _ends(cards) if end.drift]
        if len(drifts) < len(cards):
            continue
        head: Datum = {"target": target, "recipe": recipe}
        relative = _by_name(drifts, lambda drift: drift.relative_by_kind)
        for place, shares in (
            ("module kind", _by_name(drifts, lambda drift: drift.by_kind)),
            ("layer", _by_name(drifts, lambda drift: drift.by_layer)),
        ):
            for order, (name, share) in enumerate(shares.items()):
                moved = relative.get(name) if place == "module kind" else None
                values: Datum = {
                    "share": _scaled(share),
                    "relative": _scaled(moved),
                }
                shown = str(int(name)) if name.isdecimal() else name
                found.append({**head, "place": place, "name": shown, "order": order, **values})
    return found


def kl_and_forgetting(arms: ScorecardsByArm) -> list[Datum]:
    """One row per cell, point and prompt set: KL to the base and the mean drop over the axes."""
    found: list[Datum] = []
    for (_, target, recipe), cards in arms.items():
        for card, point in ((one, point) for one in cards for point in one.points):
            drop = mean(change.drop.value for change in point.axes)
            if point.divergence is None or drop is None:
                continue
            sets = {
                "on the target's prompts": point.divergence.forward.get("target"),
                "on retention prompts": off_target(point.divergence),
            }
            found += [
                {
                    "target": target,
                    "recipe": recipe,
                    "seed": card.seed,
                    "budget": significant(100 * card.share(point)),
                    "prompts": prompts,
                    "kl": significant(kl),
                    "drop": significant(100 * drop),
                }
                for prompts, kl in sets.items()
                if kl is not None
            ]
    return found


def tasks(arms: ScorecardsByArm) -> list[Datum]:
    """One row per arm and retention task: retention in percentage points with its interval."""
    found: list[Datum] = []
    for (_, target, recipe), cards in arms.items():
        ends = _ends(cards)
        for order, task in enumerate(ends[0].tasks):
            drops = [t.drop for end in ends for t in end.tasks if t.task == task.task]
            if task.axis == "target" or len(drops) < len(ends):
                continue
            head: Datum = {"target": target, "recipe": recipe, "axis": task.axis}
            name = task.task.removeprefix("rb_")
            values = _percent("retention", _mirrored(pool(drops)))
            found.append({**head, "task": name, "order": order, **values, "n": task.n})
    return found


def _aligned(cards: Sequence[Scorecard]) -> Iterator[list[PointScore]]:
    """Points that every seed has, in order of training."""
    by_place = [{(point.stage, point.fraction): point for point in c.points} for c in cards]
    for place in by_place[0]:
        points = [found[place] for found in by_place if place in found]
        if len(points) == len(cards):
            yield points


def _ends(cards: Sequence[Scorecard]) -> list[PointScore]:
    return [card.points[-1] for card in cards]


def _by_name(
    drifts: Iterable[DriftSummary], pick: Callable[[DriftSummary], Mapping[str, float]]
) -> dict[str, float]:
    tables = [pick(drift) for drift in drifts]
    names = sorted((n for n in tables[0] if all(n in table for table in tables)), key=_place)
    return {name: float(np.mean([table[name] for table in tables])) for name in names}


KINDS = ("embed", "q", "k", "v", "o", "gate", "up", "down", "norm", "bias", "head")


def _place(name: str) -> tuple[int, int, str]:
    """Module kinds in the order of a forward pass, layers by number, the rest by name."""
    if name.isdecimal():
        return (1, int(name), "")
    return (0, KINDS.index(name), "") if name in KINDS else (2, 0, name)


def _scaled(share: float | None) -> float | None:
    return None if share is None else significant(100 * share)


def _mirrored(drop: Interval) -> Interval:
    limits = {"value": -drop.value, "low": -drop.high, "high": -drop.low}
    return drop.model_copy(update=limits)


def _percent(name: str, interval: Interval | None) -> Datum:
    if interval is None:
        return {}
    return {
        name: significant(100 * interval.value),
        f"{name}_low": significant(100 * interval.low),
        f"{name}_high": significant(100 * interval.high),
    }
