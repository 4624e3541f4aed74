"""Claims about what evolution strategies gain and lose: C3, C4, C15, C16 and the seed's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from results.claims import finding
from results.claims.finding import Finding, Status
from results.claims.published import Difference, Published, negative
from retainbench.harness.comparison.seed_tables import MARGIN
from retainbench.harness.core.scorecards import Scorecard
from retainbench.harness.core.text.formatting import points, signed

ARMS = ("es-16", "es-16-half", "es-64", "eggroll-64")
"""The recipes of ES without an anchor."""
SLOWER = "es-16-half"
"""The smaller population at a quarter of the learning rate (C3)."""
ANCHORED = ("es-16", "eggroll-64")
"""The recipes that have a twin with an anchor (C4)."""
RECOVERING = ("es-16", "es-64", "grpo")
"""The recipes whose trajectories C16 looks at."""
STEADY_SEEDS = 4
"""Seeds that a comparison of scatter needs at least (C15)."""


def larger_population(runs: Published) -> Finding:
    """C3: es-64 loses less than es-16 and gains as much, both at one learning rate.

    A smaller rate lowers the drift of a population too, so that comparison is printed as well.
    """
    found = _repaired(runs, [("es-16", "es-64")])
    drops, gain = runs.drops(SLOWER, "es-64"), runs.difference("es-64", SLOWER, "gain")
    if not drops or gain is None:
        return found
    slower = (
        f"{SLOWER}, a quarter of the rate, minus es-64: drop {finding.by_axis(drops)}, gain "
        f"{points(negative(gain.interval))}"
    )
    return found._replace(measured=[*found.measured, slower])


def anchored(runs: Published) -> Finding:
    """C4: a recipe with an anchor loses less than the one without and gains as much.

    Asked of dense ES and of EGGROLL, since the claim names neither: of both.
    """
    return _repaired(runs, [(plain, f"{plain}-anchored") for plain in ANCHORED])


def _repaired(runs: Published, pairs: Sequence[tuple[str, str]]) -> Finding:
    """At the end of the budget the second of each pair lost less, and gained no less."""
    found = [one for pair in pairs if (one := _repair(runs, *pair, looks=len(pairs)))]
    if len(found) < len(pairs):
        return finding.missing(runs)
    return Finding(
        finding.every(*(part for one in found for part in (one.less, one.as_much))),
        [line for one in found for line in one.lines],
        runs.name,
        finding.seeds_to_decide(runs, [d for one in found for d in one.drops])
        if any(one.less == "undecided" for one in found)
        else finding.seeds_to_decide(runs, [one.gain for one in found], -MARGIN),
    )


class _Repair(NamedTuple):
    """What a changed recipe loses and gains against the plain one."""

    less: Status
    as_much: Status
    drops: list[Difference]
    gain: Difference
    lines: list[str]


def _repair(runs: Published, plain: str, other: str, looks: int) -> _Repair | None:
    drops, gain = runs.drops(plain, other), runs.difference(other, plain, "gain")
    row, changed = runs.row(plain), runs.row(other)
    if not drops or gain is None or row is None or changed is None:
        return None
    less = finding.by_sign(list(drops.values()), 1, looks)
    as_much = finding.kept(gain.interval, changed.gain, looks)
    return _Repair(
        less,
        as_much,
        list(drops.values()),
        gain,
        [
            f"drop of {plain} minus that of {other} at the end: {finding.by_axis(drops)} ({less})",
            f"gain of {other} {points(changed.gain)}, of {plain} {points(row.gain)}, difference "
            f"{points(gain.interval)} (as much: {as_much})",
        ],
    )


def forgets_more_than_grpo(runs: Published) -> Finding:
    """The seed's central claim has two parts: ES matches the reward of GRPO, and loses more.

    Any recipe of ES without an anchor may match it; it must be the same one that loses more. Each
    part of each recipe is one of several looks.
    """
    gains = {arm: gain for arm in ARMS if (gain := runs.difference(arm, "grpo", "gain"))}
    drops = {arm: runs.drops(arm, "grpo") for arm in gains}
    if not gains or not all(drops.values()):
        return finding.missing(runs)
    matches = {arm: _matches(gain, len(gains)) for arm, gain in gains.items()}
    more = {arm: finding.by_sign(list(drops[arm].values()), 1, len(gains)) for arm in gains}
    both = {finding.every(matches[arm], more[arm]) for arm in gains}
    lines = [
        f"{arm} minus grpo at the end: gain {points(gain.interval)} (matches: {matches[arm]}), "
        f"drop {finding.by_axis(drops[arm])} (loses more: {more[arm]})"
        for arm, gain in gains.items()
    ]
    return Finding(
        "reproduced"
        if "reproduced" in both
        else "contradicted"
        if both == {"contradicted"}
        else "undecided",
        lines,
        runs.name,
        finding.seeds_to_decide(runs, list(gains.values()), -MARGIN),
        _in_words(matches, more),
    )


def _in_words(matches: Mapping[str, Status], more: Mapping[str, Status]) -> str:
    """What holds where no recipe reached the reward; empty where one may have."""
    if set(matches.values()) != {"contradicted"}:
        return ""
    named = {
        "lost more": [arm for arm, status in more.items() if status == "reproduced"],
        "lost less": [arm for arm, status in more.items() if status == "contradicted"],
    }
    losses = "; ".join(f"{', '.join(arms)} {what}" for what, arms in named.items() if arms)
    return f"At equal cost no recipe of ES reached the reward of GRPO{losses and f'; {losses}'}."


def _matches(gain: Difference, looks: int) -> Status:
    """Whether ES gains no less than `MARGIN` below GRPO, among several arms that might."""
    low = finding.for_all(gain.interval, looks).low
    return finding.within(low, gain.interval.high, (-MARGIN, math.inf))


def steadier(runs: Published) -> Finding:
    """C15: scatter of the reward over seeds, ES against GRPO.

    Asked of every recipe of ES without an anchor, with limits that hold for all: reproduced where
    all scatter less than GRPO, contradicted where one scatters more.
    """
    ends = {name: [p.points[-1].gain.value for p in runs.of(name)] for name in (*ARMS, "grpo")}
    grpo = ends.pop("grpo")
    known = {arm: gains for arm, gains in ends.items() if len(gains) >= STEADY_SEEDS}
    if not known or len(grpo) < STEADY_SEEDS:
        lacking = STEADY_SEEDS - min(len(grpo), *map(len, ends.values()))
        return Finding(
            "undecided",
            [f"{finding.seeds_text(runs)}; a comparison of scatter needs at least {STEADY_SEEDS}"],
            runs.name if grpo else None,
            finding.more_seeds(runs, lacking) if grpo else f"`retainbench run {runs.name}`",
        )
    own = float(np.std(grpo, ddof=1))
    scatter = {arm: float(np.std(gains, ddof=1)) for arm, gains in known.items()}
    limits = {
        arm: _variance_ratio(scatter[arm], own, len(gains), len(grpo), looks=len(known))
        for arm, gains in known.items()
    }
    lines = [
        f"{arm}: {100 * scatter[arm]:.1f} points, {finding.range_text(*limits[arm])} times that "
        f"of grpo (F, limits for all {len(known)})"
        for arm in known
    ]
    return Finding(
        "reproduced"
        if all(high < 1 for _, high in limits.values())
        else "contradicted"
        if any(low > 1 for low, _ in limits.values())
        else "undecided",
        [
            f"standard deviation of the gain over {len(grpo)} seeds: grpo {100 * own:.1f} points",
            *lines,
        ],
        runs.name,
        seeds_to_tell(runs, max(scatter.values()) / own, looks=len(known)),
    )


def seeds_to_tell(runs: Published, ratio: float, looks: int) -> str:
    """How many seeds would show that the arm that scatters most scatters more than GRPO."""
    count = len({card.seed for card in runs.cards})
    for more in range(1, finding.MOST_SEEDS + 1):
        seeds = count + more
        if _variance_ratio(ratio, 1.0, seeds, seeds, looks)[0] > 1:
            return f"{finding.more_seeds(runs, more)}, if the largest ratio stays what it is"
    return f"more than {finding.more_seeds(runs, finding.MOST_SEEDS)}"


def _variance_ratio(first: float, second: float, n: int, m: int, looks: int) -> tuple[float, float]:
    """Limits of the ratio of two standard deviations that hold at 90 % for so many (Bonferroni).

    Normal scatter (F distribution).
    """
    from scipy import stats

    ratio = (first / second) ** 2
    tail = finding.ALPHA / 2 / looks
    limits = (ratio / stats.f.ppf(q, n - 1, m - 1) for q in (1 - tail, tail))
    low, high = (math.sqrt(limit) for limit in limits)
    return low, high


def recovers(runs: Published) -> Finding:
    """C16: an axis loses less at the end than at its worst checkpoint.

    Which checkpoint is the worst is read from the other seeds, so that the choice favours nothing.
    Contradicted where no recovery can be more than `MARGIN`.
    """
    cells = {
        name: cards for name in RECOVERING if len(cards := runs.of(name)) >= finding.SCATTER_SEEDS
    }
    if not cells:
        return finding.missing(runs)
    found = {
        (name, axis): finding.over_seeds(_recoveries(cards, axis))
        for name, cards in cells.items()
        for axis in runs.axes
    }
    limits = [finding.for_all(each, len(found), each.n - 1) for each in found.values()]
    name, axis = most = max(found, key=lambda key: found[key].value)
    return Finding(
        "reproduced"
        if any(one.low > 0 for one in limits)
        else "contradicted"
        if all(one.high < MARGIN for one in limits)
        else "undecided",
        [
            f"drop at the worst checkpoint minus that at the end, three axes each of "
            f"{', '.join(cells)}: the largest is {points(found[most])} ({axis} of {name}), "
            f"{finding.seeds_text(runs)}",
            f"with limits for all {len(found)}: at most "
            f"{signed(100 * max(one.high for one in limits))}",
            *_still_falling(cells, runs.axes),
        ],
        runs.name,
        finding.more_seeds(runs),
    )


def _still_falling(cells: Mapping[str, Sequence[Scorecard]], axes: Sequence[str]) -> list[str]:
    """Recipes that end at their worst checkpoint, where nothing can have come back yet."""
    names = [
        name
        for name, cards in cells.items()
        if not any(value for axis in axes for value in _recoveries(cards, axis))
    ]
    return [f"at their worst at the end: {', '.join(names)}"] if names else []


def _recoveries(cards: Sequence[Scorecard], axis: str) -> list[float]:
    """Of every seed the drop at the worst checkpoint of the others minus its last one."""
    drops = np.array(
        [[c.drop.value for p in card.points for c in p.axes if c.axis == axis] for card in cards]
    )
    others = drops.sum(0) - drops
    return [float(own[worst] - own[-1]) for own, worst in zip(drops, others.argmax(1), strict=True)]
