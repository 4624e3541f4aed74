"""The second small table: recipes that learn several targets in turn, with the field's metrics.

Pure: takes the rows of `compare_sequences.py`, returns unescaped texts. A run without sequences
has no such table. Numbers are percentage points of reward.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from retainbench.harness.report_columns import Grid
from retainbench.harness.report_format import listed, points, signed

if TYPE_CHECKING:
    from retainbench.harness.compare_sequences import SequenceRow

CAPTION = "Targets learned in turn: what each is worth after each of them"
HEAD = (
    "Recipe",
    "Order",
    "Rewards after each, %",
    "ACC",
    "BWT",
    "BWT (TRACE)",
    "FWT",
    "Forgetting",
    "Intransigence",
)


def grids(rows: Sequence[SequenceRow]) -> tuple[Grid, ...]:
    """The table as a tuple of one, or nothing."""
    if not rows:
        return ()
    return (Grid(CAPTION, list(HEAD), "lllrrrrrr", [_cells(row) for row in rows], _notes(rows)),)


def _cells(row: SequenceRow) -> list[str]:
    after = (", ".join(signed(100 * score, plus=False) for score in line) for line in row.scores)
    return [
        row.recipe,
        " > ".join(row.targets),
        "; ".join(after),
        points(row.accuracy),
        points(row.backward_transfer),
        signed(100 * row.trace_backward_transfer),
        points(row.forward_transfer),
        signed(100 * row.forgetting),
        points(row.intransigence),
    ]


def _notes(rows: Sequence[SequenceRow]) -> list[str]:
    first = rows[0].accuracy
    reasons = {row.recipe: row.intransigence_reason for row in rows if row.intransigence_reason}
    before = {
        name: score for row in rows for name, score in zip(row.targets, row.before, strict=True)
    }
    base = ", ".join(f"{name} {signed(100 * score, plus=False)}" for name, score in before.items())
    return [
        "Rewards after each: one group a target learned, in that order, and in it the mean reward "
        f"on every target in the same order; the base has {base}. ACC: mean at the end. BWT: end "
        "minus when just learned, all but the last target; negative is forgetting. FWT: just "
        "before it is learned minus the base. Forgetting: best earlier minus end, a maximum, which "
        "noise pushes up. Intransigence: learned alone with the whole budget minus when just "
        "learned in turn. BWT (TRACE) divides by the number of targets.",
        f"Brackets: {100 * first.level:g} % intervals "
        f"({listed(row.accuracy.method for row in rows)}).",
        *(f"No intransigence for {recipe}: {reason}." for recipe, reason in reasons.items()),
    ]
