"""The estimates of one row of the table from its seeds' scorecards.

Pure: reads and writes no files. Verdicts are the gate's and estimates over seeds are
`comparison/methods.py`'s; both are passed in. Where the latter are missing (scorecards alone),
`pool` combines the seeds' own intervals. A missing number is None with a reason, never a sentinel.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from retainbench.harness.comparison.matched import off_target_mean
from retainbench.harness.core.axes import ordered
from retainbench.harness.core.changes import AxisChange, Interval, TaskChange
from retainbench.harness.core.scorecards import (
    VALIDATION_REWARD,
    DivergenceSummary,
    DriftSummary,
    PointScore,
    Scorecard,
)
from retainbench.harness.core.text.formatting import significant
from retainbench.harness.report.table.evidence import CellVerdict
from retainbench.harness.report.table.model import AxisColumns, CostColumns, DriftColumns
from retainbench.harness.statistics.graded import t_quantile
from retainbench.harness.statistics.paired import normal_quantile

if TYPE_CHECKING:
    from retainbench.harness.comparison.matched import MatchedRow, RatioRow
    from retainbench.harness.comparison.methods import MethodRow


def pool(intervals: Sequence[Interval]) -> Interval:
    """One interval for the mean over training seeds from each seed's interval over items.

    Estimator: mean of the seeds' estimates. SE^2 = s^2 / S (s: sd between seeds) + the mean squared
    item SE, read off the intervals' widths. The seeds answer the same items, so item error does not
    shrink with S; the residual part that would is kept too, so the interval is conservative.
    Quantile: Student t with Welch-Satterthwaite degrees. One seed: its own interval, unchanged.

    >>> one = Interval(value=0.1, low=0.05, high=0.15, level=0.95, n=100, method="newcombe")
    >>> pool([one]) == one
    True
    >>> two = pool([one, one])
    >>> (two.value, two.n, two.low < 0.051)
    (0.1, 100, True)
    """
    if len(intervals) == 1:
        return intervals[0]
    level, n = intervals[0].level, min(interval.n for interval in intervals)
    values = np.array([interval.value for interval in intervals])
    halves = np.array([(interval.high - interval.low) / 2 for interval in intervals])
    items = float(np.mean((halves / normal_quantile((1 + level) / 2)) ** 2))
    seeds = float(values.var(ddof=1)) / len(values)
    weight = seeds**2 / (len(values) - 1) + items**2 / max(n - 1, 1)
    degrees = (seeds + items) ** 2 / weight if weight > 0 else math.inf
    half = t_quantile((1 + level) / 2, degrees) * math.sqrt(seeds + items)
    mean = float(values.mean())
    label = f"t over {len(values)} seeds and items ({intervals[0].method})"
    return Interval(value=mean, low=mean - half, high=mean + half, level=level, n=n, method=label)


def estimates(
    cards: Sequence[Scorecard], verdicts: Mapping[str, CellVerdict], method: MethodRow | None
) -> dict[str, Any]:
    """Fields of a `TableRow` from the scorecards of all of its seeds, each with an end point."""
    ends = [card.points[-1] for card in cards]
    # One seed's own interval is the gate's; over seeds only the two-level one is about the method.
    over_seeds = method if method and len(cards) > 1 else None
    gain = over_seeds.gain if over_seeds else pool([end.gain for end in ends])
    matched = next(iter(method.matched.values()), None) if method else None
    values: dict[str, Any] = {
        "gain": _rounded(gain),
        **{name: mean(getattr(end, name) for end in ends) for name in _REWARDS},
        "axes": _axes(cards, method, over_seeds),
        **_task_means(ends),
        "drift": _drift([end.drift for end in ends]),
        **_divergence([end.divergence for end in ends]),
        "gain_to_match": significant(matched.gain) if matched else None,
        "gain_per_drift": _ratio(method.gain_per_drift, gain) if method else None,
        "gain_per_kl": _ratio(method.gain_per_kl, gain) if method else None,
        "matched_per_drift": _ratio(method.matched_per_drift, gain) if method else None,
        "matched_per_kl": _ratio(method.matched_per_kl, gain) if method else None,
        "on_front": method.on_front if method else None,
        "dominated_by": method.dominated_by if method else [],
        **(_spent(cards) if all(card.metered for card in cards) else {"cost": None}),
        "validation_reward": mean(card.metrics.get(VALIDATION_REWARD) for card in cards),
        "trainable_parameters": cards[0].trainable_parameters,
        "total_parameters": cards[0].total_parameters,
        "verdicts": dict(Counter(verdicts[c.cell].verdict for c in cards if c.cell in verdicts)),
    }
    return {**values, "missing": _missing(values, method)}


_COMPANIONS = ("forgetting_chance_adjusted", "backward_transfer_chance_adjusted")
_REWARDS = ("base_reward", "candidate_reward", "base_valid", "candidate_valid")

_REASONS: Mapping[str, str] = {
    "drift": "drift was not measured for every seed",
    "cost": "not metered: the command wrote no ledger.json with the budget's unit",
    "kl_on": "KL was not measured on the target's prompts for every seed",
    "kl_off": "KL was not measured on retention prompts for every seed",
    "on_front": "methods were not compared over items",
    "churn": "graded scores have no flips",
    "noise_churn": "no A/A run",
}


def _missing(values: Mapping[str, Any], method: MethodRow | None) -> dict[str, str]:
    found = {name: why for name, why in _REASONS.items() if values[name] is None}
    for axis, columns in values["axes"].items():
        if columns.drop is None:
            found[axis] = f"no {axis} task was scored for every seed"
    if values["drift"] and values["drift"].over_null is None:
        found["drift.over_null"] = "the null exists for evolution strategies only"
    for name in ("gain_per_drift", "gain_per_kl"):
        if values[name] is None:
            why = getattr(method, name).reason if method else "methods were not compared"
            found[name] = why or "too few resamples for an interval"
    if not values["verdicts"]:
        found["verdicts"] = "not gated"
    return found


def _axes(
    cards: Sequence[Scorecard], method: MethodRow | None, over_seeds: MethodRow | None
) -> dict[str, AxisColumns]:
    """Columns of every axis that any seed was scored on; empty ones where a seed was not."""
    ends = [card.points[-1] for card in cards]
    with_answers = [task.axis for end in ends for task in end.tasks]
    scored = ordered([*with_answers, *(one.axis for end in ends for one in end.perplexity)])
    return {
        axis: _axis(axis, cards, method, over_seeds).model_copy(update=_documents(axis, ends))
        for axis in scored
    }


def _documents(axis: str, ends: Sequence[PointScore]) -> dict[str, Any]:
    """Held-out perplexity of an axis; nothing where a seed has none."""
    found = [one for end in ends for one in end.perplexity if one.axis == axis]
    if len(found) < len(ends):
        return {}
    tasks = [task for one in found for task in one.tasks]
    return {
        "perplexity": _rounded(pool([one.change for one in found])),
        "perplexity_margin": found[0].margin,
        "base_bits_per_byte": mean(task.base_bits_per_byte for task in tasks),
        "candidate_bits_per_byte": mean(task.candidate_bits_per_byte for task in tasks),
    }


def _axis(
    axis: str,
    cards: Sequence[Scorecard],
    method: MethodRow | None,
    over_seeds: MethodRow | None,
) -> AxisColumns:
    ends = [_change(card.points[-1], axis) for card in cards]
    found = [change for change in ends if change]
    if len(found) < len(ends):
        return AxisColumns()
    drops = over_seeds.drops if over_seeds else {}
    worst = worst_point(cards, axis)
    path = method.trajectories.get(axis) if method else None
    matched = method.matched.get(axis) if method else None
    drop = drops.get(axis) or pool([change.drop for change in found])
    return AxisColumns(
        drop=_rounded(drop),
        soft_drop=_pooled(change.soft_drop for change in found),
        erosion=_pooled(change.erosion for change in found),
        erosion_margin=found[0].erosion_margin,
        margin_drop=_pooled(change.margin_drop for change in found),
        margin_slope=mean(change.margin_slope for change in found),
        brier_rise=_pooled(change.brier_rise for change in found),
        base_calibration_error=mean(change.base_calibration_error for change in found),
        candidate_calibration_error=mean(change.candidate_calibration_error for change in found),
        lost=mean(change.lost for change in found),
        gained=mean(change.gained for change in found),
        **_companions(_binary(card.points[-1] for card in cards), axis),
        tasks=found[0].tasks,
        items=found[0].n,
        worst_drop=worst[1] if worst else None,
        worst_fraction=worst[0] if worst else None,
        area=significant(path.area) if path else None,
        matched_drop=_matched(matched, drop),
        matched_reason=matched.reason if matched else None,
        at_chance=list(dict.fromkeys(task for change in found for task in change.at_chance)),
    )


def _matched(found: MatchedRow | None, drop: Interval) -> Interval | None:
    if found is None:
        return None
    return _bounded(found.drop, found.low, found.high, drop, "two-way, delta")


def _pooled(intervals: Iterable[Interval | None]) -> Interval | None:
    """The seeds' mean; None where a seed has none."""
    every = list(intervals)
    known = [interval for interval in every if interval]
    return _rounded(pool(known)) if len(known) == len(every) else None


