"""What a reader should know first: the verdicts, and per target who gained, kept and forgot.

Pure: picks from the rows by fixed rules and states only what the table shows. A recipe
counts as gaining only if the interval of its gain excludes 0, so that refusing to learn cannot win.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from retainbench.harness.core.changes import Interval
from retainbench.harness.core.scorecards import Scorecard
from retainbench.harness.core.text.formatting import brief, counted, points
from retainbench.harness.report.table.columns import SEVERITY
from retainbench.harness.report.table.evidence import CellVerdict
from retainbench.harness.report.table.model import TableRow, axes_of

LABELS = (
    "Largest gain",
    "Forgot least while gaining",
    "Forgot most",
    "Most gain per drift",
    "Eroded most",
)
NAMED = 6  # rows that a verdict names before it only counts
REASONS = 3  # reasons that a verdict gives
UNGATED = "NOT GATED"


class Finding(NamedTuple):
    """One finding: a label, the recipe it names and the number behind it."""

    label: str
    recipe: str
    text: str


class Glance(NamedTuple):
    """Findings on one target."""

    target: str
    facts: list[Finding]
    remark: str
    """Why there are no facts, or how many recipes have no estimate; may be empty."""


class Worst(NamedTuple):
    """The axis on which a row forgot most."""

    axis: str
    drop: Interval


class Ruling(NamedTuple):
    """How many cells got one verdict, and whose they are."""

    word: str
    cells: int
    names: str
    why: str
    """The most frequent reasons, each with its number of cells; empty where none was given."""


def rulings(cards: Sequence[Scorecard], verdicts: Mapping[str, CellVerdict]) -> list[Ruling]:
    """Verdicts of all cells, the worst first; nothing where nothing was gated."""
    if not verdicts:
        return []
    groups: dict[str, list[Scorecard]] = {word: [] for word in ("FAILED", *SEVERITY, UNGATED)}
    for card in cards:
        word = verdicts[card.cell].verdict if card.cell in verdicts else UNGATED
        groups["FAILED" if not card.points else word].append(card)
    several = len({card.target for card in cards}) > 1
    return [_ruling(word, found, verdicts, several) for word, found in groups.items() if found]


def _ruling(
    word: str, cards: Sequence[Scorecard], verdicts: Mapping[str, CellVerdict], several: bool
) -> Ruling:
    names = [f"{card.recipe} on {card.target}" if several else card.recipe for card in cards]
    names = list(dict.fromkeys(names))
    more = len(names) - NAMED
    shown = ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
    given = [verdicts[card.cell].reasons for card in cards if card.cell in verdicts]
    reasons = Counter(why for each in given for why in dict.fromkeys(each))
    frequent = (f"{why} ({counted(n, 'cell')})" for why, n in reasons.most_common(REASONS))
    return Ruling(word, len(cards), shown, "; ".join(frequent))


def glance(rows: Sequence[TableRow]) -> list[Glance]:
    """Findings for every target in the order of the table."""
    targets = list(dict.fromkeys(row.target for row in rows))
    return [_of_target(target, [row for row in rows if row.target == target]) for target in targets]


def worst_axis(row: TableRow) -> Worst | None:
    """The scored axis with the largest drop."""
    found = [Worst(axis, drop) for axis in axes_of([row]) if (drop := row.axis(axis).drop)]
    return max(found, key=lambda worst: worst.drop.value) if found else None


def _of_target(target: str, rows: Sequence[TableRow]) -> Glance:
    failed = sum(bool(row.absent) for row in rows)
    remark = f"{failed} of {len(rows)} recipes have failed seeds." if failed else ""
    gaining = [(row, row.gain) for row in rows if row.gain and row.gain.low > 0]
    facts: list[Finding] = []
    if gaining:
        best, gain = max(gaining, key=lambda pair: pair[1].value)
        facts.append(Finding(LABELS[0], best.recipe, f"{points(gain)} pp"))
    else:
        remark = f"No recipe has a gain whose interval excludes 0. {remark}".strip()
    kept = [(row, worst) for row, _ in gaining if (worst := worst_axis(row))]
    if kept:
        row, worst = min(kept, key=lambda pair: pair[1].drop.value)
        text = f"{points(worst.drop)} pp at worst ({worst.axis})"
        facts.append(Finding(LABELS[1], row.recipe, text))
    harmed = [(row, worst) for row in rows if (worst := worst_axis(row)) and worst.drop.low > 0]
    if harmed:
        row, worst = max(harmed, key=lambda pair: pair[1].drop.value)
        facts.append(Finding(LABELS[2], row.recipe, f"{points(worst.drop)} pp ({worst.axis})"))
    elif gaining:
        remark = f"No recipe has a drop whose interval excludes 0. {remark}".strip()
    frugal = [(row, row.gain_per_drift) for row, _ in gaining if row.gain_per_drift]
    if frugal:
        row, ratio = max(frugal, key=lambda pair: pair[1].value)
        # Score points over drift as a share are the same number as percentage points over percent.
        limits = f"[{brief(ratio.low)}, {brief(ratio.high)}]"
        text = f"{brief(ratio.value)} {limits} pp per % of drift"
        facts.append(Finding(LABELS[3], row.recipe, text))
    facts += _eroded(rows)
    return Glance(target, facts, remark)


def _eroded(rows: Sequence[TableRow]) -> list[Finding]:
    """The row whose confidence fell most beyond its margin, whatever its verdict."""
    found = [
        (row, axis, one.erosion)
        for row in rows
        for axis, one in row.axes.items()
        if one.erosion and one.erosion.low > (one.erosion_margin or 0.0)
    ]
    if not found:
        return []
    row, axis, erosion = max(found, key=lambda place: place[2].value)
    return [Finding(LABELS[4], row.recipe, f"{points(erosion)} pp ({axis})")]
