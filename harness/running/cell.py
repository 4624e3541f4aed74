"""One cell -> its scorecard: train, then measure every kept checkpoint against the base.

For each point of the trajectory: per-item records (`evaluate`), geometry (`drift`), KL to the base
(`divergence`), each written to its own file and skipped when it is there; then `compare` turns the
files into the scorecard. Nothing is judged here.

Command: `retainbench run` does this for all cells.

What a run does on whatever machine does it: score the base, train and score one cell.

Reads a plan; writes into a run folder. The executors (running/pool.py, running/ray.py) call these
functions, so a cell's files do not depend on who ran it.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
from collections.abc import Callable
from pathlib import Path

from retainbench.harness.comparison import compare, noise_floor
from retainbench.harness.comparison.columns import columns
from retainbench.harness.comparison.compare import PointInput
from retainbench.harness.core import paths
from retainbench.harness.core.errors import RetainbenchError
from retainbench.harness.core.records import (
    CheckpointRecord,
    DivergenceSummary,
    DriftSummary,
    ItemRecord,
    Scorecard,
    TrainRecord,
)
from retainbench.harness.core.storage import read_json, read_jsonl, write_json, write_jsonl
from retainbench.harness.divergence.prompts import prompt_sets
from retainbench.harness.drift import measure as drift
from retainbench.harness.models import bases, loading
from retainbench.harness.models.loading import Loaded
from retainbench.harness.running import train as training
from retainbench.harness.scoring import evaluate, stored
from retainbench.harness.scoring import item_records as evaluate_records
from retainbench.harness.suites.plan import (
    Cell,
    Plan,
    excluded,
    policy_of,
    scored_targets,
    targets_of,
)
from retainbench.harness.tasks.catalogue import OWN, Catalogue

Watch = Callable[[Cell, float, dict[str, float]], None]


def train_and_score(
    plan: Plan,
    cell: Cell,
    folder: paths.RunFolder,
    device: str = "cpu",
    watch: Watch | None = None,
    report_to: tuple[str, ...] = (),
    tasks: Catalogue = OWN,
) -> Scorecard:
    """Everything one cell needs, from the base to its scorecard."""
    where = folder.cell(cell.id)
    told = (lambda share, metrics: watch(cell, share, metrics)) if watch else None
    trained = training.train(
        cell, where, device=device, progress=told, report_to=report_to, tasks=tasks
    )
    points: list[PointInput] = []
    for checkpoint in trained.checkpoints if trained.status == "done" else ():
        points.append(measure(plan, cell, folder, trained, checkpoint, device, tasks))
        if told:
            told(checkpoint.fraction, {"retention": retention(plan, cell, folder, points[-1])})
    scored = {*plan.retention, *scored_targets(cell)}
    base = read_jsonl(folder.base_point(cell.base).records, ItemRecord)
    return compare.scorecard(
        cell,
        trained,
        [record for record in base if record.task in scored],
        points,
        policy_of(plan.suite),
        provenance=provenance(plan, trained.environment),
        excluded=excluded(plan, cell),
        repeats=noise_floor.stored(folder.base_point(cell.base)),
    )


def retention(plan: Plan, cell: Cell, folder: paths.RunFolder, point: PointInput) -> float:
    """Mean over the axes of what a scored checkpoint kept: 0 is all, -0.1 is ten points lost.

    For the live view; tables keep the axes apart. NaN where no task of the base is above chance.
    """
    base, candidate = (
        {name: rows for name, rows in columns(records).items() if name in plan.retention}
        for records in (folder.base_point(cell.base).records, point.records)
    )
    outside = excluded(plan, cell)
    axes = compare.compare(base, candidate, policy_of(plan.suite), excluded=outside).axes
    return -sum(axis.drop.value for axis in axes) / len(axes) if axes else math.nan


def measure_noise(plan: Plan, folder: paths.RunFolder, device: str, tasks: Catalogue) -> None:
    """Score the base on the retention tasks once more in each way that the suite asks for.

    Ways that are there already are left; a way that no task can be scored in leaves no file.
    """
    where = folder.base_point(plan.suite.base)
    missing = [name for name in plan.suite.noise_floor if not where.noise(name).exists()]
    if not missing:
        return
    loaded = loading.load(bases.resolve(plan.suite.base).folder, device=device)
    store = store_of(plan, folder, device)
    for name in missing:
        again = evaluate.VARIATIONS[name]
        if records := stored.evaluate_stored(loaded, plan.retention, store, again, tasks):
            write_jsonl(where.noise(name), records)


def store_of(plan: Plan, folder: paths.RunFolder, device: str) -> stored.Store:
    """The run's results per item, of models scored on a device."""
    settings = stored.scoring_settings(device)
    return stored.Store(folder.evaluations, settings, plan.suite.items_per_task)


