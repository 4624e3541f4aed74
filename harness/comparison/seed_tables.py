"""Arms of one target as tables of seeds x items, with intervals, differences and ranks.

Takes the arms of `comparison/arms.py` and calls the statistics over seeds; `comparison/methods.py`
makes rows of the results. Every measure is one table per arm: `gain` on the target's items and, per
axis, the chance-rescaled drop, erosion and the rise of perplexity. Reads and writes no files.
Shapes: S seeds, I items.
"""

from __future__ import annotations

from collections.abc import Mapping

from retainbench.harness.comparison.arms import Arms, Items
from retainbench.harness.comparison.changes import icc_of
from retainbench.harness.core.changes import Interval
from retainbench.harness.core.records import Record
from retainbench.harness.core.schema import Policy
from retainbench.harness.statistics.methods import moderated
from retainbench.harness.statistics.methods.pairwise import (
    PairwiseDifference,
    pairs,
    reversed_pairs,
)
from retainbench.harness.statistics.methods.seeds import ColumnLayout, SeedMean, mean_over_seeds
from retainbench.harness.statistics.paired import Floats

MARGIN = 0.02  # what counts as no worse on the front, and as equal, in score points

EROSION = " erosion"
"""Ends the name of a measure that compares erosion on an axis."""
PERPLEXITY = " perplexity"
"""Ends that of a rise of documents' negative log-likelihood, in nats per token."""


class PairRow(Record):
    """One arm minus another on one measure, paired on items and, with equal seeds, on seeds."""

    target: str
    first: str
    second: str
    measure: str
    """`gain`, an axis, whose drop is compared, or an axis and ` erosion` or ` perplexity`; the
    last is in nats per token, all others in score points."""
    difference: Interval
    p: float
    holm_p: float
    """Over all pairs of arms on this target and measure."""
    equivalent: bool
    """The interval is within the margin."""
    margin: float


class SeedTable:
    """The arms of one target as tables per measure, with the meaning of their columns."""

    def __init__(self, arms: Arms, policy: Policy) -> None:
        self.arms, self.level = arms.arms, 1 - 2 * policy.alpha

        def columns(found: Mapping[str, Items], end: str = "") -> dict[str, ColumnLayout]:
            return {f"{axis}{end}": layout(items, policy) for axis, items in found.items()}

        self.asked, self.kept = layout(arms.asked, policy), columns(arms.kept)
        self.sure = columns(arms.sure, EROSION)
        self.read = columns(arms.documents, PERPLEXITY)
        self.layouts = {"gain": self.asked, **self.kept, **self.sure, **self.read}
        self.margins = dict.fromkeys(self.layouts, MARGIN)
        self.margins |= dict.fromkeys(self.read, policy.perplexity_margin)
        self.pairs = {
            measure: pairs(
                self.ends(measure),
                self.layouts[measure],
                confidence=self.level,
                margin=self.margins[measure],
                seeds=[arm.seeds for arm in self.arms],
            )
            for measure in self.layouts
        }

    def ends(self, measure: str) -> list[Floats]:
        """(S, I) at the end of the budget, per arm: gains, or what an axis lost."""
        if measure == "gain":
            return [arm.gain[:, -1] for arm in self.arms]
        if measure in self.sure:
            return [arm.eroded[measure.removesuffix(EROSION)] for arm in self.arms]
        if measure in self.read:
            return [arm.read[measure.removesuffix(PERPLEXITY)] for arm in self.arms]
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

    @property
    def paired_method(self) -> str:
        """How a difference of two arms got its interval."""
        seeds = [arm.seeds for arm in self.arms]
        paired = all(one == seeds[0] for one in seeds)
        if paired and moderated.applies(len(seeds), len(seeds[0])):
            return "two-way, paired, seed variances moderated"
        return "two-way, paired"

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
                    method=self.paired_method,
                ),
                p=pair.p,
                holm_p=pair.holm_p,
                equivalent=pair.equivalent,
                margin=self.margins[measure],
            )
            for measure, found in self.pairs.items()
            for pair in found
        ]


def layout(items: Items, policy: Policy) -> ColumnLayout:
    """The columns of a table of items, with the planning ICC of each task."""
    planned = {name: icc_of(policy, name) for name in items.tasks}
    return ColumnLayout(items.clusters, items.tasks, items.scales, planned)


def over_seeds(table: Floats, columns: ColumnLayout, level: float) -> Interval:
    """The mean of an (S, I) table over seeds and items as a record."""
    seeds = len(table)
    method = f"two-way, {'one seed' if seeds == 1 else f'{seeds} seeds'}"
    return as_interval(mean_over_seeds(table, columns, level), columns, level, method)


def as_interval(
    mean: SeedMean, columns: ColumnLayout, level: float, method: str, scale: float = 1.0
) -> Interval:
    """A mean over seeds and items, times a scale, as a record."""
    low, high = mean.interval(level)
    return Interval(
        value=mean.value * scale,
        low=low * scale,
        high=high * scale,
        level=level,
        n=columns.items,
        method=method,
    )
