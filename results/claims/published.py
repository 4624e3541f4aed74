"""What the claims are read from: the stored rows of the published folders, nothing else.

A claim asks for a suite's folder; a folder that is not published yet is an empty one, and every
question to it has no answer. No statistic is computed twice: gains, drops, their differences and
intervals are those of the folder's own tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

from retainbench.harness.comparison.methods import MethodRow, Methods
from retainbench.harness.core.changes import Interval
from retainbench.harness.core.files.storage import read_json, read_jsonl
from retainbench.harness.core.scorecards import PointScore, Scorecard
from retainbench.harness.report.publish import training_hours
from retainbench.harness.suites import loading

HOUR = 3600.0


class Difference(NamedTuple):
    """One arm minus another, with the two-sided p-value of no difference."""

    interval: Interval
    p: float


@dataclass(frozen=True)
class Published:
    """One published folder."""

    name: str
    cards: Sequence[Scorecard]
    methods: Methods | None
    folder: Path | None = None
    """Where it was read."""
    expected_hours: float | None = None
    """What a run of the suite takes, by the seconds per FLOP of its methods in all folders; None
    where one of its methods is in none."""

    def of(self, recipe: str, target: str = "countdown") -> list[Scorecard]:
        """The finished cells of a recipe, in the order of seeds."""
        found = [
            c for c in self.cards if (c.recipe, c.target, c.status) == (recipe, target, "done")
        ]
        return sorted(found, key=lambda card: card.seed)

    def row(self, recipe: str, target: str = "countdown") -> MethodRow | None:
        """A recipe over its seeds."""
        rows = self.methods.rows if self.methods else []
        return next((row for row in rows if (row.recipe, row.target) == (recipe, target)), None)

    def recipes(self, start: str, target: str = "countdown") -> list[MethodRow]:
        """The rows whose recipe's name is `start` or `start` and a rate."""
        rows = self.methods.rows if self.methods else []
        return [r for r in rows if r.target == target and r.recipe.rsplit("-", 2)[0] == start]

    def difference(
        self, first: str, second: str, measure: str, target: str = "countdown"
    ) -> Difference | None:
        """First minus second, paired on items and seeds; `measure` is `gain` or an axis' drop."""
        for pair in self.methods.pairs if self.methods else []:
            if (pair.target, pair.measure) != (target, measure):
                continue
            if (pair.first, pair.second) == (first, second):
                return Difference(pair.difference, pair.p)
            if (pair.first, pair.second) == (second, first):
                return Difference(negative(pair.difference), pair.p)
        return None

    def drops(self, first: str, second: str) -> dict[str, Difference]:
        """The differences of drops at the end of the budget by axis."""
        return {a: found for a in self.axes if (found := self.difference(first, second, a))}

    def matched(
        self, first: str, second: str, axis: str, target: str = "countdown"
    ) -> Difference | None:
        """Difference of drops where both first reach their common gain; as `difference`."""
        for pair in self.methods.matched_pairs if self.methods else []:
            # Later checkpoints that still hold the gain name their share of the budget.
            if (pair.target, pair.axis, pair.share) != (target, axis, None):
                continue
            if pair.difference is None or pair.p is None:
                continue
            if (pair.first, pair.second) == (first, second):
                return Difference(pair.difference, pair.p)
            if (pair.first, pair.second) == (second, first):
                return Difference(negative(pair.difference), pair.p)
        return None

    def matched_drops(self, first: str, second: str) -> dict[str, Difference]:
        """The differences of drops where both first reach their common gain, by axis."""
        return {a: found for a in self.axes if (found := self.matched(first, second, a))}

    @property
    def axes(self) -> list[str]:
        """The retention axes of the folder's rows."""
        rows = self.methods.rows if self.methods else []
        return list(rows[0].drops) if rows else []

    @property
    def hours_per_seed(self) -> float:
        """Hours of training that one seed of all recipes took, as the rows have it."""
        seeds = {card.seed for card in self.cards}
        return training_hours(self.cards) / max(1, len(seeds))


def negative(interval: Interval) -> Interval:
    """The interval of the opposite difference."""
    return interval.model_copy(
        update={"value": -interval.value, "low": -interval.high, "high": -interval.low}
    )


def end(card: Scorecard) -> PointScore:
    """The last point of a cell."""
    return card.points[-1]


def read(results: Path, names: Sequence[str]) -> Mapping[str, Published]:
    """Published folders by name; the ones that are not there have no rows."""
    found = {name: _read(results / name) for name in names}
    paces = _seconds_per_flop([card for runs in found.values() for card in runs.cards])
    return {
        name: replace(runs, expected_hours=_expected(name, paces)) for name, runs in found.items()
    }


def _read(folder: Path) -> Published:
    rows, methods = folder / "scorecards.jsonl", folder / "methods.json"
    return Published(
        folder.name,
        read_jsonl(rows, Scorecard) if rows.exists() else [],
        read_json(methods, Methods) if methods.exists() else None,
        folder,
    )


def _seconds_per_flop(cards: Sequence[Scorecard]) -> dict[str, float]:
    """Median over the finished cells of a method; cells of several stages are left out."""
    found: dict[str, list[float]] = {}
    for card in cards:
        if card.status == "done" and card.points and end(card).ledger.flops:
            ledger = end(card).ledger
            found.setdefault(card.method, []).append(ledger.seconds / ledger.flops)
    return {method: median(values) for method, values in found.items() if "+" not in method}


def _expected(name: str, paces: Mapping[str, float]) -> float | None:
    """Hours of training of all cells of a suite; None where a pace is not known."""
    if name not in loading.available():
        return None
    suite = loading.load(name)
    stages = [(stage, r) for r in suite.recipes.values() for stage in r.trained]
    if suite.budget.unit != "flops" or any(stage.method not in paces for stage, _ in stages):
        return None
    shares = [(s, s.share / sum(one.share for one in r.trained)) for s, r in stages]
    seconds = sum(suite.budget.amount * share * paces[stage.method] for stage, share in shares)
    return seconds / HOUR * len(suite.seeds) * len(suite.targets)
