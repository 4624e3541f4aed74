"""One cell -> its scorecard: train, then measure every kept checkpoint against the base.

For each point of the trajectory: per-item records (`evaluate`), geometry (`drift`), KL to the base
(`divergence`), each written to its own file and skipped when it is there; then `compare` turns the
files into the scorecard. Nothing is judged here.

Command: `retainbench run` does this for all cells.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from retainbench.harness import bases, compare, divergence, drift, evaluate, paths, tasks
from retainbench.harness import train as training
from retainbench.harness.bases import Loaded
from retainbench.harness.plan import Cell, Plan
from retainbench.harness.records import (
    CheckpointRecord,
    DivergenceSummary,
    DriftSummary,
    ItemRecord,
    PointScore,
    Scorecard,
    TrainRecord,
    read_json,
    read_jsonl,
    write_json,
    write_jsonl,
)

Watch = Callable[[Cell, float, dict[str, float]], None]


def train_and_score(
    plan: Plan,
    cell: Cell,
    folder: paths.RunFolder,
    device: str = "cpu",
    watch: Watch | None = None,
    report_to: tuple[str, ...] = (),
) -> Scorecard:
    """Everything one cell needs, from the base to its scorecard."""
    where = folder.cell(cell.id)
    told = (lambda share, metrics: watch(cell, share, metrics)) if watch else None
    trained = training.train(cell, where, device=device, progress=told, report_to=report_to)
    if trained.status == "failed":
        return failed(plan, cell, trained.reason or "failed", trained)
    points = [
        score_point(plan, cell, folder, where, trained, checkpoint, device)
        for checkpoint in trained.checkpoints
    ]
    return _card(plan, cell, trained, points)


def score_point(
    plan: Plan,
    cell: Cell,
    folder: paths.RunFolder,
    where: paths.CellFolder,
    trained: TrainRecord,
    checkpoint: CheckpointRecord,
    device: str,
) -> PointScore:
    """Measure one checkpoint; finished measurements are read back."""
    candidate = where.root / checkpoint.folder
    point = where.point(candidate.name)
    base = bases.resolve(cell.base)
    names = [*plan.retention, cell.target]
    loaded: list[Loaded] = []

    def model() -> Loaded:
        if not loaded:
            loaded.append(bases.load(candidate, device=device))
        return loaded[0]

    if not point.records.exists():
        store = evaluate.Store(folder.evaluations, limit=plan.suite.items_per_task)
        write_jsonl(point.records, evaluate.evaluate_stored(model(), names, store))
    if not point.drift.exists():
        write_json(point.drift, drift.summarise(base.folder, candidate, trained.metrics))
    if plan.suite.divergence_prompts and not point.divergence.exists():
        write_json(point.divergence, _diverge(plan, cell, folder, base.folder, model(), device))
    known = folder.base_point(cell.base)
    wanted = {*names}
    base_records = [r for r in read_jsonl(known.records, ItemRecord) if r.task in wanted]
    return compare.point_score(
        base_records,
        read_jsonl(point.records, ItemRecord),
        plan.suite.policy,
        checkpoint=checkpoint,
        drift=read_json(point.drift, DriftSummary),
        divergence=(
            read_json(point.divergence, DivergenceSummary) if point.divergence.exists() else None
        ),
    )


def _diverge(
    plan: Plan,
    cell: Cell,
    folder: paths.RunFolder,
    base: Path,
    candidate: Loaded,
    device: str,
) -> DivergenceSummary:
    """KL to the base on the target's prompts and on each retention axis' prompts."""
    reference = bases.load(base, device=device)
    prompts = prompt_sets(plan, cell.target)
    return divergence.summarise(
        reference,
        candidate,
        prompts,
        cache=folder.base_point(cell.base).continuations,
        max_new_tokens=plan.suite.divergence_tokens,
    )


def prompt_sets(plan: Plan, target: str) -> dict[str, list[str]]:
    """The first prompts of the target's test split and of each axis, spread over its tasks."""
    known = tasks.discover()
    by_axis: dict[str, list[list[str]]] = {}
    for name in [target, *plan.retention]:
        info = known[name]
        by_axis.setdefault(info.axis, []).append(tasks.prompts(info))
    number = plan.suite.divergence_prompts
    return {axis: _round_robin(lists)[:number] for axis, lists in by_axis.items()}


def _round_robin(lists: list[list[str]]) -> list[str]:
    longest = max(len(entries) for entries in lists)
    return [entries[n] for n in range(longest) for entries in lists if n < len(entries)]


def failed(
    plan: Plan, cell: Cell, reason: str, trained: TrainRecord | None = None
) -> Scorecard:
    """The scorecard of a cell that has no result; it stays visible in every table."""
    return _card(plan, cell, trained, [], reason)


def _card(
    plan: Plan,
    cell: Cell,
    trained: TrainRecord | None,
    points: list[PointScore],
    reason: str | None = None,
) -> Scorecard:
    return Scorecard(
        cell=cell.id,
        base=cell.base,
        target=cell.target,
        recipe=cell.name,
        method=cell.recipe.method,
        adaptation=cell.recipe.adaptation,
        seed=cell.seed,
        budget=str(cell.budget),
        status="done" if points else "failed",
        reason=reason or (trained.reason if trained else None),
        points=points,
        metrics=trained.metrics if trained else {},
        trainable_parameters=trained.trainable_parameters if trained else 0,
        total_parameters=trained.total_parameters if trained else 0,
        provenance={"base": plan.inputs.base}
        | {f"task {name}": value for name, value in plan.inputs.tasks.items()}
        | (trained.environment if trained else {}),
    )
