"""Methods against each other over seeds and items: `methods.json` of a run.

Reads a run's item records through `comparison/arms.py`; per arm gives gain and drop per axis by the
two-level bootstrap, the trajectory, the drop at a matched gain, gain per drift and per KL, and its
place on the Pareto front of gain against the worst axis' drop. Arms are resampled on the same
items, so differences are paired. `comparison/sequences.py` adds the recipes of several targets.

The gain to match is half of the largest mean end gain on the target, a rule that never looks at
drops. Leaves out: verdicts, which are about one checkpoint (`gate/decide.py`), and rounding.
Command: part of `retainbench run` and `retainbench report RUN`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retainbench.harness.comparison.arms import Arm, Arms, Items, load
from retainbench.harness.comparison.sequences import SequenceRow, sequences
from retainbench.harness.core.records import SCHEMA_VERSION, Interval, PointScore, Record
from retainbench.harness.statistics.pareto import FrontPoint, Ratio, gain_per_cost, pareto_front
from retainbench.harness.statistics.seeds import ResampledMeans, method_name, resampled_means
from retainbench.harness.statistics.trajectory import (
    MatchedGains,
    TrajectoryItems,
    matched_gains,
    trajectory,
)

RESAMPLES = 1_999  # limits of a 90 % interval then move by .001 between seeds of the generator
MATCHED_SHARE = 0.5  # of the largest mean end gain
LEVEL = 0.90  # the level that the gate's intervals have
MARGIN = 0.02  # what counts as no worse on one side of the front, in score points


class TrajectoryRow(Record):
    """Mean drop along the checkpoints of one arm on one axis."""

    worst: float
    worst_at: float
    """Share of the budget."""
    end: float
    area: float
    """Score points x share of the budget."""
    recovery: float


class MatchedRow(Record):
    """Drop where the arm's mean trajectory first reaches the gain to match."""

    gain: float
    drop: float | None
    low: float | None
    high: float | None
    reason: str | None
    """Why there is no drop, or no interval."""


class RatioRow(Record):
    """Gain per unit of drift or of KL."""

    value: float | None
    low: float | None
    high: float | None
    reason: str | None


class MethodRow(Record):
    """One arm; intervals are two-level (seeds and items), so they speak of the method."""

    base: str
    target: str
    recipe: str
    seeds: list[int]
    """With one seed the intervals speak of that run alone."""
    gain: Interval
    drops: dict[str, Interval]
    """Axis -> chance-rescaled drop at the end point."""
    trajectories: dict[str, TrajectoryRow]
    matched: dict[str, MatchedRow]
    gain_per_drift: RatioRow
    gain_per_kl: RatioRow
    on_front: bool | None
    """Gain against the worst axis' drop; None where no axis was above chance."""
    dominated_by: list[str]
    tied_with: list[str]


class Methods(Record):
    """`methods.json`."""

    schema_version: int = SCHEMA_VERSION
    rows: list[MethodRow]
    absent: dict[str, str]
    """`recipe on target` -> why it has no row."""
    sequences: list[SequenceRow] = []
    """Recipes that learn several targets in turn."""


def methods(run: Path, matched_gain: float | None = None) -> Methods:
    """All arms of a run compared.

    Args:
        matched_gain: gain at which drops are compared, in score points; see the module's rule.

    Raises:
        IntegrityError: records are missing or do not pair.
    """
    rows: list[MethodRow] = []
    absent: dict[str, str] = {}
    for (_, target), arms in load(run).items():
        absent |= {f"{name} on {target}": why for name, why in arms.absent.items()}
        if arms.arms:
            rows += _rows(arms, matched_gain)
    return Methods(rows=rows, absent=absent, sequences=sequences(run))


def across_seeds(
    tables: Sequence[NDArray[np.float64]], items: Items, seed: int = 0
) -> ResampledMeans:
    """Two-level bootstrap of several (S, I) tables over the same items: seeds, then clusters."""
    return resampled_means(
        tables,
        clusters=items.clusters,
        strata=items.tasks,
        scale=items.scales,
        resamples=RESAMPLES,
        seed=seed,
    )


