"""The estimates of one row of the table from its seeds' scorecards.

Pure: reads and writes no files. Verdicts are the gate's and estimates over seeds are
`comparison/methods.py`'s; both are passed in. Where the latter are missing (scorecards alone),
`pool` combines the seeds' own intervals. A missing number is None with a reason, never a sentinel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from retainbench.harness.comparison.matched import off_target_mean
from retainbench.harness.core.changes import Interval, TaskChange
from retainbench.harness.core.scorecards import (
    VALIDATION_REWARD,
    DivergenceSummary,
    DriftSummary,
    PointScore,
    Scorecard,
)
from retainbench.harness.core.text.formatting import significant
from retainbench.harness.report.table.estimates.axes import (
    axis_columns,
    binary_tasks,
    companions,
)
from retainbench.harness.report.table.estimates.pooling import bounded, mean, pool, pooled, rounded
from retainbench.harness.report.table.evidence import CellVerdict
from retainbench.harness.report.table.model import CostColumns, DriftColumns

if TYPE_CHECKING:
    from retainbench.harness.comparison.matched import RatioRow
    from retainbench.harness.comparison.methods import MethodRow


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
        "gain": rounded(gain),
        **{name: mean(getattr(end, name) for end in ends) for name in _TARGET},
        "axes": axis_columns(cards, method, over_seeds),
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


_TARGET = (
    *("base_reward", "candidate_reward"),
    *("base_valid", "candidate_valid"),
    *("base_commonest", "candidate_commonest"),
)

_REASONS: Mapping[str, str] = {
    "base_commonest": "responses were not at hand for every seed",
    "candidate_commonest": "responses were not at hand for every seed",
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


def _task_means(ends: Sequence[PointScore]) -> dict[str, Any]:
    every = [task for end in ends for task in end.tasks if task.axis != "target"]
    binary = binary_tasks(ends)
    limits = [t.minimum_detectable_effect for t in every if t.minimum_detectable_effect is not None]
    return {
        "churn": mean(task.churn for task in binary),
        "noise_churn": mean(task.noise_churn for task in binary),
        **_noise(ends, binary),
        **companions(binary),
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
        "kl_on_interval": pooled(kl.intervals.get("target") if kl else None for kl in found),
        "kl_off_interval": pooled(_off_target_interval(kl) if kl else None for kl in found),
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


def _ratio(ratio: RatioRow | None, gain: Interval) -> Interval | None:
    if ratio is None:
        return None
    return bounded(ratio.value, ratio.low, ratio.high, gain, "Fieller")
