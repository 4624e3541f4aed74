"""Methods against each other: differences, equivalence, ranks and the Pareto front.

All of it rests on one thing, the paired difference of two methods on the same items (and seeds),
which is far sharper than two rows of a table: what two methods share cancels. Pure functions, no
files. Left out: any scalar that trades gain against drop at a fixed rate. Shapes: P methods, S
seeds, I items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from retainbench.harness.statistics.methods.moderated import moderate
from retainbench.harness.statistics.methods.seeds import ColumnLayout, SeedMean, difference
from retainbench.harness.statistics.multiplicity import holm
from retainbench.harness.statistics.paired import Bounds, Floats


class PairwiseDifference(NamedTuple):
    """Method `first` minus method `second` on one measure."""

    first: int
    second: int
    value: float
    bounds: Bounds
    """At the confidence asked for, for this pair alone."""
    p: float
    """Two-sided, of "no difference"."""
    holm_p: float
    """After Holm's correction over all pairs of the measure."""
    equivalent: bool
    """The whole interval is within the equivalence margin (two one-sided tests)."""


class Rank(NamedTuple):
    """The ranks that a method may have, 1 = best."""

    best: int
    worst: int


class FrontPoint(NamedTuple):
    """One method's place: on the front unless some method dominates it."""

    dominated_by: tuple[int, ...]
    tied_with: tuple[int, ...]
    """Methods that cannot be distinguished from this one on any measure."""

    @property
    def on_front(self) -> bool:
        """True when nothing dominates it."""
        return not self.dominated_by


def pairs(
    tables: Sequence[Floats],
    layout: ColumnLayout,
    *,
    confidence: float,
    margin: float,
    seeds: Sequence[Sequence[int]],
) -> list[PairwiseDifference]:
    """All P (P - 1) / 2 differences of methods on one measure, in the order of their indices.

    Args:
        tables: (S_p, I) per method, the same items in the same order.
        margin: differences within it count as equivalent, in score points.
        seeds: the training seeds of each method; equal lists are paired seed by seed.

    With five methods and three seeds or more, pairs borrow strength from each other for their
    variances over seeds (`moderated.py`); the intervals are those that decide.

    >>> import numpy as np
    >>> a, b = np.tile([1.0, 0, 0, 0], (3, 50)), np.zeros((3, 200))
    >>> layout = ColumnLayout(np.arange(200))
    >>> found = pairs([a, b, b], layout, confidence=0.90, margin=0.05, seeds=[[1, 2, 3]] * 3)
    >>> [(p.first, p.second, round(p.value, 6), p.holm_p < 0.01, p.equivalent) for p in found]
    [(0, 1, 0.25, True, False), (0, 2, 0.25, True, False), (1, 2, 0.0, False, True)]
    """
    places = [(a, b) for a in range(len(tables)) for b in range(a + 1, len(tables))]
    found: list[SeedMean] = [
        difference(
            tables[a], tables[b], layout, confidence, paired=list(seeds[a]) == list(seeds[b])
        )
        for a, b in places
    ]
    found = moderate(found, len(tables))
    ps = [one.p_zero for one in found]
    return [
        PairwiseDifference(
            a, b, one.value, bounds, p, adjusted, -margin <= bounds.low and bounds.high <= margin
        )
        for (a, b), one, p, adjusted in zip(places, found, ps, holm(ps), strict=True)
        for bounds in (one.interval(confidence),)
    ]


def ranks(methods: int, differences: Sequence[PairwiseDifference], alpha: float) -> list[Rank]:
    """Ranks on one measure (more is better) that no pair contradicts after Holm's correction.

    A method is at best below those that are shown to be better and at worst above those shown to be
    worse; with confidence 1 - alpha all true ranks are within these limits at once. Source: Al
    Mohamad, Goeman and van Zwet (2022, Biometrics 78:1244).

    >>> better = PairwiseDifference(0, 1, 0.2, Bounds(0.1, 0.3), 0.001, 0.003, False)
    >>> equal = PairwiseDifference(1, 2, 0.0, Bounds(-0.1, 0.1), 1.0, 1.0, False)
    >>> [tuple(rank) for rank in ranks(3, [better, better._replace(second=2), equal], 0.05)]
    [(1, 1), (2, 3), (2, 3)]
    """
    better = [(p.first, p.second) for p in differences if p.holm_p <= alpha and p.value > 0]
    better += [(p.second, p.first) for p in differences if p.holm_p <= alpha and p.value < 0]
    return [
        Rank(1 + sum(b == one for _, b in better), methods - sum(a == one for a, _ in better))
        for one in range(methods)
    ]


def pareto_front(
    methods: int, measures: Mapping[str, Sequence[PairwiseDifference]], margins: Mapping[str, float]
) -> list[FrontPoint]:
    """Which methods are dominated when every measure is better the larger it is.

    a dominates b if on each measure the interval of a - b excludes a disadvantage larger than the
    margin, and on at least one it excludes 0 in a's favour. Drops enter with their sign changed
    (`reversed_pairs`).

    Args:
        measures: name -> its pairs, of the same methods.
        margins: name -> what counts as no worse.

    >>> gain = [PairwiseDifference(0, 1, 0.1, Bounds(0.05, 0.15), 0.0, 0.0, False)]
    >>> drop = [PairwiseDifference(0, 1, -0.04, Bounds(-0.05, -0.03), 0.0, 0.0, False)]
    >>> kept = reversed_pairs(drop)
    >>> front = pareto_front(2, {"gain": gain, "kept": kept}, {"gain": 0.02, "kept": 0.02})
    >>> [point.on_front for point in front], front[1].dominated_by
    ([True, False], (0,))
    """
    leads: dict[tuple[int, int], list[tuple[Bounds, float]]] = {}
    for name, differences in measures.items():
        for pair in differences:
            low, high = pair.bounds
            forward, backward = Bounds(low, high), Bounds(-high, -low)
            leads.setdefault((pair.first, pair.second), []).append((forward, margins[name]))
            leads.setdefault((pair.second, pair.first), []).append((backward, margins[name]))
    others = {b: [a for a in range(methods) if a != b] for b in range(methods)}
    return [
        FrontPoint(
            tuple(a for a in others[b] if _dominates(leads[a, b])),
            tuple(a for a in others[b] if _tied(leads[a, b])),
        )
        for b in range(methods)
    ]


def reversed_pairs(differences: Sequence[PairwiseDifference]) -> list[PairwiseDifference]:
    """The pairs of a measure that is better the smaller it is, as larger is better."""
    return [
        pair._replace(value=-pair.value, bounds=Bounds(-pair.bounds.high, -pair.bounds.low))
        for pair in differences
    ]


def _dominates(lead: Sequence[tuple[Bounds, float]]) -> bool:
    not_behind = all(bounds.low >= -margin for bounds, margin in lead)
    return not_behind and any(bounds.low > 0 for bounds, _ in lead)


def _tied(lead: Sequence[tuple[Bounds, float]]) -> bool:
    return all(bounds.low <= 0 <= bounds.high for bounds, _ in lead)
