"""Where a plan of items and seeds is measured: a run folder, or a suite before anything is trained.

A run's end points are the pilots of the next run, and its seeds size it. Of a suite the base is
scored, once as it is and once in each way of the noise floor, or taken from the cache that
certificates use (which is written). The flips of base against base are measured discordance and the
least that any candidate shows; what training adds, a run measures, or the records of a pilot.

Command: `retainbench power RUN|SUITE`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from retainbench.harness.comparison.arms import Arm, Arms, load
from retainbench.harness.comparison.changes import axis_margin_of
from retainbench.harness.comparison.columns import Records, columns
from retainbench.harness.core import paths
from retainbench.harness.core.axes import ordered
from retainbench.harness.core.files.storage import read_json
from retainbench.harness.core.scorecards import Scorecard
from retainbench.harness.models import bases
from retainbench.harness.scoring.stored import score_base, score_repeats
from retainbench.harness.statistics.methods.seeds import ColumnLayout, two_way
from retainbench.harness.statistics.power import seeds_needed
from retainbench.harness.study_design.power import Power, SeedPower, power_plan
from retainbench.harness.suites import plan as planning
from retainbench.harness.suites.plan import Plan
from retainbench.harness.tasks.catalogue import OWN, Catalogue

if TYPE_CHECKING:
    from retainbench.harness.core.schema import Policy, Suite
    from retainbench.harness.scoring.stored import Scoring

FEWEST_SEEDS = 2  # a variance between seeds needs two


def power_suite(
    suite: Suite,
    policy: Policy | None,
    scoring: Scoring,
    pilots: Sequence[Records] = (),
    tasks: Catalogue = OWN,
) -> Power:
    """What the suite's items can show under its policy, or another one.

    Args:
        scoring: how to score the base, and its `repeats`.
        pilots: scorings of the same items by other models, instead of the base's own repeats.

    Raises:
        UsageError: the base is not there.
        IntegrityError: a task differs from its lock, or a pilot holds other items.
    """
    names, most = planning.retention_tasks(suite), suite.items_per_task
    tasks.locks(names)
    base = bases.resolve(suite.base)
    records, _ = score_base(base, names, scoring, most, tasks)
    repeats = {} if pilots else score_repeats(base, names, scoring, most, tasks)
    return power_plan(records, policy or planning.policy_of(suite, tasks), pilots, repeats)


def power_run(run: Path, policy: Policy | None = None) -> Power:
    """What a run's items can show: its end points are the pilots, its seeds size the next run."""
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


def _seeds(target: str, arm: Arm, arms: Arms, policy: Policy) -> list[SeedPower]:
    """Seeds per axis, from the variances between this run's seeds and items."""
    if len(arm.seeds) < FEWEST_SEEDS:
        return []
    found = []
    for axis in ordered(arm.drops):
        tasks = arms.kept[axis].tasks
        columns = ColumnLayout(range(len(tasks)), tasks)
        # Weighted so that the plain mean over items is the mean of task means.
        table = arm.drops[axis][:, -1] * columns.weights * len(tasks)
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
