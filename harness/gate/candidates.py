"""Stored results -> verdicts: gates every candidate of a run folder, or one pair of record files.

Reads `plan.json`, the base's and the candidates' `records.jsonl`, and scorecards for what is not a
score; trains and scores nothing. Drops are computed again from the records, so that a scorecard
which was edited, or made under another policy, decides nothing. A candidate that cannot be judged
becomes ERROR and the others go on; what breaks them all raises.

Command: `retainbench gate RUN` and `retainbench gate --base-records A --candidate-records B`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from retainbench.harness.comparison.columns import Columns, Records, columns
from retainbench.harness.comparison.compare import Excluded, compare, gain
from retainbench.harness.comparison.noise_floor import Repeats, stored
from retainbench.harness.core import paths
from retainbench.harness.core.changes import TaskChange
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.files.storage import digest, read_json, sha256_file, was_written
from retainbench.harness.core.scorecards import Scorecard
from retainbench.harness.core.verdicts import FULL, GateResult, failed, first_items
from retainbench.harness.gate.decide import NOT_MEASURED, Movement, gate
from retainbench.harness.gate.tiers import Tier, cut
from retainbench.harness.suites import plan as planning
from retainbench.harness.suites.plan import Cell, Plan

if TYPE_CHECKING:
    from retainbench.harness.core.schema import Policy


def gate_run(
    run: Path,
    policy: Policy | None = None,
    *,
    cells: Sequence[str] = (),
    tier: Tier = "full",
    excluded: Excluded | None = None,
) -> list[GateResult]:
    """Gate the end point of every cell of a run folder, in the plan's order.

    Args:
        policy: instead of the suite's own.
        cells: ids to gate; all when empty.
        excluded: instead of the contaminated items that the plan excludes.

    Raises:
        UsageError: not a run folder, an unknown cell, or a policy that cannot be applied.
        IntegrityError: the plan or the base's records are missing or broken.
    """
    folder = paths.RunFolder(run)
    if not was_written(folder.plan):
        raise UsageError(f"{run} is not a run folder: it has no plan.json")
    plan = read_json(folder.plan, Plan)
    chosen = _chosen(plan, cells)
    base_records = folder.base_point(plan.suite.base).records
    base, base_digest = columns(base_records), sha256_file(base_records)
    # Not `policy_of`: what was mandatory is what the run scored, not what is installed today.
    applied = policy or plan.suite.policy
    repeats = stored(folder.base_point(plan.suite.base))
    results = [
        _gate_cell(folder, plan, cell, base, applied, tier, excluded, repeats) for cell in chosen
    ]
    return [
        result.model_copy(update={"digests": {**result.digests, "base_records": base_digest}})
        for result in results
    ]


def gate_records(
    base: Records,
    candidate: Records,
    policy: Policy,
    *,
    name: str = "candidate",
    expected: Sequence[str] = (),
    movement: Movement = NOT_MEASURED,
    tier: Tier = "full",
    part: str = FULL,
    excluded: Excluded | None = None,
    repeats: Repeats | None = None,
    target: str | None = None,
) -> GateResult:
    """Gate one candidate from two files (or lists) of item records.

    Args:
        expected: retention tasks that must be there; the policy's mandatory ones always must.
        part: which items the records hold, unless all: with a part nothing can pass.
        repeats: repeat scorings of the base; churn that they explain is not a regression.
        target: whose gain counts, if the records hold several targets.

    Raises:
        IntegrityError: the records do not pair, or nothing is gated.
    """
    sides = cut(columns(base), columns(candidate), tier)
    parts = {name: columns(one) for name, one in (repeats or {}).items()}
    again = {name: cut(part, part, tier).base for name, part in parts.items()}
    found = compare(*sides, policy, excluded=excluded, repeats=again)
    gained = [one for one in found.targets if target in (None, one.task)]
    if movement.gain is None and len(gained) == 1:
        movement = movement._replace(gain=gain(gained[0]))
    return gate(
        found.tasks,
        found.axes,
        policy,
        perplexity=found.perplexity,
        candidate=name,
        expected=expected,
        movement=movement,
        tier=part if tier == "full" else _of_tier(tier, found.tasks),
        digests=_digests(base, candidate, policy),
    )


def _chosen(plan: Plan, cells: Sequence[str]) -> list[Cell]:
    known = {cell.id: cell for cell in plan.cells}
    for name in cells:
        if name not in known:
            raise UsageError(f"no cell {name!r} in this run; `retainbench plan` lists them")
    return [known[name] for name in cells] if cells else plan.cells


def _gate_cell(
    folder: paths.RunFolder,
    plan: Plan,
    cell: Cell,
    base: Columns,
    policy: Policy,
    tier: Tier,
    excluded: Excluded | None,
    repeats: Repeats,
) -> GateResult:
    where = folder.cell(cell.id)
    try:
        card = read_json(where.scorecard, Scorecard)
        if card.status == "failed" or not card.points:
            why = card.reason or "it has no scored point"
            raise IntegrityError(f"the cell failed and cannot be judged: {why}")
        end = card.points[-1]
        records = where.point(paths.point_name(end.stage, end.fraction)).records
        scored = {*plan.retention, *planning.scored_targets(cell)}
        result = gate_records(
            {label: rows for label, rows in base.items() if label.split("/")[0] in scored},
            records,
            policy,
            name=cell.id,
            expected=plan.retention,
            movement=Movement(drift=end.drift, divergence=end.divergence),
            tier=tier,
            part=first_items(plan.suite.items_per_task),
            excluded=excluded or planning.excluded(plan, cell),
            repeats=repeats,
            target=cell.target,
        )
    except IntegrityError as error:
        return failed(cell.id, cell.label, str(error), policy.alpha)
    return result.model_copy(update={"label": cell.label})


def _of_tier(tier: Tier, tasks: Sequence[TaskChange]) -> str:
    return f"tier {tier}, {max((change.n for change in tasks), default=0)} items of each task"


def _digests(base: Records, candidate: Records, policy: Policy) -> Mapping[str, str]:
    files = {"base_records": base, "candidate_records": candidate}
    found = {name: sha256_file(path) for name, path in files.items() if isinstance(path, Path)}
    return found | {"policy": digest(policy.model_dump(mode="json"))}
