"""What was found about one claim, and the rules by which an interval decides it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from results.claims.published import Published
from retainbench.harness.core.changes import Interval
from retainbench.harness.core.text.formatting import points

Status = Literal["reproduced", "contradicted", "undecided", "not testable here"]
Sign = Literal[1, -1]


class Finding(NamedTuple):
    """The answer of the stored rows to one claim."""

    status: Status
    result: str
    """Figures with their intervals."""
    folder: str | None = None
    """The published folder that they are in."""
    needs: str = ""
    """What would decide an undecided claim, and what it costs."""


def by_sign(intervals: Sequence[Interval], expected: Sign) -> Status:
    """Decided where an interval excludes 0: as expected by one or more, the contrary by none.

    >>> up = Interval(value=2, low=1, high=3, level=.9, n=9, method="t")
    >>> by_sign([up], 1), by_sign([up], -1), by_sign([], 1)
    ('reproduced', 'contradicted', 'undecided')
    """
    as_expected = any((i.low > 0) if expected > 0 else (i.high < 0) for i in intervals)
    contrary = any((i.high < 0) if expected > 0 else (i.low > 0) for i in intervals)
    if as_expected and not contrary:
        return "reproduced"
    return "contradicted" if contrary and not as_expected else "undecided"


def both(first: Status, second: Status) -> Status:
    """Of a claim with two parts: contradicted by either, reproduced by both."""
    if "contradicted" in (first, second):
        return "contradicted"
    return "reproduced" if (first, second) == ("reproduced",) * 2 else "undecided"


def within(low: float, high: float, bounds: tuple[float, float]) -> Status:
    """Whether a range is inside of bounds, outside, or across one of them.

    >>> within(1.0, 1.1, (0.9, 1.2)), within(2.0, 2.1, (0.9, 1.2)), within(1.0, 2.0, (0.9, 1.2))
    ('reproduced', 'contradicted', 'undecided')
    """
    if bounds[0] <= low and high <= bounds[1]:
        return "reproduced"
    return "contradicted" if high < bounds[0] or low > bounds[1] else "undecided"


def by_axis(found: Mapping[str, Interval]) -> str:
    """`general +1.2 [0.3, 2.1], numeric ...`, in points."""
    return ", ".join(f"{axis} {points(interval)}" for axis, interval in found.items())


def range_text(low: float, high: float, digits: int = 2) -> str:
    """`1.02 to 1.10`, or one number where both are equal."""
    texts = f"{low:.{digits}f}", f"{high:.{digits}f}"
    return texts[0] if texts[0] == texts[1] else " to ".join(texts)


def seeds_text(runs: Published) -> str:
    """How many seeds the rows have, for the caveat."""
    count = len({card.seed for card in runs.cards})
    return f"{count} seed{'s' if count != 1 else ''}"


def missing(runs: Published, what: str = "") -> Finding:
    """The claim's rows are not there."""
    return Finding("undecided", "no rows", None, what or f"`retainbench run {runs.name}`")


def more_seeds(runs: Published, seeds: int = 2) -> str:
    """What more seeds of a suite cost, from the seconds of its own rows."""
    return f"{seeds} more seeds of `{runs.name}`, about {seeds * runs.hours_per_seed:.1f} CPU hours"
