"""Execute a plan: train and score every cell, resume after a kill, keep going past failures.

A run folder belongs to one plan. Cells are independent and finish one by one; a finished cell is
read back, an interrupted one goes on from its last state, and a cell that fails is recorded with
its reason while the others run. The tables at the end are the same whatever was interrupted.

Writes everything that `paths.RunFolder` names. Command: `retainbench run SUITE [--out RUN]`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

from retainbench.harness import bases, evaluate, paths, score, tasks
from retainbench.harness.errors import RetainbenchError, UsageError
from retainbench.harness.plan import Cell, Plan, targets_of
from retainbench.harness.records import (
    Scorecard,
    read_json,
    write_json,
    write_jsonl,
)

log = logging.getLogger("retainbench")

Watch = Callable[[Cell, float, dict[str, float]], None]
"""Called with a cell, the share of its budget that is spent and the last step's metrics."""
Finished = Callable[[Cell, Scorecard], None]


def run(
    plan: Plan,
    root: Path,
    *,
    device: str = "cpu",
    workers: int = 1,
    watch: Watch | None = None,
    finished: Finished | None = None,
    report_to: tuple[str, ...] = (),
) -> list[Scorecard]:
    """Run what is missing of a plan and return all scorecards in the plan's order.

    Args:
        root: the run folder; created, or continued if it belongs to this plan.
        workers: processes that train cells side by side, each with its share of the cores.
        watch: for live progress; used with one worker only.
        finished: called once per cell, as it finishes.

    Raises:
        UsageError: the folder belongs to another suite or plan.
    """
    folder = open_folder(plan, root)
    prepare(plan, folder, device)
    scorecards: dict[str, Scorecard] = {}
    for cell, scorecard in _execute(plan, folder, device, workers, watch, report_to):
        scorecards[cell.id] = scorecard
        if finished:
            finished(cell, scorecard)
    ordered = [scorecards[cell.id] for cell in plan.cells]
    write_jsonl(folder.scorecards, ordered)
    return ordered


def open_folder(plan: Plan, root: Path) -> paths.RunFolder:
    """Create the run folder, or check that it belongs to this plan."""
    folder = paths.RunFolder(root)
    if folder.plan.exists():
        before = read_json(folder.plan, Plan)
        if before != plan:
            changed = [
                key for key in Plan.model_fields if getattr(before, key) != getattr(plan, key)
            ]
            raise UsageError(
                f"{root} belongs to another run of suite {before.suite.name!r} "
                f"(different: {', '.join(changed)}); choose another folder with --out"
            )
    elif root.exists() and any(entry.name != "sweep" for entry in root.iterdir()):
        raise UsageError(f"{root} is not empty and not a run folder; choose another with --out")
    write_json(folder.plan, plan)
    return folder


def prepare(plan: Plan, folder: paths.RunFolder, device: str) -> None:
    """Score the base on everything once, and store what the items ask."""
    known = tasks.discover()
    names = [*plan.retention, *targets_of(plan.suite)]
    for name in names:
        if not folder.items(name).exists():
            write_jsonl(folder.items(name), evaluate.item_texts(known[name]))
    where = folder.base_point(plan.suite.base)
    if not where.records.exists():
        base = bases.load(bases.resolve(plan.suite.base).folder, device=device)
        store = evaluate.Store(folder.evaluations, limit=plan.suite.items_per_task)
        write_jsonl(where.records, evaluate.evaluate_stored(base, names, store))
    score.measure_noise(plan, folder, device)


def execute(
    plan: Plan,
    cell: Cell,
    root: Path,
    device: str,
    watch: Watch | None = None,
    report_to: tuple[str, ...] = (),
) -> Scorecard:
    """Train and score one cell; any failure of its own becomes a failed scorecard.

    A cell that failed by its method's own word (nothing accepted, NaN loss) stays failed; one that
    crashed is tried again by the next run.
    """
    folder = paths.RunFolder(root)
    where = folder.cell(cell.id)
    if where.scorecard.exists():
        return read_json(where.scorecard, Scorecard)
    try:
        scorecard = score.train_and_score(plan, cell, folder, device, watch, report_to)
    except RetainbenchError:
        raise
    except Exception as error:  # one cell's crash must not stop the others; the trace is logged
        log.exception("cell %s (%s) crashed", cell.id, cell.label)
        return score.crashed(plan, cell, error)
    write_json(where.scorecard, scorecard)
    return scorecard


def _execute(
    plan: Plan,
    folder: paths.RunFolder,
    device: str,
    workers: int,
    watch: Watch | None,
    report_to: tuple[str, ...],
) -> Iterator[tuple[Cell, Scorecard]]:
    """Scorecards as cells finish."""
    if workers == 1:
        for cell in plan.cells:
            yield cell, execute(plan, cell, folder.root, device, watch, report_to)
        return
    threads = max(1, (os.cpu_count() or 1) // workers)
    with (
        _threads_per_worker(threads),
        ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool,
    ):
        futures: dict[Future[Scorecard], Cell] = {
            pool.submit(execute, plan, cell, folder.root, device, None, report_to): cell
            for cell in plan.cells
        }
        for future in as_completed(futures):
            yield futures[future], future.result()


@contextmanager
def _threads_per_worker(threads: int) -> Iterator[None]:
    """Spawned workers read these variables when they load torch; ours are put back."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
