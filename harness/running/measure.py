"""One checkpoint -> its measurements: records per item, drift, KL to the base.

Each goes to its own file with a digest; a file that is there and intact is read back. Nothing is
judged here.
"""

from __future__ import annotations

from retainbench.harness.comparison.compare import PointInput
from retainbench.harness.core.files.storage import (
    intact,
    read_json,
    read_jsonl,
    write_json,
    write_jsonl,
)
from retainbench.harness.core.records import CheckpointRecord, ItemRecord
from retainbench.harness.core.scorecards import DivergenceSummary, DriftSummary
from retainbench.harness.divergence.prompts import most_prompts, prompt_sets
from retainbench.harness.drift import measure as drift
from retainbench.harness.models import bases, shared
from retainbench.harness.models.loading import Loaded
from retainbench.harness.running.context import Context
from retainbench.harness.running.training.damage import require_trained
from retainbench.harness.scoring import stored
from retainbench.harness.suites.plan import Cell, scored_targets


def measure(run: Context, cell: Cell, checkpoint: CheckpointRecord) -> PointInput:
    """Measure what is missing of one checkpoint.

    Raises:
        DamagedError: the checkpoint is not the one that was trained.
    """
    where = run.folder.cell(cell.id)
    candidate = where.root / checkpoint.folder
    point = where.point(candidate.name)
    diverges = bool(run.plan.suite.divergence_prompts)
    files = [point.records, point.drift, *([point.divergence] if diverges else [])]
    missing = [file for file in files if not intact(file)]
    if missing:
        require_trained(candidate, checkpoint)
    if point.records in missing or point.divergence in missing:
        loaded = shared.candidate(bases.of_folder(candidate, run.base), run.placement)
        if point.records in missing:
            write_jsonl(point.records, _records(run, cell, loaded), checked=True)
        if point.divergence in missing:
            write_json(point.divergence, _divergence(run, cell, loaded), checked=True)
    if point.drift in missing:
        moved = drift.summarise(run.base.folder, candidate, checkpoint.metrics)
        write_json(point.drift, moved, checked=True)
    return PointInput(
        checkpoint,
        read_jsonl(point.records, ItemRecord),
        read_json(point.drift, DriftSummary),
        read_json(point.divergence, DivergenceSummary) if diverges else None,
    )


def _records(run: Context, cell: Cell, candidate: Loaded) -> list[ItemRecord]:
    names = [*run.plan.retention, *scored_targets(cell)]
    return stored.evaluate_stored(candidate, names, run.store, tasks=run.tasks)


def _divergence(run: Context, cell: Cell, candidate: Loaded) -> DivergenceSummary:
    """KL to the base on the target's prompts and on each retention axis' prompts."""
    from retainbench.harness.divergence import measure as divergence
    from retainbench.harness.divergence.continuations import Extent

    suite = run.plan.suite
    names = [cell.target, *run.plan.retention]
    return divergence.summarise(
        run.reference(),
        candidate,
        prompt_sets(names, most_prompts(suite), run.tasks, run.rendering),
        cache=run.base_point.continuations,
        max_new_tokens=suite.divergence_tokens,
        extent=Extent(suite.divergence_prompts, suite.divergence_minimum_tokens),
        rendering=run.rendering,
    )