def worst_point(cards: Sequence[Scorecard], axis: str) -> tuple[float, float] | None:
    """Where the drop, averaged over seeds, is largest; None if a seed lacks every point.

    Returns the share of the budget that was really spent there, mean over seeds, and the drop.
    """
    seen: dict[tuple[int, float], list[tuple[float, float]]] = {}
    for card in cards:
        for point in card.points:
            if change := _change(point, axis):
                at = (point.stage, point.fraction)
                seen.setdefault(at, []).append((card.share(point), change.drop.value))
    complete = [np.mean(found, axis=0) for found in seen.values() if len(found) == len(cards)]
    if not complete:
        return None
    spent, drop = max(complete, key=lambda place: float(place[1]))
    return significant(float(spent)), significant(float(drop))


def _change(point: PointScore, axis: str) -> AxisChange | None:
    return next((change for change in point.axes if change.axis == axis), None)


def _binary(ends: Iterable[PointScore]) -> list[TaskChange]:
    """Retention tasks of right and wrong answers; graded ones have no flips."""
    every = (task for end in ends for task in end.tasks if task.axis != "target")
    return [task for task in every if task.lost is not None]


def _companions(binary: Sequence[TaskChange], axis: str = "") -> dict[str, Any]:
    """Chance-adjusted flips, mean over the tasks of one axis or of all."""
    own = [task for task in binary if axis in ("", task.axis)]
    return {name: mean(getattr(task, name) for task in own) for name in _COMPANIONS}


