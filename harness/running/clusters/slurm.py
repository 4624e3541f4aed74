"""Cells as jobs of a Slurm cluster, through submitit; every node sees the run folder.

The base is scored by a job of its own, then each cell is a job with the resources that its recipe
names. Partition, account and time limit are those of sbatch: SBATCH_PARTITION, SBATCH_ACCOUNT,
SBATCH_TIMELIMIT. A job that is lost or cancelled leaves its cell as crashed; the same command runs
it again. Logs of the jobs are in the run folder, below `slurm/`.

Command: `retainbench run SUITE --executor slurm`, where `sbatch` is; it waits until all jobs ended.
Leaves out: live progress, and the sweep, which runs where the command runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.scorecards import Scorecard
from retainbench.harness.core.stages import Resources
from retainbench.harness.running.cell import crashed, execute, finished
from retainbench.harness.running.context import Context
from retainbench.harness.running.reference import prepare
from retainbench.harness.suites.plan import Cell

FOLDER = "slurm"
MINUTES = 24 * 60
"""Time limit of a job without SBATCH_TIMELIMIT; submitit's own is five minutes."""
POLL = {"slurm": 30.0, "local": 0.2}
"""Seconds between two looks at the jobs."""

Cluster = Literal["slurm", "local"]


def cells(run: Context, cluster: Cluster = "slurm") -> Iterator[tuple[Cell, Scorecard]]:
    """Scorecards as cells finish.

    Args:
        cluster: `local` starts submitit's processes on this machine instead.

    Raises:
        UsageError: the base could not be scored.
    """
    import submitit

    waiting = [cell for cell in run.plan.cells if not finished(run.folder.cell(cell.id))]
    for cell in run.plan.cells:
        if card := finished(run.folder.cell(cell.id)):
            yield cell, card
    if not waiting:
        return
    most = Resources(
        cpus=max(cell.recipe.resources.cpus for cell in waiting),
        gpus=max(cell.recipe.resources.gpus for cell in waiting),
    )
    try:
        _executor(run, cluster, "base", most).submit(prepare, run).result()
    except _failures() as error:
        raise UsageError(f"the job that scores the base failed: {_last_line(error)}") from error
    jobs = {
        _executor(run, cluster, cell.id, cell.recipe.resources).submit(execute, run, cell): cell
        for cell in waiting
    }
    for job in submitit.helpers.as_completed(list(jobs), poll_frequency=POLL[cluster]):
        yield jobs[job], _scorecard(run, jobs[job], job)


def _executor(run: Context, cluster: Cluster, name: str, resources: Resources) -> Any:
    import submitit

    made = submitit.AutoExecutor(folder=run.root / FOLDER / name, cluster=cluster)
    made.update_parameters(
        name=f"retainbench-{name}",
        timeout_min=MINUTES,
        cpus_per_task=math.ceil(resources.cpus),
        gpus_per_node=math.ceil(resources.gpus),
    )
    return made


def _scorecard(run: Context, cell: Cell, job: Any) -> Scorecard:
    try:
        card: Scorecard = job.result()
    except _failures() as error:
        return crashed(run, cell, RuntimeError(_last_line(error)))
    return card


def _failures() -> tuple[type[Exception], ...]:
    """What a job raises in place of its result."""
    from submitit.core.utils import FailedJobError, UncompletedJobError

    return FailedJobError, UncompletedJobError


def _last_line(error: Exception) -> str:
    """The job's own error, below its traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" -\t")]
    return lines[-1][:300] if lines else type(error).__name__
