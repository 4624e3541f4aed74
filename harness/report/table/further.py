"""Measures that the standardized table has no room for, as small tables of the HTML report.

Pure: rows in, unescaped texts out; the same numbers are in table.csv and table.json. `measures`:
the worst point of the trajectory, chance-adjusted companions, acquisition of new facts, gain per
drift and per KL, sparsity. `matched`: drops at the same gain for every recipe.

`grids`: recipes that learn several targets in sequence, with the field's metrics, from the rows of
`comparison/sequences.py`; percentage points of reward. A run without sequences has no such table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from retainbench.harness.core.changes import Interval
from retainbench.harness.core.text.formatting import NONE, brief, listed, nats, points, signed
from retainbench.harness.report.table.columns import Grid
from retainbench.harness.report.table.model import AxisColumns, TableRow, axes_of

if TYPE_CHECKING:
    from retainbench.harness.comparison.sequences import SequenceRow


class Measure(NamedTuple):
    """One column: its head and its text in a row."""

    head: str
    text: Callable[[TableRow], str]


def measures(rows: Sequence[TableRow]) -> Grid:
    """One line a row; columns that are empty in all rows are left out."""
    done = [row for row in rows if not row.absent]
    found = [one for one in _columns(rows) if any(one.text(row) != NONE for row in done)]
    cells = [[row.target, row.recipe, *(one.text(row) for one in found)] for row in done]
    head = ["Target", "Recipe", *(one.head for one in found)]
    return Grid("Further measures", head, "ll" + "r" * len(found), cells, list(MEANING))


MEANING = (
    "Worst: largest drop at a scored checkpoint and where it was, in percent of the budget; as the "
    "largest of several it is biased up.",
    "Forgot / won back: items lost and items gained beyond what guessing explains, in percent, "
    "mean over tasks; companions for comparison with published work, never gated on. Churn: items "
    "whose correctness changed, in percent.",
    "New facts: the recipe's gain on the target new_facts. Gain per drift: percentage points per "
    "percent of relative drift. Gain per KL: percentage points per 0.01 nats per token on "
    "retention prompts.",
    "Unchanged: parameters in percent that are equal to the base's exactly / within 1e-5 / after "
    "rounding both to bfloat16. Valid: answers in percent that could be read, base > candidate.",
)


def _columns(rows: Sequence[TableRow]) -> list[Measure]:
    return [
        *(Measure(f"{axis.capitalize()} worst, pp", _worst(axis)) for axis in axes_of(rows)),
        Measure("Forgot / won back, %", _companions),
        Measure("Churn, %", lambda row: brief(row.churn, 100)),
        Measure("New facts, pp", lambda row: points(row.new_facts)),
        Measure("Gain per drift", lambda row: _ratio(row.gain_per_drift, 1)),
        Measure("Gain per KL", lambda row: _ratio(row.gain_per_kl, 1)),
        Measure("Unchanged, %", _unchanged),
        Measure("Valid, %", _valid),
    ]


def _worst(axis: str) -> Callable[[TableRow], str]:
    def text(row: TableRow) -> str:
        found = row.axis(axis)
        if found.worst_drop is None or found.worst_fraction is None:
            return NONE
        return f"{signed(100 * found.worst_drop)} at {100 * found.worst_fraction:.0f} %"

    return text


def _companions(row: TableRow) -> str:
    return _pair(row.forgetting_chance_adjusted, row.backward_transfer_chance_adjusted)


def _pair(one: float | None, two: float | None) -> str:
    return NONE if one is None and two is None else f"{brief(one, 100)} / {brief(two, 100)}"


def _ratio(ratio: Interval | None, scale: float) -> str:
    if ratio is None:
        return NONE
    low, high = brief(ratio.low, scale), brief(ratio.high, scale)
    return f"{brief(ratio.value, scale)} [{low}, {high}]"


def _unchanged(row: TableRow) -> str:
    if row.drift is None:
        return NONE
    shares = (row.drift.unchanged_exact, row.drift.unchanged_1e5, row.drift.unchanged_bf16)
    return " / ".join(brief(share, 100) for share in shares)


def _valid(row: TableRow) -> str:
    if row.base_valid is None or row.candidate_valid is None:
        return NONE
    return f"{100 * row.base_valid:.3g} > {100 * row.candidate_valid:.3g}"


def confidence(rows: Sequence[TableRow]) -> Grid | None:
    """Erosion, margins and calibration of every axis; None where nothing was measured."""
    lines = [
        [
            row.target,
            row.recipe,
            axis,
            points(one.erosion),
            _nats(one.margin_drop),
            _shrink(one),
            nats(one.brier_rise),
            _calibration(one),
        ]
        for row in rows
        for axis, one in row.axes.items()
        if one.erosion
    ]
    if not lines:
        return None
    head = ["Target", "Recipe", "Axis", "Erosion, pp", "Margin lost, nats", "Shrink, %"]
    head += ["Brier score", "Calibration error, %"]
    notes = [
        "Margin: lead of the gold choice over the best other choice. Shrink: how much smaller all "
        "margins became alike (1 minus the slope of the candidate's on the base's); a model can "
        "become less sure everywhere without knowing less.",
        "Brier score: rise of the sum over choices of (probability - 1 where right, - 0 elsewhere) "
        "squared, 0 to 2, probabilities as the softmax of the choices' summed log-likelihoods. "
        "Calibration error: |share right - mean confidence| in ten bins of the likeliest choice's "
        "probability, base > candidate, mean over tasks.",
    ]
    return Grid("Erosion: confidence in the right choice", head, "lllrrrrr", lines, notes)


def _calibration(one: AxisColumns) -> str:
    before, after = one.base_calibration_error, one.candidate_calibration_error
    return NONE if before is None or after is None else f"{100 * before:.2g} > {100 * after:.2g}"


def _shrink(one: AxisColumns) -> str:
    return NONE if one.margin_slope is None else signed(100 * (1 - one.margin_slope))


def _nats(drop: Interval | None) -> str:
    return NONE if drop is None else _ratio(drop, 1)


def matched(rows: Sequence[TableRow]) -> Grid | None:
    """Drops and ratios at the gain to match, or None where the methods were not compared."""
    found = [row for row in rows if row.gain_to_match]
    if not found:
        return None
    axes = axes_of(found)
    drops = [f"{axis.capitalize()} drop, pp" for axis in axes]
    head = ["Target", "Recipe", "Gain to match, pp", *drops, "Gain per drift", "Gain per KL"]
    align = "llr" + "r" * len(axes) + "rr"
    notes = [
        "Drop where a recipe's mean trajectory first reaches the gain to match, half of the "
        "largest mean gain on the target, by linear interpolation; nothing is extrapolated. "
        "Errors of the gain and of the drop over items and seeds (delta method). Gain per drift "
        "(percentage points per percent) and per KL (percentage points per 0.01 nats) at that "
        "place, with Fieller's limits."
    ]
    return Grid("At the same gain", head, align, [_matched(row, axes) for row in found], notes)


def _matched(row: TableRow, axes: Sequence[str]) -> list[str]:
    drops = (
        points(columns.matched_drop) if columns.matched_drop else columns.matched_reason or NONE
        for columns in map(row.axis, axes)
    )
    ratios = [_ratio(row.matched_per_drift, 1), _ratio(row.matched_per_kl, 1)]
    return [row.target, row.recipe, f"{100 * (row.gain_to_match or 0.0):.1f}", *drops, *ratios]


CAPTION = "Targets learned in sequence: what each is worth after each of them"
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
        "learned in sequence. BWT (TRACE) divides by the number of targets.",
        f"Brackets: {100 * first.level:g} % intervals "
        f"({listed(row.accuracy.method for row in rows)}).",
        *(f"No intransigence for {recipe}: {reason}." for recipe, reason in reasons.items()),
    ]
