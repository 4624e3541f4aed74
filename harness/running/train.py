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
from pathlib import Path
from typing import Any

from retainbench.harness.core import paths
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.files.atomic import explained
from retainbench.harness.core.files.storage import (
    intact,
    read_json,
    sha256_file,
    write_digest,
    write_json,
)
from retainbench.harness.core.records import CheckpointRecord, Ledger, TrainRecord
from retainbench.harness.core.schema import Budget
from retainbench.harness.core.stages import INTERPOLATE
from retainbench.harness.models import checked, loading
from retainbench.harness.models.checked import Base
from retainbench.harness.running.general_text import texts_of
from retainbench.harness.suites import methods, teachers
from retainbench.harness.suites.plan import NUMERIC_PACKAGES, Cell
from retainbench.harness.tasks import catalogue
from retainbench.harness.tasks.catalogue import OWN, Catalogue
from retainbench.harness.tasks.rendering import answers
from retainbench.harness.tasks.rendering.chat import PLAIN, Rendering
from retainbench.trainers._shared import processes
from retainbench.trainers._shared.contract import Job, Outcome, Target, TrainingError

log = logging.getLogger("retainbench")
OnProgress = Callable[[float, dict[str, float]], None]


class DamagedError(Exception):
    """A checkpoint is not the one that was trained; training the cell again gives it back."""


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
    if folder.root.exists() and not intact_record(folder):
        log.warning("%s: files of its training were damaged; it is trained again", cell.label)
        discard(folder)
    if folder.train.exists():
        _remove_states(folder)
        return read_json(folder.train, TrainRecord)
    checkpoints: list[CheckpointRecord] = []
    interpolated: list[CheckpointRecord] = []
    outcome, reason = Outcome({}), None
    try:
        for stage, spec in enumerate(cell.recipe.stages):
            job = make_job(cell, stage, base.folder, folder, checkpoints, device, tasks, rendering)
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


def intact_record(folder: paths.CellFolder) -> bool:
    """Whether what training has written so far, weights apart, is what it wrote."""
    logged = [folder.train, folder.steps] if folder.train.exists() else []
    records = folder.checkpoints.glob("*.json")
    return all(intact(file) for file in (*records, *logged) if file.exists())


def discard(folder: paths.CellFolder) -> None:
    """Remove all that a cell has written, so that it starts again."""
    with explained(folder.root, "remove"):
        shutil.rmtree(folder.root)


def require_trained(checkpoint: Path, record: CheckpointRecord) -> None:
    """Check a checkpoint's files against the digest of the time when it was written.

    Raises:
        DamagedError: a file was changed or is missing.
    """
    try:
        digest = checked.check(checkpoint).digest
    except IntegrityError as error:
        raise DamagedError(str(error)) from error
    if digest != record.weights_digest:
        raise DamagedError(f"{checkpoint} was damaged after it was written")


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

    begin, end = stage_span(cell, stage, job.spent)
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
    target = load_target(spec.target or cell.target, tasks, rendering)
    outcome: Outcome = methods.load(spec.method, tasks.methods).train(
        Job(**given, target=target, progress=progress)
    )
    return outcome


def stage_span(cell: Cell, stage: int, spent: Ledger) -> tuple[float, float]:
    """Begin and end of a stage as shares of the cell's budget; an interpolation has none of it.

    It begins where the stage before it stopped, a step past its own end perhaps, so that a recipe
    of many stages overshoots the budget by no more than one step.

    Raises:
        TrainingError: the stages before have spent this one's share too.
    """
    if stage == len(cell.recipe.trained):
        return 1.0, 1.0  # an interpolation
    shares = [stage.share for stage in cell.recipe.trained]
    end = sum(shares[: stage + 1]) / sum(shares)
    if not cell.budget.amount:
        return sum(shares[:stage]) / sum(shares), end
    begin = spent.used(cell.budget.unit) / cell.budget.amount
    if begin >= end:
        raise TrainingError(
            f"stage {stage} has no budget: the stages before it spent {begin:.0%} of the recipe's, "
            f"and it ends at {end:.0%}; use a larger budget or smaller steps"
        )
    return begin, end


def make_job(
    cell: Cell,
    stage: int,
    base: Path,
    folder: paths.CellFolder,
    before: list[CheckpointRecord],
    device: str,
    tasks: Catalogue,
    rendering: Rendering = PLAIN,
) -> Job:
    """The job of one stage: the points of the trajectory that fall into it, and its end.

    Those of an interpolation are its weights.
    """
    spec = cell.recipe.stages[stage]
    spent = before[-1].ledger if before else Ledger()
    begin, end = stage_span(cell, stage, spent)
    options = methods.options(spec, tasks.methods)
    if spec.method == INTERPOLATE:
        points = tuple((paths.point_name(stage, w), w) for w in sorted(options.weights))
    else:
        inside = [f for f in cell.trajectory if (begin < f < end) or (f == 0.0 and stage == 0)]
        points = tuple(
            (paths.point_name(stage, fraction), (fraction - begin) / (end - begin))
            for fraction in [*inside, end]
        )
    return Job(
        base=stage_base(folder, before) if before else base,
        reference=base,
        target=load_target(spec.target or cell.target, tasks, rendering),
        adaptation=spec.adaptation,
        options=options,
        anchor=spec.anchor,
        budget=Budget(unit=cell.budget.unit, amount=cell.budget.amount * (end - begin)),
        spent=spent,
        points=points,
        seed=cell.seed,
        stage=stage,
        out=folder.root,
        device=device,
        dtype=cell.dtype,
        replay=spec.replay,
        texts=texts_of(spec, base, cell.seed, tasks, device),
        teacher=teachers.find(spec.teacher, checked.check(base), tasks) if spec.teacher else None,
    )


def stage_base(folder: paths.CellFolder, before: list[CheckpointRecord]) -> Path:
    """A full checkpoint to start the next stage from: adapters are merged first.

    Raises:
        DamagedError: the checkpoint is not the one that was trained.
    """
    last = folder.root / before[-1].folder
    require_trained(last, before[-1])
    if not (last / "adapter_config.json").exists():
        return last
    merged = last.with_name(last.name + "-merged")
    loading.save(loading.load(last), merged)
    return merged


def load_target(name: str, tasks: Catalogue = OWN, rendering: Rendering = PLAIN) -> Target:
    """A target's training and validation items and its reward; its test items stay out.

    All of them are rendered once here: a chat template runs in a process of its own, which takes a
    second to start.
    """
    info = tasks.tasks[name]
    reward = catalogue.reward(info)
    target = Target(
        name=name,
        train=catalogue.split(info, "train"),
        validation=catalogue.split(info, "validation"),
        reward=answers.judging(reward.reward, info.answer),
        valid=answers.judging(reward.valid, info.answer),
        max_new_tokens=info.max_new_tokens,
        template=info.template,
        rendering=rendering,
        stop=info.stop,
    )
    if rendering.chat is not None:
        target.completions([*target.train, *target.validation])
    return target


def environment(device: str) -> dict[str, Any]:
    """Versions and machine, recorded with every cell."""
    versions = {name: version(name) for name in NUMERIC_PACKAGES}
    machine = {"python": platform.python_version(), "machine": platform.machine()}
    return versions | machine | {"device": device, "system": platform.system()}
