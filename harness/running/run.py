"""Execute a plan: train and score every cell, resume after a kill, keep going past failures.

A run folder belongs to one plan. Cells are independent and finish one by one; a finished cell is
read back, an interrupted one goes on from its last state, and a cell that fails is recorded with
its reason while the others run. The tables at the end are the same whatever was interrupted, and
whoever executed it: this process, worker processes (running/pool.py), a Ray cluster
(running/clusters/ray.py) or jobs of Slurm (running/clusters/slurm.py).

Writes everything that `paths.RunFolder` names. Command: `retainbench run SUITE [--out RUN]`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from retainbench.harness.core import paths
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.files import locks
from retainbench.harness.core.files.storage import read_json, write_json, write_jsonl
from retainbench.harness.core.records import Commands
from retainbench.harness.core.scorecards import Scorecard
from retainbench.harness.models import bases
from retainbench.harness.running import pool, reference
from retainbench.harness.running.cell import Watch
from retainbench.harness.running.context import Context, require_device
from retainbench.harness.suites.plan import Cell, Plan
from retainbench.harness.tasks.catalogue import OWN, Catalogue

Executor = Literal["local", "ray", "slurm"]
BEFORE_PLAN = ("sweep", "evaluations", locks.NAME, "device.json", ".plan.json.sha256")
"""What a run folder may hold before its plan is written."""
OnFinished = Callable[[Cell, Scorecard], None]


def run(
    plan: Plan,
    root: Path,
    *,
    device: str = "cpu",
    executor: Executor = "local",
    workers: int = 1,
    watch: Watch | None = None,
    finished: OnFinished | None = None,
    report_to: tuple[str, ...] = (),
    command: Sequence[str] = (),
    tasks: Catalogue = OWN,
) -> list[Scorecard]:
    """Run what is missing of a plan and return all scorecards in the plan's order.

    Args:
        root: the run folder; created, or continued if it belongs to this plan.
        workers: processes on this machine that train cells side by side.
        watch: called with a cell, the share of its budget that is spent and the last step's
            metrics; by a local run with one worker only.
        finished: called once per cell, as it finishes.
        command: the command line that starts the run; the first one is recorded for the
            published page and kept when the run is resumed.
        tasks: where the suite's tasks are found.

    Raises:
        UsageError: the folder belongs to another suite, plan or device, or an executor cannot be
            used.
    """
    require_executor(executor, workers)
    folder = open_folder(plan, root, device)
    if command and not folder.commands.exists():
        write_json(folder.commands, Commands(lines=[list(command)]))
    scorecards: dict[str, Scorecard] = {}
    base = bases.resolve(plan.suite.base)
    context = Context(plan, root, base, device, report_to, tasks)
    for cell, scorecard in _execute(context, executor, workers, watch):
        scorecards[cell.id] = scorecard
        if finished:
            finished(cell, scorecard)
    ordered = [scorecards[cell.id] for cell in plan.cells]
    write_jsonl(folder.scorecards, ordered, checked=True)
    return ordered


def require_executor(executor: Executor, workers: int) -> None:
    """Refuse an executor that cannot be used here, before anything is swept or written.

    Raises:
        UsageError: `workers` next to a cluster, which has its own; no Slurm on this machine.
    """
    if executor == "ray" and workers > 1:
        raise UsageError("--workers is for this machine; a Ray cluster has its own")
    if executor == "slurm" and workers > 1:
        raise UsageError("--workers is for this machine; Slurm decides how many jobs run")
    if executor == "slurm" and shutil.which("sbatch") is None:
        raise UsageError("--executor slurm: there is no sbatch here; run it on a login node")


def _execute(
    context: Context, executor: Executor, workers: int, watch: Watch | None
) -> Iterator[tuple[Cell, Scorecard]]:
    """Scorecards as cells finish."""
    if executor == "ray":
        from retainbench.harness.running.clusters import ray

        return ray.cells(context)
    if executor == "slurm":
        from retainbench.harness.running.clusters import slurm

        return slurm.cells(context)
    reference.prepare(context)
    if workers == 1:
        return pool.serial(context, watch)
    return pool.processes(context, workers)


def open_folder(plan: Plan, root: Path, device: str = "cpu") -> paths.RunFolder:
    """Create the run folder, or check that it belongs to this plan and kind of device.

    The base may have moved to another folder: its digest is what counts. The suite may have grown
    by seeds and recipes: the cells that are there keep what they have.
    """
    folder = paths.RunFolder(root)
    if folder.plan.exists():
        before = read_json(folder.plan, Plan)
        changed = _changes(before, plan)
        if changed:
            raise UsageError(
                f"{root} belongs to another run of suite {before.suite.name!r} "
                f"(different: {', '.join(changed)}); a run takes more seeds and recipes, for "
                "anything else choose another folder with --out"
            )
    elif root.exists() and any(entry.name not in BEFORE_PLAN for entry in root.iterdir()):
        raise UsageError(f"{root} is not empty and not a run folder; choose another with --out")
    require_device(root, device)
    write_json(folder.plan, plan, checked=True)
    return folder


GROWS = {"seeds", "recipes", "description"}
"""Keys of a suite that change which cells a run has and nothing inside of a cell."""


def _changes(before: Plan, plan: Plan) -> list[str]:
    """What of a plan differs, other than more cells and the path of the base."""
    old, new = _comparable(before), _comparable(plan)
    changed = [key for key in old if old[key] != new[key]]
    gone = {cell.id for cell in before.cells} - {cell.id for cell in plan.cells}
    return [*changed, *(["cells that are there and not in the suite"] if gone else [])]


def _comparable(plan: Plan) -> dict[str, object]:
    suite = plan.suite.model_dump(exclude={"base", *GROWS})
    rest = plan.model_dump(exclude={"suite", "cells"})
    return {f"suite.{key}": value for key, value in suite.items()} | rest
