"""Arms of one target as tables of seeds x items, with intervals, differences and ranks.

Takes the arms of `comparison/arms.py` and calls the statistics over seeds; `comparison/methods.py`
makes rows of the results. Every measure is one table per arm: `gain` on the target's items and,
per axis, the chance-rescaled drop. Reads and writes no files. Shapes: S seeds, I items.
"""

from __future__ import annotations

from collections.abc import Mapping

from retainbench.harness.comparison.arms import Arms, Items
from retainbench.harness.core.records import Interval, Record
from retainbench.harness.statistics.methods.pairwise import (
    PairwiseDifference,
    pairs,
    reversed_pairs,
)
from retainbench.harness.statistics.methods.seeds import ColumnLayout, mean_over_seeds
from retainbench.harness.statistics.paired import Floats

MARGIN = 0.02  # what counts as no worse on the front, and as equal, in score points

EROSION = " erosion"
"""Ends the name of a measure that compares erosion on an axis."""


class PairRow(Record):
    """One arm minus another on one measure, paired on items and, with equal seeds, on seeds."""

    target: str
    first: str
    second: str
    measure: str
    """`gain`, an axis, whose drop is compared, or an axis and ` erosion`."""
    difference: Interval
    p: float
    holm_p: float
    """Over all pairs of arms on this target and measure."""
    equivalent: bool
    """The interval is within the margin."""
    margin: float


class SeedTable:
    """The arms of one target as tables per measure, with the meaning of their columns."""

    def __init__(self, arms: Arms, level: float, icc: float, iccs: Mapping[str, float]) -> None:
        self.arms, self.level = arms.arms, level
        self.asked = layout(arms.asked, icc, iccs)
        self.kept = {axis: layout(items, icc, iccs) for axis, items in arms.kept.items()}
        self.sure = {f"{axis}{EROSION}": layout(one, icc, iccs) for axis, one in arms.sure.items()}
        self.layouts = {"gain": self.asked, **self.kept, **self.sure}
        self.pairs = {
            measure: pairs(
                self.ends(measure),
                self.layouts[measure],
                confidence=level,
                margin=MARGIN,
                seeds=[arm.seeds for arm in self.arms],
            )
            for measure in self.layouts
        }

    def ends(self, measure: str) -> list[Floats]:
        """(S, I) at the end of the budget, per arm: gains, or an axis' drops."""
        if measure == "gain":
            return [arm.gain[:, -1] for arm in self.arms]
        if measure in self.sure:
            return [arm.eroded[measure.removesuffix(EROSION)] for arm in self.arms]
        return [arm.drops[measure][:, -1] for arm in self.arms]

    def interval(self, measure: str, place: int) -> Interval:
        """One arm's mean over seeds and items."""
        place_of = self.layouts[measure]
        return over_seeds(self.ends(measure)[place], place_of, self.level)

    def better(self) -> dict[str, list[PairwiseDifference]]:
        """The pairs of gain and of the drop on every axis, larger being better."""
        return {
            measure: list(self.pairs[measure])
            if measure == "gain"
            else reversed_pairs(self.pairs[measure])
            for measure in ("gain", *self.kept)
        }

    def pair_rows(self, target: str) -> list[PairRow]:
        """All differences as records."""
        return [
            PairRow(
                target=target,
                first=self.arms[pair.first].recipe,
                second=self.arms[pair.second].recipe,
                measure=measure,
                difference=Interval(
                    value=pair.value,
                    low=pair.bounds.low,
                    high=pair.bounds.high,
                    level=self.level,
                    n=self.layouts[measure].items,
                    method="two-way, paired",
                ),
                p=pair.p,
                holm_p=pair.holm_p,
                equivalent=pair.equivalent,
                margin=MARGIN,
            )
            for measure, found in self.pairs.items()
            for pair in found
        ]


def layout(items: Items, icc: float, iccs: Mapping[str, float]) -> ColumnLayout:
    """The columns of a table of items, with the planning ICC of each task."""
    planned = {name: iccs.get(name, iccs.get(name.split("/")[0], icc)) for name in items.tasks}
    return ColumnLayout(items.clusters, items.tasks, items.scales, planned)


def over_seeds(table: Floats, columns: ColumnLayout, level: float) -> Interval:
    """The mean of an (S, I) table over seeds and items as a record."""
    found = mean_over_seeds(table, columns, level)
    low, high = found.interval(level)
    seeds = len(table)
    return Interval(
        value=found.value,
        low=low,
        high=high,
        level=level,
        n=columns.items,
        method=f"two-way, {'one seed' if seeds == 1 else f'{seeds} seeds'}",
    )
