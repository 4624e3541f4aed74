"""How many items and seeds a policy needs, before the run: `retainbench power`.

Reads the base's stored records and, where there is one, a pilot: another scoring of the base (an
A/A run) or an earlier candidate on the same items; or a run folder, whose candidates are pilots for
the next run. The variance of a paired difference is measured on the pilot; without one it is twice
the base's own, which is that of two unrelated models and in practice too large. It must not come
from the run that is then judged. Leaves out: growing the number of items after a look at results.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from retainbench.harness import paths
from retainbench.harness.compare_arms import Arm, Arms, load
from retainbench.harness.compare_change import AXES, axis_margin_of, judge_pair
from retainbench.harness.compare_items import Records, columns
from retainbench.harness.compare_pair import Pair, pair
from retainbench.harness.errors import IntegrityError
from retainbench.harness.gate_tiers import detectable_drop
from retainbench.harness.plan import Plan
from retainbench.harness.records import Record, Scorecard, read_json
from retainbench.harness.stats_estimate import is_clustered
from retainbench.harness.stats_graded import clustered_mean
from retainbench.harness.stats_power import (
    POWER,
    growth_for_joint_power,
    power_to_pass,
    seeds_needed,
)
from retainbench.harness.stats_seeds import even_weights, two_way

if TYPE_CHECKING:
    from retainbench.harness.suite import Policy

FEWEST_SEEDS = 2  # a variance between seeds needs two


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
    joint_power: float
    """Probability that all mandatory tasks pass with the present items if nothing is lost."""
    seeds: list[SeedPower]


def power_plan(base: Records, policy: Policy, pilots: Sequence[Records] = ()) -> Power:
    """What the base's items can show under a policy.

    Args:
        pilots: other scorings of the same items; a task's variance is the median over them.

    Raises:
        IntegrityError: no retention task, or a pilot does not hold the same items.
    """
    start = columns(base)
    names = {one.label: one for one in pair(start, start).values() if one.axis != "target"}
    if not names:
        raise IntegrityError("the base's records hold no retention task")
    tasks = {label: rows for label, rows in start.items() if label in names}
    measured = [_variances(tasks, columns(pilot)) for pilot in pilots]
    required = [n for n in names if _mandatory(n, policy)]
    rows = [
        _task(one, policy, [found[label] for found in measured], len(required), len(names))
        for label, one in names.items()
    ]
    passing = [row.power_to_pass for row in rows if row.task in required]
    return Power(tasks=rows, joint_power=math.prod(passing), seeds=[])


def power_run(run: Path, policy: Policy | None = None) -> Power:
    """The same for a run folder: its end points are the pilots, its seeds size the next run."""
    folder = paths.RunFolder(run)
    plan = read_json(folder.plan, Plan)
    applied = policy or plan.suite.policy
    base = columns(folder.base_point(plan.suite.base).records)
    kept = {k: rows for k, rows in base.items() if k.split("/")[0] in plan.retention}
    found = power_plan(kept, applied, _end_points(folder, plan))
    seeds = [
        row
        for (_, target), arms in load(run).items()
        for arm in arms.arms
        for row in _seeds(target, arm, arms, applied)
    ]
    return found.model_copy(update={"seeds": seeds})


def _end_points(folder: paths.RunFolder, plan: Plan) -> list[Path]:
    """Records of the end points of all cells that were scored."""
    found = []
    for cell in plan.cells:
        where = folder.cell(cell.id)
        card = read_json(where.scorecard, Scorecard)
        if card.points:
            name = paths.point_name(card.points[-1].stage, card.points[-1].fraction)
            found.append(where.point(name).records)
    return found


def _variances(base: Mapping[str, object], pilot: Mapping[str, object]) -> dict[str, float]:
    same = {label: rows for label, rows in pilot.items() if label in base}
    pairs = pair(base, same)
    return {label: float(np.mean((p.base - p.candidate) ** 2)) for label, p in pairs.items()}


def _mandatory(label: str, policy: Policy) -> bool:
    named = policy.mandatory
    return named is None or label in named or label.split("/")[0] in named


def _task(
    one: Pair, policy: Policy, measured: Sequence[float], required: int, gated: int
) -> TaskPower:
    """One row; an A/A run without a single flip still counts half a flip, never variance 0."""
    n = len(one.items)
    unrelated = 2 * max(float(np.var(one.base)), 0.5 / n)
    variance = max(float(np.median(measured)), 0.5 / n) if measured else unrelated
    change = judge_pair(one, policy, variance).change
    alone = change.items_if_unchanged or 0
    growth = growth_for_joint_power(POWER, max(required, 1), policy.alpha)
    margin, effective = change.margin or 0.0, _effective_items(one)
    return TaskPower(
        task=one.label,
        axis=one.axis,
        items=n,
        clusters=change.clusters,
        base_score=change.base_score,
        at_chance=change.base_at_chance,
        variance=variance,
        source=f"median of {len(measured)} pilots" if measured else "twice the base's variance",
        margin=margin,
        items_alone=alone,
        items_joint=math.ceil(alone * growth),
        minimum_detectable_effect=change.minimum_detectable_effect,
        power_to_pass=0.0
        if change.base_at_chance or n < policy.minimum_items
        else power_to_pass(effective, margin, variance, alpha=policy.alpha),
        detectable_drop=detectable_drop(
            math.floor(effective), margin, tasks=gated, discordance=variance, alpha=policy.alpha
        ),
    )


def _effective_items(one: Pair) -> float:
    """Items divided by the design effect of the base's own scores, where items share clusters."""
    if not is_clustered(one.clusters) or one.clusters.max() == 0:
        return len(one.items)
    return len(one.items) / max(clustered_mean(one.base, one.clusters).design_effect, 1.0)


def _seeds(target: str, arm: Arm, arms: Arms, policy: Policy) -> list[SeedPower]:
    """Seeds per axis, from the variances between this run's seeds and items."""
    if len(arm.seeds) < FEWEST_SEEDS:
        return []
    found = []
    for axis in AXES:
        if axis not in arm.drops:
            continue
        tasks = arms.kept[axis].tasks
        # Weighted so that the plain mean over items is the mean of task means.
        table = arm.drops[axis][:, -1] * even_weights(tasks) * len(tasks)
        parts, margin = two_way(table), axis_margin_of(policy, axis)
        needed = seeds_needed(
            margin,
            parts.seed_variance,
            parts.item_variance,
            parts.error_variance,
            items=len(tasks),
            alpha=policy.alpha,
        )
        found.append(
            SeedPower(
                target=target,
                recipe=arm.recipe,
                axis=axis,
                seeds=len(arm.seeds),
                margin=margin,
                seeds_needed=needed,
            )
        )
    return found
