"""How many items and seeds a policy needs, before the run: `retainbench power`.

Reads the base's stored records and, where there is one, a pilot: an earlier candidate on the same
items, or repeat scorings of the base (an A/A run); `study_design/power_sources.py` finds them for
a run folder and for a suite. The variance of a paired difference is measured on the pilot; without
one it is twice the base's own, which is that of two unrelated models and in practice too large. It
must not come from the run that is then judged. Leaves out: growing the number of items after a look
at results.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from retainbench.harness.comparison.changes import axis_margin_of, icc_of, judge_pair
from retainbench.harness.comparison.columns import Columns, Records, columns
from retainbench.harness.comparison.pairing import Pair, pair
from retainbench.harness.core.axes import ordered
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.records import Record
from retainbench.harness.statistics.estimate import design_of
from retainbench.harness.statistics.paired import normal_cdf, normal_quantile
from retainbench.harness.statistics.power import (
    POWER,
    detectable_drop,
    growth_for_joint_power,
    power_to_pass,
)

if TYPE_CHECKING:
    from retainbench.harness.core.schema import Policy

AGAIN = "base against base, the noisiest scoring"
"""Where a variance comes from that no training has a part in."""


class TaskPower(Record):
    """What one task's items can show."""

    task: str
    axis: str
    items: int
    clusters: int
    base_score: float
    at_chance: bool
    """Then no number of items shows forgetting."""
    variance: float
    """Of one paired difference; for 0/1 items the discordance."""
    source: str
    """Where the variance comes from."""
    margin: float
    items_alone: int
    """Items for power .8 on this task alone if nothing is lost."""
    items_joint: int
    """Items for power .8 of all mandatory tasks passing at once."""
    minimum_detectable_effect: float | None
    """Smallest margin that the present items pass with power .8, in score points."""
    power_to_pass: float
    """With the present items, if nothing is lost."""
    detectable_drop: float | None
    """Smallest true drop that the present items show as REGRESSION with power .8 after Holm."""


class AxisPower(Record):
    """What the tasks of one axis can show together: their mean, rescaled for chance."""

    axis: str
    tasks: int
    """Above chance; without any there is no row."""
    items: int
    """Of these tasks together."""
    margin: float
    items_needed: int
    """Of these tasks together, grown in proportion, for power .8 if nothing is lost."""
    minimum_detectable_effect: float
    """Smallest margin that the present items pass with power .8, in score points."""
    power_to_pass: float


class SeedPower(Record):
    """Training seeds that a claim about a method needs on one axis."""

    target: str
    recipe: str
    axis: str
    seeds: int
    """Seeds that the variances were measured on."""
    margin: float
    seeds_needed: int | None
    """For power .8 that the mean drop is within the margin if nothing is lost; None = never."""


class Power(Record):
    """Everything `retainbench power` prints."""

    tasks: list[TaskPower]
    axes: list[AxisPower]
    joint_power: float
    """Probability that all mandatory tasks pass with the present items if nothing is lost."""
    seeds: list[SeedPower]


class _Measured(NamedTuple):
    """The variance of one paired difference of a task, and where it comes from."""

    variance: float
    source: str


def power_plan(
    base: Records,
    policy: Policy,
    pilots: Sequence[Records] = (),
    repeats: Mapping[str, Records] | None = None,
) -> Power:
    """What the base's items can show under a policy.

    Args:
        pilots: scorings of the same items by other models; a task's variance is their median.
        repeats: repeat scorings of the base, each of the tasks that it applies to; without pilots,
            the noisiest one counts.

    Raises:
        IntegrityError: no retention task, or a pilot does not hold the same items.
    """
    start = columns(base)
    names = {one.label: one for one in pair(start, start).values() if one.axis != "target"}
    if not names:
        raise IntegrityError("the base's records hold no retention task")
    tasks = {label: rows for label, rows in start.items() if label in names}
    by_pilot = [_variances(tasks, columns(pilot)) for pilot in pilots]
    repeated = {name: _repeated(tasks, columns(one)) for name, one in (repeats or {}).items()}
    required = [n for n in names if _mandatory(n, policy)]
    rows = [
        _task(one, policy, _measured(one, by_pilot, repeated), len(required), len(names))
        for one in names.values()
    ]
    passing = [row.power_to_pass for row in rows if row.task in required]
    axes = [_axis(axis, rows, names, policy) for axis in ordered(row.axis for row in rows)]
    return Power(
        tasks=rows,
        axes=[axis for axis in axes if axis],
        joint_power=math.prod(passing),
        seeds=[],
    )


