"""Two runs side by side: what the same recipe gained and lost in each, and the difference.

Reads the scorecards of two run (or published) folders; returns a table. Arms pair by target, recipe
and adaptation; arms of only one run are listed, never dropped silently. The runs
are treated as independent, although they often answer the same items: that makes the interval of
the difference wider than needed, never narrower. Command: `retainbench compare RUN_A RUN_B`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from retainbench.harness.core.changes import Interval
from retainbench.harness.core.scorecards import Scorecard
from retainbench.harness.core.text.formatting import NONE, listed, points, signed, significant
from retainbench.harness.report import report
from retainbench.harness.report.table import evidence
from retainbench.harness.report.table.columns import Grid
from retainbench.harness.report.table.model import TableRow, axes_of
from retainbench.harness.report.table.rows import rows

ComparedKey = tuple[str, str, str]
"""Target, recipe and adaptation."""


class Side(NamedTuple):
    """One run of the comparison."""

    name: str
    cards: list[Scorecard]
    rows: Mapping[ComparedKey, TableRow]


def compare_runs(run_a: Path, run_b: Path) -> Grid:
    """One line per arm that both runs have: gain and drops in A and B, and B minus A.

    Raises:
        UsageError: a folder has no scorecards.
        IntegrityError: a record is malformed.
    """
    a, b = _side("A", run_a), _side("B", run_b)
    shared = [arm for arm in a.rows if arm in b.rows]
    axes = axes_of([*a.rows.values(), *b.rows.values()])
    drops = [f"{axis.capitalize()} drop, pp" for axis in axes]
    head = ["Target", "Recipe", "Adapt.", "Gain, pp", *drops]
    cells = [[*arm, *_changes(a.rows[arm], b.rows[arm], axes)] for arm in shared]
    title = f"B minus A. A: {_title(a)}; B: {_title(b)}"
    return Grid(title, head, "lllr" + "r" * len(axes), cells, _notes(a, b, shared))


def difference(a: Interval, b: Interval) -> Interval:
    """b - a with an interval from the two intervals alone (MOVER: Zou and Donner 2008).

    Assumes independent estimates and one confidence level.

    >>> one = Interval(value=0.1, low=0.06, high=0.14, level=0.9, n=9, method="t")
    >>> two = Interval(value=0.3, low=0.27, high=0.33, level=0.9, n=9, method="t")
    >>> found = difference(one, two)
    >>> (found.value, found.low, found.high)
    (0.2, 0.15, 0.25)
    """
    if a.level != b.level:
        raise ValueError(f"intervals at {a.level} and {b.level} cannot be subtracted")
    value = b.value - a.value
    below = math.hypot(b.value - b.low, a.high - a.value)
    above = math.hypot(b.high - b.value, a.value - a.low)
    return Interval(
        value=significant(value),
        low=significant(value - below),
        high=significant(value + above),
        level=a.level,
        n=min(a.n, b.n),
        method="MOVER, independent runs",
    )


def _side(name: str, folder: Path) -> Side:
    cards = report.load_scorecards(folder)
    found = rows(cards, evidence.stored(folder))
    return Side(name, cards, {(row.target, row.recipe, row.adaptation): row for row in found})


def _title(side: Side) -> str:
    bases = listed(card.base for card in side.cards)
    return f"{bases}, {listed(card.budget for card in side.cards)}"


def _changes(a: TableRow, b: TableRow, axes: Sequence[str]) -> list[str]:
    return [_change(a.gain, b.gain), *(_change(a.axis(x).drop, b.axis(x).drop) for x in axes)]


def _change(a: Interval | None, b: Interval | None) -> str:
    """`+1.0 → +3.0: +2.0 [0.5, 3.5]*`; the star says that the interval excludes 0."""
    sides = " → ".join(NONE if one is None else signed(100 * one.value) for one in (a, b))
    if a is None or b is None:
        return sides if a or b else NONE
    if a.level != b.level:
        return f"{sides}: {NONE}"
    found = difference(a, b)
    return f"{sides}: {points(found)}" + ("*" if found.low > 0 or found.high < 0 else "")


def _notes(a: Side, b: Side, shared: Sequence[ComparedKey]) -> list[str]:
    levels = {row.gain.level for side in (a, b) for row in side.rows.values() if row.gain}
    notes = [
        "A → B: B − A with its interval (MOVER on the runs' own intervals, the runs taken as "
        "independent); a star where it excludes 0. Drops above 0 are forgetting."
    ]
    if len(levels) > 1:
        notes.append("No difference is given where the runs' confidence levels differ.")
    for side, other in ((a, b), (b, a)):
        alone = [" / ".join(arm) for arm in side.rows if arm not in other.rows]
        if alone:
            notes.append(f"Only in {side.name}: {', '.join(alone)}.")
    for side in (a, b):
        failed = [" / ".join(arm) for arm in shared if side.rows[arm].absent]
        if failed:
            notes.append(f"Without an estimate in {side.name} (failed seeds): {', '.join(failed)}.")
    differing = _differences(a.cards, b.cards)
    if differing:
        notes.append(f"Not comparable without care, because these differ: {', '.join(differing)}.")
    return notes


def _differences(a: Sequence[Scorecard], b: Sequence[Scorecard]) -> list[str]:
    """Names of what was not the same in both runs: base, budget, and digests of base and tasks."""

    def values(cards: Sequence[Scorecard], name: str) -> set[str | None]:
        return {card.provenance.get(name) for card in cards}

    fixed = [
        n for n in ("base", "budget") if {getattr(c, n) for c in a} != {getattr(c, n) for c in b}
    ]
    names = {name for card in [*a, *b] for name in card.provenance}
    frozen = [name for name in sorted(names) if name == "base" or name.startswith("task ")]
    digests = []
    for name in frozen:
        one, two = values(a, name), values(b, name)
        if one != two:
            alone = one == {None} or two == {None}
            digests.append(f"{name} in one run only" if alone else f"digest of {name}")
    return [*fixed, *digests]
