"""Paired items -> `TaskChange` and `AxisChange`: the judgements on tasks and axes as records.

Takes the pairs of `comparison/pairing.py`, asks `statistics/verdict.judge` and
`statistics/multiplicity.judge_axis`, and adds values that describe without deciding: flips,
validity, and what `comparison/soft.py` finds. Reads and writes no files.

Leaves out: the correction for the number of tasks, which needs all of them
(`gate/decide.py`).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from retainbench.harness.comparison import soft
from retainbench.harness.comparison.noise_floor import NoiseFloor, above_floor, lowered
from retainbench.harness.comparison.pairing import Floats, Pair
from retainbench.harness.core.axes import ordered
from retainbench.harness.core.changes import AxisChange, Interval, TaskChange
from retainbench.harness.core.errors import UsageError
from retainbench.harness.statistics.flips import flips
from retainbench.harness.statistics.multiplicity import judge_axis
from retainbench.harness.statistics.paired import Bounds
from retainbench.harness.statistics.verdict import Judgement, judge

if TYPE_CHECKING:
    from retainbench.harness.core.schema import Policy


class Judged(NamedTuple):
    """One task: its paired items, the judgement on them, and both as a record."""

    pair: Pair
    judgement: Judgement
    change: TaskChange


def judge_pair(
    one: Pair, policy: Policy, design: float | None = None, noise: NoiseFloor | None = None
) -> Judged:
    """Judge one task under the policy; `design` is its variance of a paired difference, if known.

    With the A/A floor of the task, churn that the floor may explain is not called a regression.

    The bootstrap of graded scores is seeded by the task's label, so that it is the same on every
    machine and differs between tasks.
    """
    found = judge(
        one.base,
        one.candidate,
        margin=margin_of(policy, one.label),
        min_items=policy.minimum_items,
        alpha=policy.alpha,
        chance=one.chance,
        clusters=one.clusters,
        icc=icc_of(policy, one.label),
        design_variance=design,
        seed=zlib.crc32(one.label.encode()),
    )
    level = 1 - 2 * policy.alpha
    values = _estimates(one, found, level) | _flips(one, found) | _validity(one)
    if noise is not None:
        found = lowered(found, one, noise)
        values |= _noise(one, noise, policy.alpha)
    if one.axis != "target":
        values |= _ruling(found)
    return Judged(one, found, TaskChange.model_validate(values))


def axis_changes(judged: Sequence[Judged], policy: Policy) -> list[AxisChange]:
    """Means over the tasks of each axis; an axis without a task above chance has no mean."""
    axes = ordered(one.pair.axis for one in judged)
    found = (_axis_change(axis, judged, policy) for axis in axes)
    return [change for change in found if change is not None]


def margin_of(policy: Policy, label: str) -> float:
    """The policy's margin for a task; `task/filter` falls back to `task`.

    Raises:
        UsageError: the margin is not between 0 and 1; no number of items could pass 0.
    """
    fallback = policy.task_margins.get(label.split("/")[0], policy.margin)
    return _usable(policy.task_margins.get(label, fallback), label)


def icc_of(policy: Policy, label: str) -> float:
    """The planning ICC of a task; `task/filter` falls back to `task`."""
    return policy.task_iccs.get(label, policy.task_iccs.get(label.split("/")[0], policy.icc))


def axis_margin_of(policy: Policy, axis: str) -> float:
    """The policy's margin for an axis: its own, else the general one (it is then not gated)."""
    return _usable(policy.axis_margins.get(axis, policy.margin), axis)


def _usable(margin: float, name: str) -> float:
    if not 0 < margin < 1:
        raise UsageError(
            f"policy: the margin of {name!r} is {margin:g}; write one between 0 and 1, such as "
            "0.02 for two points"
        )
    return margin


def _estimates(one: Pair, found: Judgement, level: float) -> dict[str, Any]:
    return {
        "task": one.label,
        "axis": one.axis,
        "metric": one.metric,
        "repeats": one.repeats,
        "excluded": one.excluded,
        "n": found.n,
        "clusters": found.clusters,
        "chance": found.chance,
        "base_score": found.base_score,
        "candidate_score": found.tuned_score,
        "drop": _interval(found, level),
        "crosscheck": _crosscheck(found, level),
        **soft.task_fields(one, level),
        "base_at_chance": found.at_chance,
        "mcnemar_p": found.evidence_p,
        "minimum_detectable_effect": found.mde,
        "rescaled_drop": found.rescaled_drop,
        "rescaled_error": found.rescaled_error,
    }


