"""What a reader should know first: per target, who gained, who kept, who forgot.

Pure: picks from the rows by fixed rules and words nothing that the table does not show. A recipe
counts as gaining only if the interval of its gain excludes 0, so that refusing to learn cannot win.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from retainbench.harness.records import Interval
from retainbench.harness.report_format import brief, points
from retainbench.harness.report_model import AXES, TableRow


class Fact(NamedTuple):
    """One finding: a label, the recipe it names and the number behind it."""

    label: str
    recipe: str
    text: str


class Glance(NamedTuple):
    """Findings on one target."""

    target: str
    facts: list[Fact]
    remark: str
    """Why there are no facts, or how many recipes have no estimate; may be empty."""


class Worst(NamedTuple):
    """The axis on which a row forgot most."""

    axis: str
    drop: Interval


def glance(rows: Sequence[TableRow]) -> list[Glance]:
    """Findings for every target in the order of the table."""
    targets = list(dict.fromkeys(row.target for row in rows))
    return [_of_target(target, [row for row in rows if row.target == target]) for target in targets]


def worst_axis(row: TableRow) -> Worst | None:
    """The scored axis with the largest drop."""
    found = [Worst(axis, drop) for axis in AXES if (drop := row.axis(axis).drop)]
    return max(found, key=lambda worst: worst.drop.value) if found else None


def _of_target(target: str, rows: Sequence[TableRow]) -> Glance:
    failed = sum(bool(row.absent) for row in rows)
    remark = f"{failed} of {len(rows)} recipes have failed seeds." if failed else ""
    gaining = [(row, row.gain) for row in rows if row.gain and row.gain.low > 0]
    facts: list[Fact] = []
    if gaining:
        best, gain = max(gaining, key=lambda pair: pair[1].value)
        facts.append(Fact("Largest gain", best.recipe, f"{points(gain)} pp"))
    else:
        remark = f"No recipe has a gain whose interval excludes 0. {remark}".strip()
    kept = [(row, worst) for row, _ in gaining if (worst := worst_axis(row))]
    if kept:
        row, worst = min(kept, key=lambda pair: pair[1].drop.value)
        text = f"{points(worst.drop)} pp at worst ({worst.axis})"
        facts.append(Fact("Forgot least while gaining", row.recipe, text))
    harmed = [(row, worst) for row in rows if (worst := worst_axis(row)) and worst.drop.low > 0]
    if harmed:
        row, worst = max(harmed, key=lambda pair: pair[1].drop.value)
        facts.append(Fact("Forgot most", row.recipe, f"{points(worst.drop)} pp ({worst.axis})"))
    elif gaining:
        remark = f"No recipe has a drop whose interval excludes 0. {remark}".strip()
    frugal = [(row, row.gain_per_drift) for row, _ in gaining if row.gain_per_drift]
    if frugal:
        row, ratio = max(frugal, key=lambda pair: pair[1].value)
        # Score points over drift as a share are the same number as percentage points over percent.
        limits = f"[{brief(ratio.low)}, {brief(ratio.high)}]"
        text = f"{brief(ratio.value)} {limits} pp per % of drift"
        facts.append(Fact("Most gain per drift", row.recipe, text))
    return Glance(target, facts, remark)
