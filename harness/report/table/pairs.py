"""Recipes against each other as small tables: ranks with verdicts over seeds, and differences.

Pure: takes the rows of `comparison/methods.py`, returns unescaped texts. Differences are paired on
the items and, with equal seeds, on the seeds, so they are sharper than two rows of the table, and
Holm corrects them over all pairs of a measure. A folder that was published before pairs were
compared has no such tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from retainbench.harness.core.changes import Interval
from retainbench.harness.core.files.storage import csv_text
from retainbench.harness.core.text.formatting import NONE, signed
from retainbench.harness.report.table.columns import Grid

if TYPE_CHECKING:
    from retainbench.harness.comparison.matched import MatchedPairRow
    from retainbench.harness.comparison.methods import MethodRow
    from retainbench.harness.comparison.seed_tables import PairRow

RANKS = (
    "Ranks: best and worst place that no pair contradicts after Holm's correction; a range says "
    "that the order inside it is not known."
)
OVER_SEEDS = (
    " Over seeds: REGRESSION where the mean drop of an axis is shown to exceed the policy's "
    "margin, PASS where each is shown not to, else INCONCLUSIVE."
)

MODERATED = (
    " With three seeds or more and five recipes or more, the pairs of a measure borrow strength "
    "from each other for their variances over seeds (moderated t, Smyth 2004)."
)


def grids(
    methods: Mapping[tuple[str, str, str], MethodRow], pairs: Sequence[PairRow]
) -> list[Grid]:
    """Ranks, then a matrix of differences for every target and measure."""
    if not pairs:
        return []
    places = dict.fromkeys((pair.target, pair.measure) for pair in pairs)
    found = [
        _matrix(target, measure, [p for p in pairs if (p.target, p.measure) == (target, measure)])
        for target, measure in places
    ]
    return [_ranks(list(methods.values())), _told_apart(pairs), *found]


WAYS = {"": "accuracy", " erosion": "erosion", " perplexity": "perplexity"}
"""How a measure of an axis ends -> what it compares."""


def _told_apart(pairs: Sequence[PairRow]) -> Grid:
    """How many pairs of recipes differ on each axis, and by what."""
    targets = list(dict.fromkeys(pair.target for pair in pairs))
    measures = dict.fromkeys(pair.measure for pair in pairs if pair.measure != "gain")
    axes = dict.fromkeys(axis_of(measure) for measure in measures)
    ways = [end for end in WAYS if any(f"{axis}{end}" in measures for axis in axes)]
    cells = []
    for target in targets:
        for axis in axes:
            found = [
                [p for p in pairs if (p.target, p.measure) == (target, f"{axis}{end}")]
                for end in ways
            ]
            told = [f"{sum(map(differs, one))} of {len(one)}" if one else NONE for one in found]
            equal = sum(pair.equivalent for pair in found[0])
            cells.append([target, axis, *told, f"{equal} of {len(found[0])}"])
    head = ["Target", "Axis", *(f"By {WAYS[end]}" for end in ways), "Equivalent"]
    notes = [
        "Pairs that differ after Holm's correction over the pairs of a target and measure; "
        "equivalent: the interval of the difference in drop is within "
        f"{100 * pairs[0].margin:g} pp."
        + (MODERATED if "moderated" in pairs[0].difference.method else "")
    ]
    return Grid(
        "Pairs of recipes that can be distinguished",
        head,
        "ll" + "r" * (len(ways) + 1),
        cells,
        notes,
    )


def axis_of(measure: str) -> str:
    """The axis of a measure that is not `gain`.

    >>> axis_of("numeric erosion"), axis_of("numeric")
    ('numeric', 'numeric')
    """
    for end in WAYS:
        if end and measure.endswith(end):
            return measure.removesuffix(end)
    return measure


def unit(measure: str) -> str:
    """What 100 times a difference in this measure counts."""
    return "hundredths of a nat per token" if measure.endswith(" perplexity") else "pp"


def _what(measure: str) -> str:
    if measure == "gain":
        return "gain"
    axis = axis_of(measure)
    return f"{measure.removeprefix(axis).strip() or 'drop'} on {axis}"


def matched(rows: Sequence[MatchedPairRow]) -> list[Grid]:
    """A matrix of differences in drop at the same gain for every target and axis that has any."""
    places = dict.fromkeys((row.target, row.axis) for row in rows if row.difference)
    return [
        _at_gain(target, axis, [row for row in rows if (row.target, row.axis) == (target, axis)])
        for target, axis in places
    ]


def _at_gain(target: str, axis: str, rows: Sequence[MatchedPairRow]) -> Grid:
    """Row minus column where both first reach their common gain."""
    first = [row for row in rows if row.share is None]
    known = [(row, row.difference) for row in first if row.difference]
    names = list(dict.fromkeys(name for row in first for name in (row.first, row.second)))
    texts: dict[tuple[str, str], str] = {}
    for row, gap in known:
        mark = "*" if _differs_at_gain(row) else ""
        texts[row.first, row.second] = signed(100 * gap.value) + mark
        texts[row.second, row.first] = signed(-100 * gap.value) + mark
    shown = [name for name in names if any(name in pair for pair in texts)]
    cells = [[row, *(texts.get((row, column), "") for column in shown)] for row in shown]
    apart = sum(_differs_at_gain(row) for row, _ in known)
    later = [row.difference for row in rows if row.share is not None and row.difference]
    lasting = sum(gap.low > 0 or gap.high < 0 for gap in later)
    note = (
        "At half of the smaller of the two largest mean gains. "
        f"{len(known)} of {len(first)} pairs have one that both are shown to reach; {apart} of "
        f"them differ (* after Holm's correction). Of {len(later)} later checkpoints at which both "
        f"still hold it, the interval excludes 0 at {lasting}. All of them, with intervals and "
        "reasons: pairs.csv."
    )
    caption = f"Differences in drop on {axis} at the same gain on {target}, row minus column, pp"
    return Grid(caption, ["", *shown], "l" + "r" * len(shown), cells, [note], matrix=True)


def _differs_at_gain(row: MatchedPairRow) -> bool:
    if row.difference is None or row.holm_p is None:
        return False
    return row.holm_p <= 1 - row.difference.level


CSV_HEAD = (
    "target", "first", "second", "measure", "gain", "share", "difference", "low", "high", "level",
    "p", "holm_p", "equivalent", "margin", "reason",
)  # fmt: skip
"""`gain`: the common gain of a comparison at the same gain; empty at the end of the budget."""


def to_csv(pairs: Sequence[PairRow], at_gain: Sequence[MatchedPairRow]) -> str:
    """Every paired difference: at the end of the budget, and at the same gain."""
    ends = [
        (
            row.target,
            row.first,
            row.second,
            row.measure,
            None,
            1.0,
            *_limits(row.difference),
            row.p,
            row.holm_p,
            row.equivalent,
            row.margin,
            None,
        )
        for row in pairs
    ]
    matches = [
        (
            row.target,
            row.first,
            row.second,
            row.axis,
            row.gain,
            row.share,
            *_limits(row.difference),
            row.p,
            row.holm_p,
            None,
            None,
            row.reason,
        )
        for row in at_gain
    ]
    return csv_text(CSV_HEAD, [*ends, *matches], digits=6)


def _limits(found: Interval | None) -> tuple[float | None, ...]:
    return (None,) * 4 if found is None else (found.value, found.low, found.high, found.level)


def _ranks(rows: Sequence[MethodRow]) -> Grid:
    """With a verdict on each recipe where it has several seeds."""
    measures = list(dict.fromkeys(name for row in rows for name in row.ranks))
    judged = any(row.verdict for row in rows)
    cells = [
        [row.target, row.recipe]
        + [_range(row.ranks.get(measure)) for measure in measures]
        + [row.verdict or NONE] * judged
        + [_front(row)]
        for row in rows
    ]
    ranked = [_title(name) for name in measures]
    head = ["Target", "Recipe", *ranked, *["Over seeds"] * judged, "Front"]
    align = "ll" + "r" * len(measures) + "l" * judged + "l"
    note = RANKS + OVER_SEEDS * judged
    return Grid("Ranks of the recipes", head, align, cells, [note])


def _title(measure: str) -> str:
    return "Gain" if measure == "gain" else f"{measure.capitalize()} kept"


def _range(rank: Sequence[int] | None) -> str:
    if not rank:
        return NONE
    best, worst = rank
    return str(best) if best == worst else f"{best}–{worst}"


def _front(row: MethodRow) -> str:
    if row.on_front is None:
        return NONE
    if row.on_front:
        return "on it" + (f", tied with {', '.join(row.tied_with)}" if row.tied_with else "")
    return f"dominated by {', '.join(row.dominated_by)}"


def _matrix(target: str, measure: str, pairs: Sequence[PairRow]) -> Grid:
    """Row minus column in percentage points."""
    names = list(dict.fromkeys(name for pair in pairs for name in (pair.first, pair.second)))
    texts = {(pair.first, pair.second): _difference(pair, 1) for pair in pairs}
    texts |= {(pair.second, pair.first): _difference(pair, -1) for pair in pairs}
    cells = [[row, *(texts.get((row, column), "") for column in names)] for row in names]
    told, what = sum(differs(pair) for pair in pairs), unit(measure)
    equal = sum(pair.equivalent for pair in pairs)
    half = sorted(pair.difference.high - pair.difference.low for pair in pairs)[len(pairs) // 2] / 2
    note = (
        f"{told} of {len(pairs)} pairs differ (* after Holm's correction); {equal} are equivalent "
        f"(= the interval is within {100 * pairs[0].margin:g} {what}). Median half width of the "
        f"paired {100 * pairs[0].difference.level:g} % intervals: {100 * half:.1f} {what}."
    )
    caption = f"Differences in {_what(measure)} on {target}, row minus column, {what}"
    return Grid(caption, ["", *names], "l" + "r" * len(names), cells, [note], matrix=True)


def differs(pair: PairRow) -> bool:
    """Whether Holm's correction leaves the difference significant at the level of its interval."""
    return pair.holm_p <= 1 - pair.difference.level


def _difference(pair: PairRow, sign: int) -> str:
    mark = "*" if differs(pair) else ""
    return signed(100 * sign * pair.difference.value) + mark + ("=" if pair.equivalent else "")
