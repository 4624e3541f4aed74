"""What a sweep that keeps all its variants found: gain against drop of every value that it tried.

Pure: takes the scorecards of the variants (`variants.jsonl`) and the choices (`recipes.json`);
returns rows for `variants.csv`, points for the Pareto figure and a small table of unescaped texts.
A sweep that scored nothing, or a folder without one, has none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from retainbench.harness.core.recipes import Recipes, SweepChoice, SweepVariant
from retainbench.harness.core.scorecards import Scorecard
from retainbench.harness.core.text.formatting import NONE, brief, points, signed
from retainbench.harness.report.table import rows
from retainbench.harness.report.table.columns import Grid
from retainbench.harness.report.table.model import TableRow, axes_of

CAPTION = "What the sweep tried"


class Tried(NamedTuple):
    """One value of one option of a recipe, with what the variant earned and lost."""

    choice: SweepChoice
    variant: SweepVariant
    row: TableRow

    @property
    def what(self) -> str:
        """`learning_rate 0.0003`, with the stage where it is not the first."""
        place = f"stage {self.choice.stage}: " if self.choice.stage else ""
        value = self.choice.value / self.choice.factor * self.variant.factor
        return f"{place}{self.choice.option} {value:.3g}"

    @property
    def taken(self) -> bool:
        """Whether the sweep chose this value."""
        return self.variant.factor == self.choice.factor


def tried(given: Recipes | None, cards: Sequence[Scorecard]) -> list[Tried]:
    """Every variant that was scored, in the order of the choices."""
    if given is None or not cards:
        return []
    by_cell = {
        card.cell: row for card, row in zip(cards, map(_row, cards), strict=True) if row.gain
    }
    return [
        Tried(choice, variant, by_cell[variant.cell])
        for choice in given.choices
        for variant in choice.variants
        if variant.cell in by_cell
    ]


def _row(card: Scorecard) -> TableRow:
    return rows.rows([card])[0]


def grids(found: Sequence[Tried]) -> tuple[Grid, ...]:
    """The table as a tuple of one, or nothing."""
    if not found:
        return ()
    axes = axes_of(one.row for one in found)
    cells = [
        [
            one.choice.recipe,
            one.what,
            _percent(one.variant.reward),
            points(one.row.gain),
            *(points(one.row.axis(axis).drop) for axis in axes),
            brief(one.row.drift.relative if one.row.drift else None, 100, " %"),
            "taken" if one.taken else "",
        ]
        for one in found
    ]
    drops = [f"{axis.capitalize()} drop, pp" for axis in axes]
    head = ["Recipe", "Value", "Validation, %", "Gain, pp", *drops, "Drift", "Choice"]
    budget, seed = found[0].row.budget, found[0].row.seeds[0]
    notes = [
        f"One cell each with seed {seed} and a budget of {budget}. Validation: reward on the "
        "target's validation items, by which the sweep chooses; gain and drops are on the test and "
        "retention items of the table. Intervals are about these runs alone. All columns: "
        "variants.csv."
    ]
    return (Grid(CAPTION, head, "llrr" + "r" * len(axes) + "rl", cells, notes),)


def _percent(share: float | None) -> str:
    return NONE if share is None else signed(100 * share, plus=False)
