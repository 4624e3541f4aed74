"""What a run does on whatever machine does it: score the base, train and score one cell.

Reads a plan; writes into a run folder. The executors (run_pool.py, run_ray.py) call these
functions, so a cell's files do not depend on who ran it.
"""

from __future__ import annotations

import logging
from pathlib import Path

from retainbench.harness import bases, evaluate, evaluate_records, paths, score, tasks
from retainbench.harness.errors import RetainbenchError
from retainbench.harness.plan import Cell, Plan, targets_of
from retainbench.harness.records import (
    Scorecard,
    TrainRecord,
    read_json,
    write_json,
    write_jsonl,
)

log = logging.getLogger("retainbench")


def prepare(plan: Plan, root: Path, device: str) -> None:
    """Score the base on everything once, and store what the items ask."""
    folder = paths.RunFolder(root)
    known = tasks.discover()
    names = [*plan.retention, *targets_of(plan.suite)]
    for name in names:
        if not folder.items(name).exists():
            write_jsonl(folder.items(name), evaluate_records.item_texts(known[name]))
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
    watch: score.Watch | None = None,
    report_to: tuple[str, ...] = (),
) -> Scorecard:
    """Train and score one cell; any failure of its own becomes a failed scorecard."""
    if card := finished(root, cell):
        return card
    folder = paths.RunFolder(root)
    try:
        card = score.train_and_score(plan, cell, folder, device, watch, report_to)
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
    card = score.crash_card(plan, cell, error)
    write_json(paths.RunFolder(root).cell(cell.id).scorecard, card)
    return card
