"""Methods against each other over seeds and items: `methods.json` of a run.

Reads a run's item records through `comparison/arms.py`; per arm gives gain and drop per axis over
seeds and items, the trajectory, the drop at a matched gain (`comparison/matched.py`), gain per
drift and per KL, and its place on the Pareto front of gain against the drop on every axis.
Differences between arms are paired on their items and, with equal seeds, on their seeds; ranks and
front rest on them. `comparison/sequences.py` adds the recipes of several targets,
`comparison/factorial.py` the interactions of changes that recipes combine.

Leaves out: verdicts, which are about one checkpoint (`gate/decide.py`), and rounding.
Command: part of `retainbench run` and `retainbench report RUN`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from retainbench.harness.comparison.arms import Arm, load
from retainbench.harness.comparison.changes import axis_margin_of
from retainbench.harness.comparison.factorial import EffectRow, effects
from retainbench.harness.comparison.matched import (
    MatchedPairRow,
    MatchedRow,
    RatioRow,
    at_the_end,
    at_the_goal,
    drift,
    goal_of,
    kl,
    matched_drop,
    matched_pairs,
)
from retainbench.harness.comparison.seed_tables import MARGIN, PairRow, SeedTable
from retainbench.harness.comparison.sequences import SequenceRow, sequences
from retainbench.harness.core import paths
from retainbench.harness.core.changes import Interval
from retainbench.harness.core.files.storage import read_json
from retainbench.harness.core.records import SCHEMA_VERSION, Record, Verdict
from retainbench.harness.statistics.methods.pairwise import FrontPoint, pareto_front, ranks
from retainbench.harness.statistics.methods.seeds import ColumnLayout
from retainbench.harness.statistics.methods.trajectory import trajectory
from retainbench.harness.suites.plan import Plan


class TrajectoryRow(Record):
    """Mean drop along the checkpoints of one arm on one axis."""

    worst: float
    worst_at: float
    """Share of the budget."""
    end: float
    area: float
    """Score points x share of the budget."""
    recovery: float


class MethodRow(Record):
    """One arm; intervals are over seeds and items, so they are about the method."""

    base: str
    target: str
    recipe: str
    seeds: list[int]
    """With one seed the intervals are about that run only."""
    gain: Interval
    drops: dict[str, Interval]
    """Axis -> chance-rescaled drop at the end point."""
    trajectories: dict[str, TrajectoryRow]
    matched: dict[str, MatchedRow]
    gain_per_drift: RatioRow
    gain_per_kl: RatioRow
    matched_per_drift: RatioRow | None = None
    """At the gain to match instead of the end of the budget; so is the next."""
    matched_per_kl: RatioRow | None = None
    on_front: bool | None
    """Gain against the drop on every axis; None where no axis was above chance."""
    dominated_by: list[str]
    tied_with: list[str]
    verdict: Verdict | None = None
    """Of the method over its seeds: its mean drops against the policy's margins of the axes. None
    for one seed, which says nothing about how much seeds differ."""
    ranks: dict[str, list[int]] = {}
    """Measure (gain, or an axis) -> best and worst rank that no pair of arms contradicts."""


class Methods(Record):
    """`methods.json`."""

    schema_version: int = SCHEMA_VERSION
    rows: list[MethodRow]
    absent: dict[str, str]
    """`recipe on target` -> the reason why it has no row."""
    pairs: list[PairRow] = []
    """All pairs of the arms of a target, per measure."""
    matched_pairs: list[MatchedPairRow] = []
    """Differences in drop at the same gain: the first crossing, then later checkpoints."""
    effects: list[EffectRow] = Field(default=[], exclude_if=lambda rows: not rows)
    """Of the changes that a suite's recipes combine, and their interactions."""
    sequences: list[SequenceRow] = []
    """Recipes that learn several targets one after another."""


