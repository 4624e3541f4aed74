"""What was found about one claim, and the rules by which an interval decides it.

Every rule can go either way: whatever the rows say, no claim is reproduced because nothing was
found. Several looks at one claim share its error: their p-values are multiplied by their number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from results.claims.published import Difference, Published
from retainbench.harness.comparison.seed_tables import MARGIN
from retainbench.harness.core.changes import Interval
from retainbench.harness.core.text.formatting import counted, points
from retainbench.harness.statistics.graded import t_interval, t_quantile
from retainbench.harness.statistics.paired import Bounds

Status = Literal["reproduced", "contradicted", "undecided", "not testable here"]
Sign = Literal[1, -1]
ALPHA = 0.1
"""Two-sided, as the 90 % intervals."""
SCATTER_SEEDS = 3
"""Fewer say too little about scatter for limits over seeds."""
MOST_SEEDS = 20
"""More of them are not worth their cost: the difference is then small next to the noise."""


class Finding(NamedTuple):
    """The answer of the stored rows to one claim."""

    status: Status
    measured: Sequence[str]
    """Figures with their intervals, a line for each part of the question."""
    folder: str | None = None
    """The published folder that they are in."""
    needs: str = ""
    """What would decide an undecided claim, and what it costs."""
    words: str = ""
    """In plain words, where a claim has parts that were decided differently."""


def by_sign(differences: Sequence[Difference], expected: Sign, looks: int = 1) -> Status:
    """Decided by a difference from 0 in the expected direction and none in the other (Bonferroni).

    Args:
        differences: of one question, an axis each.
        expected: the direction that reproduces the claim.
        looks: questions of the claim that share its error.

    >>> up = Interval(value=2, low=.1, high=3.9, level=.9, n=9, method="t")
    >>> one, none = Difference(up, 0.08), Difference(up, 0.9)
    >>> by_sign([one], 1), by_sign([one], -1), by_sign([], 1)
    ('reproduced', 'contradicted', 'undecided')
    >>> by_sign([one, none], 1)
    'undecided'
    """
    asked = len(differences) * looks
    shown = [d.interval.value * expected > 0 for d in differences if d.p * asked < ALPHA]
    return "undecided" if len(set(shown)) != 1 else "reproduced" if shown[0] else "contradicted"


def in_every(intervals: Sequence[Interval], expected: Sign) -> Status:
    """Decided where every interval excludes 0 on the same side, as one for each seed.

    >>> up = Interval(value=2, low=1, high=3, level=.9, n=9, method="t")
    >>> flat = Interval(value=0, low=-1, high=1, level=.9, n=9, method="t")
    >>> in_every([up, up], 1), in_every([up, flat], 1), in_every([up], -1), in_every([], 1)
    ('reproduced', 'undecided', 'contradicted', 'undecided')
    """
    signs = {1 if i.low > 0 else -1 if i.high < 0 else 0 for i in intervals}
    if len(signs) != 1 or signs == {0}:
        return "undecided"
    return "reproduced" if signs == {expected} else "contradicted"


def kept(difference: Interval, own: Interval, looks: int = 1) -> Status:
    """Whether a method gains as much as another one: no less than `MARGIN` points below it.

    Args:
        difference: of the gains, the method minus the other one.
        own: the method's gain, which must be above 0: what teaches nothing keeps nothing.
        looks: questions of the claim that share its error.

    >>> def at(value, width):
    ...     low, high = value - width, value + width
    ...     return Interval(value=value, low=low, high=high, level=0.9, n=9, method="t")
    >>> kept(at(0.0, 0.01), at(0.1, 0.01)), kept(at(0.0, 0.05), at(0.1, 0.01))
    ('reproduced', 'undecided')
    >>> kept(at(-0.1, 0.01), at(0.1, 0.01)), kept(at(0.0, 0.01), at(0.0, 0.01))
    ('contradicted', 'undecided')
    """
    low, high = for_all(difference, looks)
    if high < -MARGIN:
        return "contradicted"
    return "reproduced" if low > -MARGIN and for_all(own, looks).low > 0 else "undecided"


def every(*parts: Status) -> Status:
    """Of a claim with several parts: contradicted by any, reproduced by all."""
    if "contradicted" in parts:
        return "contradicted"
    return "reproduced" if set(parts) == {"reproduced"} else "undecided"


def within(low: float, high: float, bounds: tuple[float, float]) -> Status:
    """Whether a range is inside of bounds, outside, or across one of them.

    >>> within(1.0, 1.1, (0.9, 1.2)), within(2.0, 2.1, (0.9, 1.2)), within(1.0, 2.0, (0.9, 1.2))
    ('reproduced', 'contradicted', 'undecided')
    """
    if bounds[0] <= low and high <= bounds[1]:
        return "reproduced"
    return "contradicted" if high < bounds[0] or low > bounds[1] else "undecided"


def over_seeds(values: Sequence[float]) -> Interval:
    """Mean of one value for each seed with t limits; they hold what differs between seeds."""
    found = t_interval(np.asarray(values, dtype=float), 1 - ALPHA)
    return Interval(
        value=found.mean, low=found.bounds.low, high=found.bounds.high, level=1 - ALPHA,
        n=len(values), method="t over seeds",
    )  # fmt: skip


def for_all(interval: Interval, looks: int, degrees: float = math.inf) -> Bounds:
    """Limits of one of several looks that hold for all of them (Bonferroni).

    Args:
        interval: with the limits of a single look, half of `ALPHA` on either side.
        looks: how many there are.
        degrees: of freedom of its t quantile; infinite for a normal one.

    >>> one = over_seeds([0.01, 0.02, 0.03])
    >>> [[round(x, 3) for x in for_all(one, looks, degrees=2)] for looks in (1, 9)]
    [[0.003, 0.037], [-0.034, 0.074]]
    """
    narrow, wide = (t_quantile(1 - ALPHA / 2 / n, degrees) for n in (1, looks))
    value, scale = interval.value, wide / narrow
    return Bounds(value - scale * (value - interval.low), value + scale * (interval.high - value))


def by_axis(found: Mapping[str, Difference]) -> str:
    """`general +1.2 [0.3, 2.1], numeric ...`, in points."""
    return ", ".join(f"{axis} {points(found[axis].interval)}" for axis in found)


def range_text(low: float, high: float, digits: int = 2) -> str:
    """`1.02 to 1.10`, or one number where both are equal."""
    if math.isinf(high):
        return f"at least {low:.{digits}f}"
    texts = f"{low:.{digits}f}", f"{high:.{digits}f}"
    return texts[0] if texts[0] == texts[1] else " to ".join(texts)


def seeds_text(runs: Published) -> str:
    """How many seeds the rows have, for the caveat."""
    count = len({card.seed for card in runs.cards})
    return f"{count} seed{'s' if count != 1 else ''}"


def missing(runs: Published) -> Finding:
    """The claim's rows are not there."""
    return Finding(
        "undecided", ["no rows"], None, f"`retainbench run {runs.name}`{suite_hours(runs)}"
    )