def _rows(arms: Arms, matched_gain: float | None) -> list[MethodRow]:
    gains = across_seeds([arm.gain[:, -1] for arm in arms.arms], arms.asked)
    drops = {
        axis: across_seeds([arm.drops[axis][:, -1] for arm in arms.arms], items, seed=1)
        for axis, items in arms.kept.items()
    }
    goal = MATCHED_SHARE * float(gains.points.max()) if matched_gain is None else matched_gain
    matched = {axis: _matched_gains(arms, axis, goal) for axis in arms.kept} if goal > 0 else {}
    front = _front(gains, drops)
    names = [arm.recipe for arm in arms.arms]
    return [
        MethodRow(
            base=arm.base,
            target=arm.target,
            recipe=arm.recipe,
            seeds=arm.seeds,
            gain=_interval(gains, place, arm, len(arms.asked.tasks)),
            drops={
                axis: _interval(found, place, arm, len(arms.kept[axis].tasks))
                for axis, found in drops.items()
            },
            trajectories={axis: _trajectory(arm, arms.kept[axis], axis) for axis in arms.kept},
            matched={axis: _matched(found, place) for axis, found in matched.items()},
            gain_per_drift=_ratio(arm, arms.asked, [_drift(end) for end in arm.ends]),
            gain_per_kl=_ratio(arm, arms.asked, [_kl(end) for end in arm.ends]),
            on_front=front[place].on_front if front else None,
            dominated_by=[names[i] for i in front[place].dominated_by] if front else [],
            tied_with=[names[i] for i in front[place].tied_with] if front else [],
        )
        for place, arm in enumerate(arms.arms)
    ]


def _interval(found: ResampledMeans, place: int, arm: Arm, items: int) -> Interval:
    low, high = found.interval(place, LEVEL)
    return Interval(
        value=float(found.points[place]),
        low=low,
        high=high,
        level=LEVEL,
        n=items,
        method=method_name(len(arm.seeds), float(found.unseen[place])),
    )


def _trajectory(arm: Arm, items: Items, axis: str) -> TrajectoryRow:
    """Of the mean over seeds and items, tasks weighted equally."""
    tasks = np.asarray(items.tasks)
    by_task = [arm.drops[axis][:, :, tasks == name].mean(axis=(0, 2)) for name in np.unique(tasks)]
    found = trajectory(arm.budgets, np.mean(by_task, axis=0))
    return TrajectoryRow(**found._asdict())


def _matched_gains(arms: Arms, axis: str, goal: float) -> MatchedGains:
    kept = arms.kept[axis]
    return matched_gains(
        [TrajectoryItems(arm.gain, arm.drops[axis]) for arm in arms.arms],
        goal,
        confidence=LEVEL,
        gain_clusters=arms.asked.clusters,
        drop_clusters=kept.clusters,
        drop_strata=kept.tasks,
        drop_scale=kept.scales,
        resamples=RESAMPLES,
    )


def _matched(found: MatchedGains, place: int) -> MatchedRow:
    one = found.methods[place]
    low, high = one.bounds or (None, None)
    return MatchedRow(gain=found.target, drop=one.drop, low=low, high=high, reason=one.reason)


def _front(gains: ResampledMeans, drops: Mapping[str, ResampledMeans]) -> list[FrontPoint]:
    """Front of gain against the drop on the axis that lost most, chosen anew in every resample."""
    if not drops:
        return []
    return pareto_front(
        gains.points,
        np.max([found.points for found in drops.values()], axis=0),
        gains.replicates,
        np.max([found.replicates for found in drops.values()], axis=0),
        gain_margin=MARGIN,
        drop_margin=MARGIN,
        confidence=LEVEL,
    )


def _drift(end: PointScore) -> float | None:
    return end.drift.relative if end.drift else None


def _kl(end: PointScore) -> float | None:
    """Mean forward KL over the retention axes, nats per token."""
    found = end.divergence.forward if end.divergence else {}
    off = [value for name, value in found.items() if name != "target"]
    return float(np.mean(off)) if off else None


def _ratio(arm: Arm, items: Items, costs: Sequence[float | None]) -> RatioRow:
    known = [cost for cost in costs if cost is not None]
    if len(known) < len(costs):
        return RatioRow(value=None, low=None, high=None, reason="not measured for every seed")
    found: Ratio = gain_per_cost(
        arm.gain[:, -1],
        known,
        confidence=LEVEL,
        clusters=items.clusters,
        resamples=RESAMPLES,
    )
    low, high = found.bounds or (None, None)
    return RatioRow(value=found.value, low=low, high=high, reason=found.reason)
