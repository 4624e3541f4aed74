"""Recipes against each other as small tables: ranks with verdicts over seeds, and differences.

Pure: takes the rows of `comparison/methods.py`, returns unescaped texts. Differences are paired on
the items and, with equal seeds, on the seeds, so they are sharper than two rows of the table, and
Holm corrects them over all pairs of a measure. A folder that was published before pairs were
compared has no such tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from retainbench.harness.core.text.formatting import NONE, signed
from retainbench.harness.report.table.columns import Grid

if TYPE_CHECKING:
    from retainbench.harness.comparison.methods import MethodRow
    from retainbench.harness.comparison.seed_tables import PairRow

RANKS = [
    "Ranks: best and worst place that no pair contradicts after Holm's correction; a range says "
    "that the order inside it is not known. Over seeds: REGRESSION where the mean drop of an axis "
    "is shown to exceed the policy's margin, PASS where each is shown not to, else INCONCLUSIVE."
]


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
    return [_ranks(list(methods.values())), *found]


def _ranks(rows: Sequence[MethodRow]) -> Grid:
    measures = list(dict.fromkeys(name for row in rows for name in row.ranks))
    cells = [
        [row.target, row.recipe]
        + [_range(row.ranks.get(measure)) for measure in measures]
        + [row.verdict or NONE, _front(row)]
        for row in rows
    ]
    head = ["Target", "Recipe", *(_title(name) for name in measures), "Over seeds", "Front"]
    return Grid("Ranks of the recipes", head, "ll" + "r" * len(measures) + "ll", cells, RANKS)


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
    told = sum(differs(pair) for pair in pairs)
    equal = sum(pair.equivalent for pair in pairs)
    half = sorted(pair.difference.high - pair.difference.low for pair in pairs)[len(pairs) // 2] / 2
    what = "gain" if measure == "gain" else f"drop on {measure}"
    note = (
        f"{told} of {len(pairs)} pairs differ (* after Holm's correction); {equal} are equivalent "
        f"(= the interval is within {100 * pairs[0].margin:g} pp). Median half width of the "
        f"paired {100 * pairs[0].difference.level:g} % intervals: {100 * half:.1f} pp."
    )
    caption = f"Differences in {what} on {target}, row minus column, pp"
    return Grid(caption, ["", *names], "l" + "r" * len(names), cells, [note])


def differs(pair: PairRow) -> bool:
    """Whether Holm's correction leaves the difference significant at the level of its interval."""
    return pair.holm_p <= 1 - pair.difference.level


def _difference(pair: PairRow, sign: int) -> str:
    mark = "*" if differs(pair) else ""
    return signed(100 * sign * pair.difference.value) + mark + ("=" if pair.equivalent else "")