def methods(run: Path, matched_gain: float | None = None) -> Methods:
    """All arms of a run compared.

    Args:
        matched_gain: gain at which the rows' drops are compared, in score points; None for the
            rule of `comparison/matched.py`.

    Raises:
        IntegrityError: records are missing or do not pair.
    """
    plan = read_json(paths.RunFolder(run).plan, Plan)
    policy = plan.suite.policy
    rows: list[MethodRow] = []
    compared: list[PairRow] = []
    matched: list[MatchedPairRow] = []
    combined: list[EffectRow] = []
    absent: dict[str, str] = {}
    for (_, target), arms in load(run).items():
        absent |= {f"{name} on {target}": why for name, why in arms.absent.items()}
        if arms.arms:
            table = SeedTable(arms, policy)
            margins = {axis: axis_margin_of(policy, axis) for axis in table.kept}
            rows += _rows(table, matched_gain, margins)
            compared += table.pair_rows(target)
            matched += matched_pairs(table, target)
            combined += effects(table, plan.suite.recipes, target)
    return Methods(
        rows=rows,
        absent=absent,
        pairs=compared,
        matched_pairs=matched,
        effects=combined,
        sequences=sequences(run),
    )


def _rows(
    table: SeedTable, matched_gain: float | None, margins: Mapping[str, float]
) -> list[MethodRow]:
    gains = [table.interval("gain", place) for place in range(len(table.arms))]
    goal = goal_of(table) if matched_gain is None else matched_gain
    axes = list(table.kept) if goal > 0 else []
    front = _front(table)
    placed = _ranks(table)
    names = [arm.recipe for arm in table.arms]
    drops = [
        {axis: table.interval(axis, place) for axis in table.kept}
        for place in range(len(table.arms))
    ]
    return [
        MethodRow(
            base=arm.base,
            target=arm.target,
            recipe=arm.recipe,
            seeds=arm.seeds,
            gain=gains[place],
            drops=drops[place],
            verdict=_verdict(drops[place], margins) if len(arm.seeds) > 1 else None,
            trajectories={axis: _trajectory(arm, table.kept[axis], axis) for axis in table.kept},
            matched={axis: matched_drop(table, place, axis, goal) for axis in axes},
            gain_per_drift=at_the_end(table, arm, drift),
            gain_per_kl=at_the_end(table, arm, kl),
            matched_per_drift=at_the_goal(table, place, goal, drift) if axes else None,
            matched_per_kl=at_the_goal(table, place, goal, kl) if axes else None,
            on_front=front[place].on_front if front else None,
            dominated_by=[names[i] for i in front[place].dominated_by] if front else [],
            tied_with=[names[i] for i in front[place].tied_with] if front else [],
            ranks={measure: found[place] for measure, found in placed.items()},
        )
        for place, arm in enumerate(table.arms)
    ]


def _verdict(drops: Mapping[str, Interval], margins: Mapping[str, float]) -> Verdict | None:
    """REGRESSION if a drop is shown to exceed its margin, PASS if each is shown not to."""
    if not drops:
        return None
    if any(drop.low > margins[axis] for axis, drop in drops.items()):
        return "REGRESSION"
    within = all(drop.high <= margins[axis] for axis, drop in drops.items())
    return "PASS" if within else "INCONCLUSIVE"


def _ranks(table: SeedTable) -> dict[str, list[list[int]]]:
    alpha = 1 - table.level
    return {
        measure: [[*rank] for rank in ranks(len(table.arms), found, alpha)]
        for measure, found in table.better().items()
    }


def _trajectory(arm: Arm, columns: ColumnLayout, axis: str) -> TrajectoryRow:
    """Of the mean over seeds and items, tasks weighted equally."""
    found = trajectory(arm.budgets, arm.drops[axis].mean(axis=0) @ columns.weights)
    return TrajectoryRow(**found._asdict())


def _front(table: SeedTable) -> list[FrontPoint]:
    """Front of gain against the drop on every axis that has a task above chance."""
    if not table.kept:
        return []
    measures = table.better()
    return pareto_front(len(table.arms), measures, dict.fromkeys(measures, MARGIN))
