"""One cell -> its trajectory of checkpoints, through the trainers of its stages.

Reads the cell, its base and its target; writes `train.json`, `steps.jsonl` and `checkpoints/` in
the cell's folder. A finished cell is left alone, an interrupted one goes on from its last state, a
cell whose files were damaged starts again, and a cell whose method cannot go on is recorded as
failed with the reason and never counts as success.

Command: part of `retainbench run`.
"""

from __future__ import annotations

import logging
import platform
import shutil
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any

from retainbench.harness.core import paths
from retainbench.harness.core.files.storage import (
    read_json,
    sha256_file,
    write_digest,
    write_json,
)
from retainbench.harness.core.records import CheckpointRecord, TrainRecord
from retainbench.harness.core.stages import INTERPOLATE
from retainbench.harness.models.checked import Base
from retainbench.harness.running.training import damage, jobs
from retainbench.harness.suites import methods
from retainbench.harness.suites.plan import NUMERIC_PACKAGES, Cell
from retainbench.harness.tasks.catalogue import OWN, Catalogue
from retainbench.harness.tasks.rendering.chat import PLAIN, Rendering
from retainbench.trainers._shared import processes
from retainbench.trainers._shared.contract import Job, Outcome, TrainingError

log = logging.getLogger("retainbench")
OnProgress = Callable[[float, dict[str, float]], None]


def train(
    cell: Cell,
    folder: paths.CellFolder,
    base: Base,
    *,
    device: str = "cpu",
    progress: OnProgress | None = None,
    report_to: tuple[str, ...] = (),
    tasks: Catalogue = OWN,
    rendering: Rendering = PLAIN,
) -> TrainRecord:
    """Train one cell, or return the record of a cell that is already trained.

    Args:
        base: the cell's base, checked.
        progress: called with the share of the whole budget that is spent and the step's metrics.

    Raises:
        DamagedError: a stage starts from a checkpoint that was damaged.
    """
    if folder.root.exists() and not damage.intact_record(folder):
        log.warning("%s: files of its training were damaged; it is trained again", cell.label)
        damage.discard(folder)
    if folder.train.exists():
        _remove_states(folder)
        return read_json(folder.train, TrainRecord)
    checkpoints: list[CheckpointRecord] = []
    interpolated: list[CheckpointRecord] = []
    outcome, reason = Outcome({}), None
    try:
        for stage, spec in enumerate(cell.recipe.stages):
            job = jobs.make_job(
                cell, stage, base.folder, folder, checkpoints, device, tasks, rendering
            )
            outcome = _run_stage(cell, stage, job, progress, report_to, outcome, tasks)
            records = [folder.checkpoint_record(name) for name, _ in job.points]
            if spec.method == methods.OUTSIDE:
                records = [record for record in records if record.exists()]  # the points it reached
            kept = interpolated if spec.method == INTERPOLATE else checkpoints
            kept += [read_json(record, CheckpointRecord) for record in records]
    except TrainingError as error:
        reason = str(error)
    record = TrainRecord(
        cell=cell.id,
        status="failed" if reason else "done",
        reason=reason or outcome.reason,
        checkpoints=checkpoints,
        interpolated=interpolated,
        metrics=outcome.metrics,
        environment=environment(device) | ({"processes": cell.processes} if cell.processes else {}),
        dtypes={"parameter": "float32", "master": "float32", "optimizer": "float32"}
        | {"compute": cell.dtype, "saved": "float32"},
        total_parameters=outcome.parameters,
        trainable_parameters=outcome.trainable,
    )
    if folder.steps.exists():
        write_digest(folder.steps, sha256_file(folder.steps))
    write_json(folder.train, record, checked=True)
    _remove_states(folder)
    return record


def _remove_states(folder: paths.CellFolder) -> None:
    """A trained cell resumes nothing; its states are several times as large as its checkpoints."""
    for state in folder.root.glob("state-*"):
        shutil.rmtree(state)


def _run_stage(
    cell: Cell,
    stage: int,
    job: Job,
    progress: OnProgress | None,
    report_to: tuple[str, ...],
    before: Outcome,
    tasks: Catalogue,
) -> Outcome:
    """Train one stage and carry the metrics of earlier stages along.

    `es_null` is the whole recipe's: a stage goes on from the one before it, and where a stage moves
    the weights otherwise there is none any more, because the drift is not a random walk alone.
    """
    from dataclasses import replace

    begin, end = jobs.stage_span(cell, stage, job.spent)
    job = replace(job, report_to=report_to, null=before.metrics.get("es_null") if stage else 0.0)
    if progress:
        tell = progress
        job = replace(
            job, progress=lambda share, metrics: tell(begin + share * (end - begin), metrics)
        )
    module = methods.load(cell.recipe.stages[stage].method, tasks.methods)
    if stage == len(cell.recipe.trained):
        module.train(job)
        return before
    outcome = _train(cell, stage, job, module, tasks)
    carried = {name: value for name, value in before.metrics.items() if name != "es_null"}
    return outcome._replace(metrics=carried | outcome.metrics)


def _train(cell: Cell, stage: int, job: Job, module: Any, tasks: Catalogue) -> Outcome:
    """Call the method here, or in several processes that share its batches."""
    number = cell.recipe.stages[stage].processes
    if number == 1:
        outcome: Outcome = module.train(job)
        return outcome
    given = {k: v for k, v in vars(job).items() if k not in ("target", "progress", "updated")}
    call = partial(_train_together, cell, stage, given, tasks, job.target.rendering)
    return processes.run(call, number, job.device, job.progress)


def _train_together(
    cell: Cell,
    stage: int,
    given: dict[str, Any],
    tasks: Catalogue,
    rendering: Rendering,
    progress: processes.Progress,
) -> Outcome:
    """In each of several processes; the code of a target cannot be sent, so it is loaded again."""
    spec = cell.recipe.stages[stage]
    target = jobs.load_target(spec.target or cell.target, tasks, rendering)
    outcome: Outcome = methods.load(spec.method, tasks.methods).train(
        Job(**given, target=target, progress=progress)
    )
    return outcome


def environment(device: str) -> dict[str, Any]:
    """Versions and machine, recorded with every cell."""
    versions = {name: version(name) for name in NUMERIC_PACKAGES}
    machine = {"python": platform.python_version(), "machine": platform.machine()}
    return versions | machine | {"device": device, "system": platform.system()}
