"""Claims about evolution strategies: C1 to C4, C13, C15, C16, read from es-forgetting."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from results.claims import finding
from results.claims.finding import Finding, Status
from results.claims.published import Difference, Published
from retainbench.harness.comparison.seed_tables import MARGIN
from retainbench.harness.core.changes import Interval
from retainbench.harness.core.scorecards import PointScore, Scorecard
from retainbench.harness.core.text.formatting import points
from retainbench.harness.statistics.paired import normal_quantile

DRIFT_RATIO = 10.0
"""What C1 expects at least (METHODS 17): the papers have 90 to 1,000."""
WALK = (0.9, 1.25)
"""Drift over that of a random walk of the same length (C2)."""
SQUARE_ROOT = (0.4, 0.6)
"""Slope of log drift on log updates (C2)."""
ARMS = ("es-16", "es-16-half", "es-64", "eggroll-64")
"""The recipes of ES without an anchor."""
STEADY_SEEDS = 4
"""Seeds that a comparison of scatter needs at least (C15)."""


def drift_at_equal_gain(runs: Published) -> Finding:
    """C1: drift of ES over that of GRPO where each first reaches the gain of the lower of the two.

    The range is over seeds and over the 90 % limits of the gains: a gain that could be lower is
    reached later, where the drift is larger. A limit that never reaches the gain leaves the range
    open on its side.
    """
    grpo = {card.seed: card for card in runs.of("grpo")}
    pairs = [(es, grpo[es.seed]) for es in runs.of("es-16") if es.seed in grpo]
    if not pairs:
        return finding.missing(runs)
    ratios = [_ratios(*pair) for pair in pairs]
    estimates = [text for _, text, _ in ratios if text]
    low, high = min(one for one, _, _ in ratios), max(one for _, _, one in ratios)
    status = finding.within(low, high, (DRIFT_RATIO, math.inf))
    return Finding(
        status,
        "drift of es-16 over that of grpo at the same gain: "
        + (finding.range_text(min(estimates), max(estimates), 1) if estimates else "not known")
        + f"; with the limits of the gains {finding.range_text(low, high, 1)}, "
        f"{finding.seeds_text(runs)}",
        runs.name,
        finding.more_seeds(runs),
    )


def _ratios(es: Scorecard, grpo: Scorecard) -> tuple[float, float | None, float]:
    """Drift of ES over that of GRPO at half of the smaller of their best gains: least, best, most.

    0 and infinity where a limit does not reach that gain, or it is not above 0.
    """
    goal = min(max(p.gain.value for p in card.points) for card in (es, grpo)) / 2
    if goal <= 0:
        return 0.0, None, math.inf
    found = [
        one / other if (one := _drift_at(es, goal, a)) and (other := _drift_at(grpo, goal, -a))
        else None
        for a in (1, 0, -1)
    ]  # fmt: skip
    return found[0] or 0.0, found[1], found[2] or math.inf


def _drift_at(card: Scorecard, goal: float, limit: int) -> float | None:
    """Relative drift at the first crossing of a gain, by its value or one of its limits."""
    gains = [(p.gain.low, p.gain.value, p.gain.high)[limit + 1] for p in card.points]
    drifts = [p.drift.relative if p.drift else math.nan for p in card.points]
    before = (0.0, 0.0)
    for gain, drift in zip(gains, drifts, strict=True):
        if gain >= goal:
            share = (goal - before[0]) / (gain - before[0]) if gain > before[0] else 1.0
            return before[1] + share * (drift - before[1])
        before = (gain, drift)
    return None


def random_walk(runs: Published) -> Finding:
    """C2: drift over the null, and the slopes of log drift."""
    cards = [*runs.of("es-16"), *runs.of("es-64")]
    points_ = [p for card in cards for p in card.points if p.drift and p.drift.over_null]
    if not points_:
        return finding.missing(runs)
    over = [p.drift.over_null for p in points_ if p.drift and p.drift.over_null]
    slopes = [_slope(card.points) for card in cards]
    status = finding.both(
        finding.within(min(over), max(over), WALK),
        finding.within(min(slopes), max(slopes), SQUARE_ROOT),
    )
    return Finding(
        status,
        f"drift over that of a random walk {finding.range_text(min(over), max(over))} at "
        f"{len(over)} checkpoints; slope of log drift on log updates "
        f"{finding.range_text(min(slopes), max(slopes))}",
        runs.name,
        finding.more_seeds(runs),
    )


def _slope(points_: Sequence[PointScore]) -> float:
    """Least-squares slope of log drift on log updates."""
    used = [(p.ledger.steps, p.drift.relative) for p in points_ if p.drift and p.ledger.steps]
    steps, drifts = np.log(np.array(used)).T
    return float(np.polyfit(steps, drifts, 1)[0])


def larger_population(runs: Published) -> Finding:
    """C3: es-64 loses less than es-16 and gains as much."""
    return _repaired(runs, "es-64")


def anchored(runs: Published) -> Finding:
    """C4: the anchored one loses less than es-16 and gains as much."""
    return _repaired(runs, "es-16-anchored")


def _repaired(runs: Published, other: str) -> Finding:
    """es-16 minus another arm at the end of the budget: a larger drop, at no larger gain."""
    drops, gain = runs.drops("es-16", other), runs.difference(other, "es-16", "gain")
    plain, row = runs.row("es-16"), runs.row(other)
    if not drops or gain is None or plain is None or row is None:
        return finding.missing(runs)
    less = finding.by_sign(list(drops.values()), 1)
    as_much = finding.kept(gain.interval, row.gain)
    return Finding(
        finding.both(less, as_much),
        f"drop of es-16 minus that of {other} at the end: {finding.by_axis(drops)} ({less}); gain "
        f"of {other} {points(row.gain)}, of es-16 {points(plain.gain)}, difference "
        f"{points(gain.interval)} (as much: {as_much})",
        runs.name,
        finding.seeds_to_decide(runs, list(drops.values()))
        if less == "undecided"
        else finding.seeds_to_decide(runs, [gain], -MARGIN),
    )


def forgets_more_than_grpo(runs: Published) -> Finding:
    """The seed's central claim has two parts: ES matches the reward of GRPO, and loses more.

    Any of the arms of ES may match it; one that does must lose more.
    """
    gains = {arm: runs.difference(arm, "grpo", "gain") for arm in ARMS}
    known = {arm: gain for arm, gain in gains.items() if gain}
    drops = runs.drops("es-16", "grpo")
    if not drops or not known:
        return finding.missing(runs)
    statuses = [_matches(gain, len(known)) for gain in known.values()]
    matched: Status = (
        "reproduced"
        if "reproduced" in statuses
        else "contradicted"
        if set(statuses) == {"contradicted"}
        else "undecided"
    )
    more = finding.by_sign(list(drops.values()), 1)
    best = max(known, key=lambda arm: known[arm].interval.value)
    return Finding(
        finding.both(more, matched),
        f"loses more: {more}, drop of es-16 minus that of grpo at the end "
        f"{finding.by_axis(drops)}; matches the reward: {matched}, gain of {best}, the best of "
        f"{len(known)} ES recipes, minus that of grpo {points(known[best].interval)}",
        runs.name,
        finding.seeds_to_decide(runs, list(known.values()), -MARGIN),
    )


def _matches(gain: Difference, looks: int) -> Status:
    """Whether ES gains no less than `MARGIN` below GRPO, among several arms that might."""
    wider = normal_quantile(1 - finding.ALPHA / 2 / looks) / normal_quantile(1 - finding.ALPHA / 2)
    low = gain.interval.value - wider * (gain.interval.value - gain.interval.low)
    return finding.within(low, gain.interval.high, (-MARGIN, math.inf))


def steadier(runs: Published) -> Finding:
    """C15: scatter of the reward over seeds, ES against GRPO."""
    es, grpo = ([p.points[-1].gain.value for p in runs.of(name)] for name in ("es-16", "grpo"))
    if min(len(es), len(grpo)) < STEADY_SEEDS:
        lacking = STEADY_SEEDS - min(len(es), len(grpo))
        return Finding(
            "undecided",
            f"{finding.seeds_text(runs)}; a comparison of scatter needs at least {STEADY_SEEDS}",
            runs.name if es else None,
            finding.more_seeds(runs, lacking) if es else f"`retainbench run {runs.name}`",
        )
    first, second = (float(np.std(values, ddof=1)) for values in (es, grpo))
    low, high = _variance_ratio(first, second, len(es), len(grpo))
    status = finding.within(low, high, (0.0, 1.0))
    return Finding(
        status,
        f"standard deviation of the gain over {len(es)} seeds: es-16 {100 * first:.1f}, grpo "
        f"{100 * second:.1f} points; their ratio within {finding.range_text(low, high)} (F)",
        runs.name,
        finding.more_seeds(runs, 8),
    )


def _variance_ratio(first: float, second: float, n: int, m: int) -> tuple[float, float]:
    """90 % limits of the ratio of two standard deviations, normal scatter (F distribution)."""
    from scipy import stats

    ratio = (first / second) ** 2
    limits = (ratio / stats.f.ppf(q, n - 1, m - 1) for q in (0.95, 0.05))
    low, high = (math.sqrt(limit) for limit in limits)
    return low, high


def recovers(runs: Published) -> Finding:
    """C16: a trajectory ends below its worst point by more than the intervals allow.

    Contradicted where no trajectory can have recovered by more than `MARGIN`.
    """
    rows = [row for row in (runs.row(name) for name in ("es-16", "es-64", "grpo")) if row]
    if not rows:
        return finding.missing(runs)
    cells = [card for row in rows for card in runs.of(row.recipe)]
    looks = sum(len(card.points) for card in cells) * len(runs.axes)
    drops = [_recovery(card, axis, looks) for card in cells for axis in runs.axes]
    shown = [d for d in drops if d.low > 0]
    best = max(drops, key=lambda d: d.value)
    return Finding(
        "reproduced"
        if shown
        else "contradicted"
        if all(d.high < MARGIN for d in drops)
        else "undecided",
        f"of {len(drops)} trajectories of an axis, {len(shown)} end below their worst point by "
        f"more than the intervals allow; the largest recovery is {points(best)}",
        runs.name,
        finding.more_seeds(runs),
    )


def _recovery(card: Scorecard, axis: str, looks: int) -> Interval:
    """Worst drop of a trajectory minus the last.

    The limits are those of both drops as if they were independent, widened (Bonferroni) for the
    points among which the worst was looked for.
    """
    drops = [change.drop for p in card.points for change in p.axes if change.axis == axis]
    worst, last = max(drops, key=lambda d: d.value), drops[-1]
    value = worst.value - last.value
    wider = normal_quantile(1 - 0.05 / looks) / normal_quantile(0.95)
    width = wider * math.hypot((worst.high - worst.low) / 2, (last.high - last.low) / 2)
    return worst.model_copy(update={"value": value, "low": value - width, "high": value + width})