def measure(
    plan: Plan,
    cell: Cell,
    folder: paths.RunFolder,
    trained: TrainRecord,
    checkpoint: CheckpointRecord,
    device: str,
    tasks: Catalogue,
) -> PointInput:
    """Measure one checkpoint; finished measurements are read back."""
    where = folder.cell(cell.id)
    candidate = where.root / checkpoint.folder
    point = where.point(candidate.name)
    base = bases.resolve(cell.base).folder
    loaded: list[Loaded] = []

    def model() -> Loaded:
        if not loaded:
            loaded.append(loading.load(candidate, device=device))
        return loaded[0]

    if not point.records.exists():
        store = store_of(plan, folder, device)
        names = [*plan.retention, *scored_targets(cell)]
        write_jsonl(point.records, stored.evaluate_stored(model(), names, store, tasks=tasks))
    if not point.drift.exists():
        reached = metrics_at(where, checkpoint.ledger.steps)
        write_json(point.drift, drift.summarise(base, candidate, reached))
    if plan.suite.divergence_prompts and not point.divergence.exists():
        write_json(point.divergence, _diverge(plan, cell, folder, base, model(), device, tasks))
    return PointInput(
        checkpoint,
        read_jsonl(point.records, ItemRecord),
        read_json(point.drift, DriftSummary),
        read_json(point.divergence, DivergenceSummary) if point.divergence.exists() else None,
    )


def metrics_at(where: paths.CellFolder, steps: int) -> dict[str, float]:
    """The numbers that the step log holds for the last update before a checkpoint."""
    if not steps:
        return {}
    with where.steps.open(encoding="utf-8") as file:
        line = json.loads(next(itertools.islice(file, steps - 1, None)))
    return {name: value for name, value in line.items() if isinstance(value, (int, float))}


def _diverge(
    plan: Plan,
    cell: Cell,
    folder: paths.RunFolder,
    base: Path,
    candidate: Loaded,
    device: str,
    tasks: Catalogue,
) -> DivergenceSummary:
    """KL to the base on the target's prompts and on each retention axis' prompts."""
    from retainbench.harness.divergence import measure as divergence

    reference = loading.load(base, device=device)
    prompts = prompt_sets([cell.target, *plan.retention], plan.suite.divergence_prompts, tasks)
    return divergence.summarise(
        reference,
        candidate,
        prompts,
        cache=folder.base_point(cell.base).continuations,
        max_new_tokens=plan.suite.divergence_tokens,
    )


def crash_card(plan: Plan, cell: Cell, error: Exception) -> Scorecard:
    """The scorecard of a cell that raised; it stays visible in every table."""
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
    return compare.scorecard(
        cell, trained, [], [], policy_of(plan.suite), provenance=provenance(plan, {})
    )


def provenance(plan: Plan, environment: dict[str, str]) -> dict[str, str]:
    """Digests of what the numbers rest on, and the machine's versions."""
    frozen = {f"task {name}": value for name, value in plan.inputs.tasks.items()}
    return {"base": plan.inputs.base} | frozen | environment


log = logging.getLogger("retainbench")


def prepare(plan: Plan, root: Path, device: str, tasks: Catalogue = OWN) -> None:
    """Score the base on everything once, and store what the items ask."""
    folder = paths.RunFolder(root)
    known = tasks.tasks
    names = [*plan.retention, *targets_of(plan.suite)]
    for name in names:
        if not folder.items(name).exists():
            write_jsonl(folder.items(name), evaluate_records.item_texts(known[name]))
    where = folder.base_point(plan.suite.base)
    if not where.records.exists():
        base = loading.load(bases.resolve(plan.suite.base).folder, device=device)
        store = store_of(plan, folder, device)
        write_jsonl(where.records, stored.evaluate_stored(base, names, store, tasks=tasks))
    measure_noise(plan, folder, device, tasks)


def execute(
    plan: Plan,
    cell: Cell,
    root: Path,
    device: str,
    watch: Watch | None = None,
    report_to: tuple[str, ...] = (),
    tasks: Catalogue = OWN,
) -> Scorecard:
    """Train and score one cell; any failure of its own becomes a failed scorecard."""
    if card := finished(root, cell):
        return card
    folder = paths.RunFolder(root)
    try:
        card = train_and_score(plan, cell, folder, device, watch, report_to, tasks)
    except RetainbenchError:
        raise
    except Exception as error:  # one cell's crash must not stop the others; the trace is logged
        log.exception("cell %s (%s) crashed", cell.id, cell.label)
        return crashed(plan, cell, root, error)
    write_json(folder.cell(cell.id).scorecard, card)
    return card


def finished(root: Path, cell: Cell) -> Scorecard | None:
    """The stored scorecard of a cell that need not run again.

    A cell that failed by its method's own word (nothing accepted, NaN loss) stays failed; one that
    crashed runs again.
    """
    where = paths.RunFolder(root).cell(cell.id)
    if not where.scorecard.exists():
        return None
    card = read_json(where.scorecard, Scorecard)
    if card.status == "failed":
        own_word = where.train.exists() and read_json(where.train, TrainRecord).status == "failed"
        return card if own_word else None
    return card


def crashed(plan: Plan, cell: Cell, root: Path, error: Exception) -> Scorecard:
    """Write down that a cell crashed, so that it stays visible in every table."""
    card = crash_card(plan, cell, error)
    write_json(paths.RunFolder(root).cell(cell.id).scorecard, card)
    return card