def _task_means(ends: Sequence[PointScore]) -> dict[str, Any]:
    every = [task for end in ends for task in end.tasks if task.axis != "target"]
    binary = _binary(ends)
    limits = [t.minimum_detectable_effect for t in every if t.minimum_detectable_effect is not None]
    return {
        "churn": mean(task.churn for task in binary),
        "noise_churn": mean(task.noise_churn for task in binary),
        **_noise(ends, binary),
        **_companions(binary),
        "minimum_detectable_effect": significant(max(limits)) if limits else None,
        "excluded_items": max(sum(task.excluded for task in end.tasks) for end in ends),
        "margins": {task.task: task.margin for task in every if task.margin is not None},
    }


def _noise(ends: Sequence[PointScore], binary: Sequence[TaskChange]) -> dict[str, Any]:
    """The A/A floor by repeat scoring, and where flips rise above it."""
    repeats: dict[str, list[float]] = {}
    for task in binary:
        for name, churn in task.noise_churns.items():
            repeats.setdefault(name, []).append(churn)
    soft = [task.noise_soft for end in ends for task in end.tasks if task.noise_soft is not None]
    above = [task.above_noise for task in binary]
    known = bool(above) and None not in above
    return {
        "noise_churns": {name: mean(churns) for name, churns in repeats.items()},
        "noise_soft": mean(soft),
        "tasks_above_noise": sum(map(bool, above)) / len(ends) if known else None,
    }


