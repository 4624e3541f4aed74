"""One cell -> its scorecard: train, measure every kept checkpoint, compare with the base.

The executors (running/pool.py, running/clusters/) call `execute` wherever the cell runs: its files
do not depend on who ran it. Files that were damaged since an earlier command wrote them are made
again, from the start of the cell where nothing else gives the same bytes.

Writes `cells/<id>/scorecard.json`; training is running/training, measuring running/measure.py.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from retainbench.harness.comparison import compare, noise_floor
from retainbench.harness.comparison.columns import columns
from retainbench.harness.comparison.compare import PointInput
from retainbench.harness.core import paths
from retainbench.harness.core.errors import RetainbenchError, UsageError
from retainbench.harness.core.files.atomic import storage_failure
from retainbench.harness.core.files.storage import intact, read_json, read_jsonl, write_json
from retainbench.harness.core.records import ItemRecord, TrainRecord
from retainbench.harness.core.scorecards import VALIDATION_REWARD, Scorecard
from retainbench.harness.running import validation
from retainbench.harness.running.context import Context
from retainbench.harness.running.measure import measure
from retainbench.harness.running.training import damage
from retainbench.harness.running.training import train as training
from retainbench.harness.suites.plan import Cell, Plan, excluded, policy_of, scored_targets
from retainbench.trainers._shared.processes import LostProcessError

Watch = Callable[[Cell, float, dict[str, float]], None]
"""Called with a cell, the share of its budget that is spent, and the last step's metrics."""
T = TypeVar("T")
log = logging.getLogger("retainbench")


def execute(run: Context, cell: Cell, watch: Watch | None = None) -> Scorecard:
    """Train and score one cell; a failure of its own becomes a failed scorecard.

    Raises:
        RetainbenchError: something outside the cell, such as a full disk; the cell stays
            unfinished.
    """
    where = run.folder.cell(cell.id)
    if card := finished(where):
        return card
    try:
        card = undamaged(run, cell, partial(_attempt, run, cell, watch))
    except RetainbenchError:
        raise
    except LostProcessError as error:
        log.warning("%s: %s", cell.label, error)
        return crashed(run, cell, error)
    except Exception as error:  # one cell's crash must not stop the others; the trace is logged
        if reason := storage_failure(error):
            raise UsageError(f"{cell.label}: {reason}; then run the same command again") from error
        log.exception("cell %s (%s) crashed", cell.id, cell.label)
        return crashed(run, cell, error)
    write_json(where.scorecard, card, checked=True)
    return card


def finished(where: paths.CellFolder) -> Scorecard | None:
    """The stored scorecard of a cell that need not run again.

    A cell whose method ended it (nothing accepted, NaN loss) stays failed; one that crashed runs
    again, as does one of whose files any was damaged.
    """
    if not (intact(where.scorecard) and where.train.exists() and damage.intact_record(where)):
        return None
    card = read_json(where.scorecard, Scorecard)
    if card.status == "failed":
        failed = read_json(where.train, TrainRecord).status == "failed"
        return card if failed else None
    names = [paths.point_name(point.stage, point.fraction) for point in card.scored]
    points = [where.point(name) for name in names]
    measured = [file for point in points for file in (point.records, point.drift)]
    diverged = [p.divergence for p, s in zip(points, card.scored, strict=True) if s.divergence]
    return card if all(intact(file) for file in (*measured, *diverged)) else None


def undamaged(run: Context, cell: Cell, attempt: Callable[[], T]) -> T:
    """What an attempt returns; a second one from the cell's start if a checkpoint was damaged."""
    try:
        return attempt()
    except damage.DamagedError as error:
        log.warning("%s: %s; the cell is trained again", cell.label, error)
        damage.discard(run.folder.cell(cell.id))
        return attempt()


def _attempt(run: Context, cell: Cell, watch: Watch | None) -> Scorecard:
    """Everything one cell needs."""
    where = run.folder.cell(cell.id)
    report = (lambda share, metrics: watch(cell, share, metrics)) if watch else None
    trained = training.train(
        cell,
        where,
        run.base,
        device=run.device,
        progress=report,
        report_to=run.report_to,
        tasks=run.tasks,
        rendering=run.rendering,
    )
    chosen = validation.kept(run, cell, trained)
    if chosen.reward is not None:
        metrics = trained.metrics | {VALIDATION_REWARD: chosen.reward}
        trained = trained.model_copy(update={"metrics": metrics})
    points: list[PointInput] = []
    kept = [*chosen.checkpoints, *trained.interpolated]
    for checkpoint in kept if trained.status == "done" else ():
        points.append(measure(run, cell, checkpoint))
        if report:
            report(checkpoint.fraction, {"retention": retention(run, cell, points[-1])})
    scored = {*run.plan.retention, *scored_targets(cell)}
    base = read_jsonl(run.base_point.records, ItemRecord)
    return compare.scorecard(
        cell,
        trained,
        [record for record in base if record.task in scored],
        points,
        policy_of(run.plan.suite, run.tasks),
        provenance=provenance(run.plan, trained.environment),
        excluded=excluded(run.plan, cell),
        repeats=noise_floor.stored(run.base_point),
    )


def retention(run: Context, cell: Cell, point: PointInput) -> float:
    """Mean over the axes of what a scored checkpoint kept: 0 is all, -0.1 is ten points lost.

    For the live view; tables keep the axes apart. NaN where no task of the base is above chance.
    """
    base, candidate = (
        {name: rows for name, rows in columns(records).items() if name in run.plan.retention}
        for records in (run.base_point.records, point.records)
    )
    outside = excluded(run.plan, cell)
    axes = compare.compare(
        base, candidate, policy_of(run.plan.suite, run.tasks), excluded=outside
    ).axes
    return -sum(axis.drop.value for axis in axes) / len(axes) if axes else math.nan


def crashed(run: Context, cell: Cell, error: Exception) -> Scorecard:
    """Write down that a cell crashed, so that it stays visible in every table."""
    trained = TrainRecord(
        cell=cell.id,
        status="failed",
        reason=f"{type(error).__name__}: {error}",
        checkpoints=[],
        trainable_parameters=0,
        total_parameters=0,
        metrics={},
        dtypes={},
        environment={},
    )
    policy = policy_of(run.plan.suite, run.tasks)
    card = compare.scorecard(cell, trained, [], [], policy, provenance=provenance(run.plan, {}))
    write_json(run.folder.cell(cell.id).scorecard, card, checked=True)
    return card


def provenance(plan: Plan, environment: dict[str, str]) -> dict[str, str]:
    """Digests of what the numbers rest on, and the machine's versions."""
    frozen = {f"task {name}": value for name, value in plan.inputs.tasks.items()}
    frozen |= {f"method {name}": value for name, value in plan.inputs.methods.items()}
    if plan.suite.scoring:
        frozen["scoring"] = str(plan.suite.scoring)
    return {"base": plan.inputs.base} | frozen | environment