def suite_hours(runs: Published, budget: float = 1.0) -> str:
    """`, about 0.5 CPU hours` of a run of the suite, or of one with so many times its budget."""
    return f", about {budget * runs.expected_hours:.1f} CPU hours" if runs.expected_hours else ""


def more_seeds(runs: Published, seeds: int = 2) -> str:
    """What more seeds of a suite cost, from the seconds of its own rows."""
    return f"{counted(seeds, 'more seed')} of `{runs.name}`, {_hours(runs, seeds)}"


def seeds_to_decide(runs: Published, differences: Sequence[Difference], bound: float = 0.0) -> str:
    """How many seeds would decide the clearest difference, and what they cost.

    Its half width must fall below its distance from the bound, and falls at most with the square
    root of the seeds.
    """
    count = len({card.seed for card in runs.cards})
    ratios = [
        (d.interval.high - d.interval.low) / 2 / abs(d.interval.value - bound)
        for d in differences
        if d.interval.value != bound
    ]
    needed = math.ceil(count * min(ratios) ** 2) - count if ratios else MOST_SEEDS + 1
    if needed > MOST_SEEDS:
        return (
            f"more than {MOST_SEEDS} seeds ({_hours(runs, MOST_SEEDS)}): the difference is small "
            "next to its noise"
        )
    return f"{more_seeds(runs, max(2, needed))}, if the difference stays what it is"


def _hours(runs: Published, seeds: int) -> str:
    return f"about {seeds * runs.hours_per_seed:.1f} CPU hours of training"