def _drift(found: Sequence[DriftSummary | None]) -> DriftColumns | None:
    drifts = [drift for drift in found if drift]
    if len(drifts) < len(found):
        return None

    def over(pick: Callable[[DriftSummary], float]) -> float:
        return significant(float(np.mean([pick(drift) for drift in drifts])))

    return DriftColumns(
        relative=over(lambda drift: drift.relative),
        frobenius=over(lambda drift: drift.frobenius),
        over_null=mean(drift.over_null for drift in drifts),
        unchanged_exact=over(lambda drift: drift.unchanged_exact),
        unchanged_1e5=over(lambda drift: drift.unchanged_1e5),
        unchanged_bf16=over(lambda drift: drift.unchanged_bf16),
        dtypes=drifts[0].dtypes,
    )


def _divergence(found: Sequence[DivergenceSummary | None]) -> dict[str, Any]:
    on = [kl.forward.get("target") if kl else None for kl in found]
    off = [off_target(kl) if kl else None for kl in found]
    return {
        "kl_on": mean(on),
        "kl_off": mean(off),
        "kl_on_interval": _pooled(kl.intervals.get("target") if kl else None for kl in found),
        "kl_off_interval": _pooled(_off_target_interval(kl) if kl else None for kl in found),
    }


def _off_target_interval(kl: DivergenceSummary) -> Interval | None:
    """Of `off_target`."""
    found = off_target_mean(kl)
    if found is None:
        return None
    sets = [one for name, one in kl.intervals.items() if name != "target"]
    return Interval(
        value=found.drop,
        low=found.bounds.low,
        high=found.bounds.high,
        level=sets[0].level,
        n=sum(one.n for one in sets),
        method="t over prompts and axes",
    )


def off_target(kl: DivergenceSummary) -> float | None:
    """Mean forward KL over the retention axes that have prompts, nats per token."""
    return mean(value for name, value in kl.forward.items() if name != "target")


def _cost(ends: Sequence[PointScore]) -> CostColumns:
    ledgers = [end.ledger for end in ends]
    names = [name for name in CostColumns.model_fields if name != "peak_memory_bytes"]
    means = {name: mean(float(getattr(ledger, name)) for ledger in ledgers) for name in names}
    peak = max(ledger.peak_memory_bytes for ledger in ledgers)
    return CostColumns.model_validate({**means, "peak_memory_bytes": peak})


def _spent(cards: Sequence[Scorecard]) -> dict[str, Any]:
    """Cost, how many updates every stage made, and how much of the budget went."""
    made = [updates(card.points) for card in cards]
    spent = max(card.share(card.points[-1]) for card in cards)
    empty = float(cards[0].budget.split(" ")[0]) == 0
    return {
        "cost": _cost([card.points[-1] for card in cards]),
        "updates": [mean(stage) for stage in zip(*made, strict=True)],
        "fewest_updates": min(min(stages) for stages in made),
        "budget_spent": None if empty else significant(spent),
    }


def updates(points: Sequence[PointScore]) -> list[int]:
    """Updates of each stage of one cell.

    Ledgers count from the start of the recipe, so a stage made what its last point has more than
    the stage before it.
    """
    ends = {point.stage: point.ledger.steps for point in points}
    return [after - before for before, after in pairwise([0, *ends.values()])]


def mean(values: Iterable[float | int | None]) -> float | None:
    """Mean to six significant digits; None when there is nothing or any value is missing."""
    found = list(values)
    if not found or any(value is None for value in found):
        return None
    return significant(math.fsum(value for value in found if value is not None) / len(found))


def _ratio(ratio: RatioRow | None, gain: Interval) -> Interval | None:
    if ratio is None:
        return None
    return _bounded(ratio.value, ratio.low, ratio.high, gain, "Fieller")


def _bounded(
    value: float | None, low: float | None, high: float | None, like: Interval, method: str
) -> Interval | None:
    """An interval from the comparison, or None where it withheld the estimate or its limits."""
    if value is None or low is None or high is None:
        return None
    update = {"value": value, "low": low, "high": high, "method": method}
    return _rounded(like.model_copy(update=update))


def _rounded(interval: Interval) -> Interval:
    limits = {name: significant(getattr(interval, name)) for name in ("value", "low", "high")}
    return interval.model_copy(update=limits)