def _measured(
    one: Pair, pilots: Sequence[Mapping[str, float]], repeats: Mapping[str, Mapping[str, float]]
) -> _Measured:
    """Measured variance; a scoring without a single flip still counts half a flip, never 0."""
    least = 0.5 / len(one.items)
    known = [found[one.label] for found in pilots if one.label in found]
    if known:
        return _Measured(max(float(np.median(known)), least), f"median of {len(known)} pilots")
    again = {name: found[one.label] for name, found in repeats.items() if one.label in found}
    if again:
        return _Measured(max(*again.values(), least), AGAIN)
    return _Measured(2 * max(float(np.var(one.base)), least), "twice the base's variance")


def _repeated(base: Columns, repeat: Columns) -> dict[str, float]:
    """Of the tasks that a repeat scoring applies to; options rotate only where there are some."""
    return _variances({label: rows for label, rows in base.items() if label in repeat}, repeat)


def _variances(base: Columns, pilot: Columns) -> dict[str, float]:
    same = {label: rows for label, rows in pilot.items() if label in base}
    pairs = pair(base, same)
    return {label: float(np.mean((p.base - p.candidate) ** 2)) for label, p in pairs.items()}


def _mandatory(label: str, policy: Policy) -> bool:
    named = policy.mandatory
    return named is None or label in named or label.split("/")[0] in named


def _task(one: Pair, policy: Policy, measured: _Measured, required: int, gated: int) -> TaskPower:
    n, variance = len(one.items), measured.variance
    change = judge_pair(one, policy, variance).change
    alone = change.items_if_unchanged or 0
    growth = growth_for_joint_power(POWER, max(required, 1), policy.alpha)
    margin, effective = change.margin or 0.0, _effective_items(one, policy)
    return TaskPower(
        task=one.label,
        axis=one.axis,
        items=n,
        clusters=change.clusters,
        base_score=change.base_score,
        at_chance=change.base_at_chance,
        variance=variance,
        source=measured.source,
        margin=margin,
        items_alone=alone,
        items_joint=math.ceil(alone * growth),
        minimum_detectable_effect=change.minimum_detectable_effect,
        power_to_pass=0.0
        if change.base_at_chance or n < policy.minimum_items
        else power_to_pass(effective, margin, variance, alpha=policy.alpha),
        detectable_drop=detectable_drop(
            effective, margin, tasks=gated, discordance=variance, alpha=policy.alpha
        ),
    )


def _axis(
    axis: str, rows: Sequence[TaskPower], pairs: Mapping[str, Pair], policy: Policy
) -> AxisPower | None:
    """The mean of K rescaled drops: its error as the gate has it, sqrt(sum e^2) / K, normal."""
    used = [row for row in rows if row.axis == axis and not row.at_chance]
    if not used:
        return None
    items = sum(row.items for row in used)
    z = normal_quantile(1 - policy.alpha)
    squares = [
        _squared_error(row.variance, _effective_items(pairs[row.task], policy), policy.alpha)
        / (1 - float(np.mean(pairs[row.task].chance))) ** 2
        for row in used
    ]
    error = math.sqrt(sum(squares)) / len(used)
    margin = axis_margin_of(policy, axis)
    detectable = (z + normal_quantile(POWER)) * error
    return AxisPower(
        axis=axis,
        tasks=len(used),
        items=items,
        margin=margin,
        items_needed=math.ceil(items * (detectable / margin) ** 2),
        minimum_detectable_effect=detectable,
        power_to_pass=normal_cdf(margin / error - z),
    )


def _squared_error(variance: float, effective: float, alpha: float) -> float:
    """Of a task's mean drop; with no flip it is that of the worst-item limit."""
    unseen = (1 - alpha ** (1 / effective)) / normal_quantile(1 - alpha)
    return float(max(variance / effective, unseen**2))


def _effective_items(one: Pair, policy: Policy) -> float:
    """Items divided by the planned design effect."""
    return design_of(one.clusters, len(one.items), icc_of(policy, one.label)).effective_items