def _ruling(found: Judgement) -> dict[str, Any]:
    return {
        "margin": found.margin,
        "verdict": found.verdict,
        "reasons": list(found.reasons),
        "p_drop_within_margin": found.p_within,
        "p_drop_beyond_margin": found.p_beyond,
        "items_if_unchanged": found.items_if_unchanged,
        "items_if_as_observed": found.items_if_as_observed,
    }


def _flips(one: Pair, found: Judgement) -> dict[str, Any]:
    if found.counts is None:
        return {}
    changed = flips(one.base, one.candidate, one.chance)
    return {
        "lost": changed.lost,
        "gained": changed.gained,
        "churn": changed.churn,
        "forgetting_chance_adjusted": changed.adjusted_forgetting,
        "backward_transfer_chance_adjusted": changed.adjusted_transfer,
    }


def _noise(one: Pair, noise: NoiseFloor, alpha: float) -> dict[str, Any]:
    return {
        "noise_churn": max(noise.churns.values(), default=None),
        "noise_churns": noise.churns,
        "noise_soft": noise.soft,
        "above_noise": above_floor(one, noise, alpha),
    }


def _validity(one: Pair) -> dict[str, Any]:
    return {
        "base_valid": float(np.mean(one.base_valid)),
        "candidate_valid": float(np.mean(one.candidate_valid)),
        "base_cut": one.base_cut,
        "candidate_cut": one.candidate_cut,
        "base_score_given_valid": _given(one.base, one.base_valid),
        "candidate_score_given_valid": _given(one.candidate, one.candidate_valid),
    }


def _given(scores: Floats, valid: Floats) -> float | None:
    """Mean score of the valid answers; None without any."""
    return float(np.average(scores, weights=valid)) if valid.any() else None


def _interval(found: Judgement, level: float) -> Interval:
    """The interval that decides; where none can be computed, the range that is certain."""
    value = found.drop or 0.0  # pairs are never empty, so None cannot occur; -0.0 becomes 0.0
    bounds = found.bounds or Bounds(-1.0, 1.0)
    name = ", ".join(method.name for method in found.methods) or "none"
    return _made(value, bounds, level, found.n, name)


def _crosscheck(found: Judgement, level: float) -> Interval | None:
    newcombe = next((method for method in found.methods if method.name == "newcombe"), None)
    if newcombe is None:
        return None
    return _made(found.drop or 0.0, newcombe.bounds, level, found.n, newcombe.name)


def _axis_change(axis: str, judged: Sequence[Judged], policy: Policy) -> AxisChange | None:
    on_axis = [one for one in judged if one.pair.axis == axis]
    ruling = judge_axis(
        {one.change.task: one.judgement for one in on_axis},
        margin=axis_margin_of(policy, axis),
        alpha=policy.alpha,
    )
    used = [one for one in on_axis if one.change.task not in ruling.excluded]
    if ruling.drop is None or ruling.bounds is None:
        return None
    level, n = 1 - 2 * policy.alpha, sum(len(one.pair.items) for one in used)
    return AxisChange(
        axis=axis,
        tasks=len(used),
        n=n,
        base_score=_axis_score(used, [one.pair.base for one in used]),
        candidate_score=_axis_score(used, [one.pair.candidate for one in used]),
        drop=_made(ruling.drop, ruling.bounds, level, n, soft.AXIS_METHOD),
        erosion_margin=policy.erosion_margin,
        **soft.axis_fields([one.pair for one in used], level),
        lost=sum(one.change.lost or 0 for one in used),
        gained=sum(one.change.gained or 0 for one in used),
        at_chance=list(ruling.excluded),
        margin=ruling.margin,
        verdict=ruling.verdict,
        reasons=list(ruling.reasons),
        p_drop_within_margin=ruling.p_within,
    )


def _axis_score(used: Sequence[Judged], scores: Sequence[Floats]) -> float:
    """Unweighted mean over tasks of the chance-rescaled score."""
    rescaled = [
        np.mean((values - one.pair.chance) / (1 - one.pair.chance))
        for one, values in zip(used, scores, strict=True)
    ]
    return float(np.mean(rescaled))


def _made(value: float, bounds: Bounds, level: float, n: int, method: str) -> Interval:
    low, high = bounds
    return Interval(value=value, low=low, high=high, level=level, n=n, method=method)
