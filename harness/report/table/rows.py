"""Scorecards -> rows of the standardized table: one row per base, target and recipe, over seeds.

Pure: reads and writes no files. Every format of the table is rendered from these rows, so all show
the same numbers. A row never averages over a part of the seeds: if a seed of the grid failed or is
absent, the row stays in the table, names the seed and the reason, and has no estimate (the
finished seeds stay in scorecards.jsonl).

Leaves out: the estimates of a complete row (`report/table/estimates/`), rounding for people
(`core/text/formatting.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from retainbench.harness.core.changes import Interval
from retainbench.harness.core.scorecards import Scorecard
from retainbench.harness.report.table.estimates.row import estimates
from retainbench.harness.report.table.evidence import NOTHING, TableEvidence
from retainbench.harness.report.table.model import TableRow

NEW_FACTS = "new_facts"
"""The target whose answers no base can know: a gain there is acquired knowledge."""


class RowKey(NamedTuple):
    """What makes two cells the same row."""

    base: str
    target: str
    recipe: str


def rows(scorecards: Sequence[Scorecard], evidence: TableEvidence = NOTHING) -> list[TableRow]:
    """Rows in the order of the scorecards: targets first, then recipes.

    Args:
        scorecards: one per cell; a grid of base x target x recipe x seed in which gaps are shown.
        evidence: verdicts, and estimates over seeds and items; without the latter the seeds'
            own intervals are pooled.
    """
    grid: dict[RowKey, dict[int, Scorecard]] = {}
    for card in scorecards:
        grid.setdefault(RowKey(card.base, card.target, card.recipe), {})[card.seed] = card
    seeds = sorted({card.seed for card in scorecards})
    bases, targets, recipes = (list(dict.fromkeys(column)) for column in zip(*grid, strict=True))
    arms = [RowKey(b, t, r) for b in bases for t in targets for r in recipes]
    by_recipe = {card.recipe: card for card in reversed(scorecards)}
    found = [_row(arm, grid.get(arm, {}), seeds, by_recipe, evidence) for arm in arms]
    acquired = {(row.base, row.recipe): row.gain for row in found if row.target == NEW_FACTS}
    return [_with_acquisition(row, acquired.get((row.base, row.recipe))) for row in found]


def _row(
    arm: RowKey,
    cards: Mapping[int, Scorecard],
    seeds: Sequence[int],
    by_recipe: Mapping[str, Scorecard],
    evidence: TableEvidence,
) -> TableRow:
    like = by_recipe[arm.recipe]
    absent = {str(seed): why for seed in seeds if (why := _absence(cards.get(seed)))}
    found = [cards[seed] for seed in seeds if str(seed) not in absent]
    head: dict[str, Any] = {
        **arm._asdict(),
        "method": like.method,
        "adaptation": like.adaptation,
        "stages": like.method.count("+") + 1,
        "budget": like.budget,
        "seeds": [card.seed for card in found],
        "absent": absent,
    }
    if absent:
        why = f"{len(absent)} of {len(seeds)} seeds have no result"
        return TableRow(**head, missing={"*": why})
    return TableRow(**head, **estimates(found, evidence.verdicts, evidence.methods.get(arm)))


def _with_acquisition(row: TableRow, acquired: Interval | None) -> TableRow:
    if acquired is not None or row.absent:
        return row.model_copy(update={"new_facts": acquired})
    why = f"no finished cells on the target {NEW_FACTS}"
    return row.model_copy(update={"missing": {**row.missing, "new_facts": why}})


def _absence(card: Scorecard | None) -> str:
    if card is None:
        return "no scorecard"
    if card.status == "failed":
        return card.reason or "failed without a reason"
    return "" if card.points else "no point was scored"
