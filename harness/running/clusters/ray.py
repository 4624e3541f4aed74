"""Cells on an existing Ray cluster: a task each, with the resources that its recipe names.

Nodes need not share a file system. A task works in a folder of its own on its node and yields what
it wrote, in pieces, through Ray's object store; the driver puts the files together next to the run
folder and moves them in whole, so a cell is there or it is not. Where a node or a worker is lost on
the way, what that attempt wrote is thrown away and the cell runs again from its start elsewhere.

Every node needs this package, the base (by name or under the same path) and the suite's packs;
versions and the base's digest are compared before anything is computed there. The cluster is
$RAY_ADDRESS, else the one that Ray finds on this machine. Not here: starting a cluster
(`ray start`), live progress, and the sweep, which runs where the command runs.

Command: `retainbench run SUITE --executor ray`
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.files.storage import intact
from retainbench.harness.core.scorecards import Scorecard
from retainbench.harness.core.stages import Resources
from retainbench.harness.running.cell import crashed, finished
from retainbench.harness.running.clusters.ray_node import Files, work
from retainbench.harness.running.context import Context
from retainbench.harness.suites.plan import Cell, Plan

log = logging.getLogger("retainbench")

ATTEMPTS = 4
"""Times that a cell is begun before it counts as failed."""
INCOMING = ".incoming"


def cells(run: Context) -> Iterator[tuple[Cell, Scorecard]]:
    """Score the base on the cluster, then every cell; scorecards as cells finish.

    Raises:
        UsageError: no Ray, no cluster, a node that lacks something, or resources nobody has.
    """
    plan, root = run.plan, run.root
    with connected() as ray:
        _check_resources(ray, plan)
        shutil.rmtree(root / INCOMING, ignore_errors=True)
        most = Resources(
            cpus=max(cell.recipe.resources.cpus for cell in plan.cells),
            gpus=max(cell.recipe.resources.gpus for cell in plan.cells),
        )
        plan_ref = ray.put(plan)
        before = (plan_ref, None, run.device, run.report_to, run.tasks, given(run))
        begin = _Task(ray, root, most, before)
        for _ in _finished(ray, [begin]):
            pass
        inputs = ray.put(given(run))
        waiting = []
        for cell in plan.cells:
            if card := finished(run.folder.cell(cell.id)):
                yield cell, card
                continue
            arguments = (plan_ref, cell, run.device, run.report_to, run.tasks, inputs)
            waiting.append(_Task(ray, root, cell.recipe.resources, arguments, cell))
        for task in _finished(ray, waiting):
            assert task.cell is not None
            yield task.cell, task.scorecard or crashed(run, task.cell, _lost())
        shutil.rmtree(root / INCOMING, ignore_errors=True)


def _lost() -> RuntimeError:
    return RuntimeError(f"the node or worker that ran it was lost {ATTEMPTS} times")


@contextmanager
def connected() -> Iterator[Any]:
    """Ray, connected to a cluster; a connection that was there before is used and left."""
    import ray

    if ray.is_initialized():
        yield ray
        return
    try:
        ray.init(os.environ.get("RAY_ADDRESS", "auto"), log_to_driver=False, logging_level="ERROR")
    except ConnectionError as error:
        raise UsageError(
            "no Ray cluster found: start one with `ray start --head`, or set RAY_ADDRESS"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_resources(ray: Any, plan: Plan) -> None:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for cell in plan.cells:
        wanted = cell.recipe.resources
        if not any(
            n.get("CPU", 0) >= wanted.cpus and n.get("GPU", 0) >= wanted.gpus for n in nodes
        ):
            raise UsageError(
                f"recipe {cell.name!r} asks for {wanted.cpus:g} CPUs and {wanted.gpus:g} GPUs, "
                "which no node of the cluster has: change its `resources`"
            )


@dataclass
class _Task:
    """A cell (or the base's scoring) on its way; begun by the first call of `begin`."""

    ray: Any
    root: Path
    resources: Resources
    arguments: tuple[Any, ...]
    cell: Cell | None = None
    attempts: int = 0
    pieces: Any = None
    scorecard: Scorecard | None = None

    @property
    def folder(self) -> Path:
        """Where the files of this attempt come together."""
        return self.root / INCOMING / (self.cell.id if self.cell else "base")

    def begin(self) -> None:
        """Submit it, from the start."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.attempts += 1
        # Ray's own retries would go on in the middle of a file that another attempt began.
        task = self.ray.remote(work).options(
            num_cpus=self.resources.cpus,
            num_gpus=self.resources.gpus,
            max_retries=0,
        )
        self.pieces = task.remote(*self.arguments)

    def receive(self) -> bool:
        """Take the piece that is ready; True once there is none left."""
        try:
            piece = self.ray.get(next(self.pieces))
        except StopIteration:
            adopt(self.folder, self.root)
            return True
        if isinstance(piece, Scorecard):
            self.scorecard = piece
        else:
            append(self.folder / piece.name, piece.data)
        return False


def _finished(ray: Any, tasks: list[_Task]) -> Iterator[_Task]:
    """Tasks as they end; a task whose node is lost begins again, up to ATTEMPTS times.

    Raises:
        RetainbenchError: what a node refused to do.
    """
    for task in tasks:
        task.begin()
    running = {task.pieces: task for task in tasks}
    while running:
        (ready, *_), _ = ray.wait(list(running), num_returns=1, fetch_local=False)
        task = running.pop(ready)
        try:
            if task.receive():
                yield task
                continue
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except ray.exceptions.RayError as error:
            name = task.cell.label if task.cell else "the base"
            log.warning("%s: lost with its node or worker (%s)", name, type(error).__name__)
            task.scorecard = None
            if task.attempts == ATTEMPTS:
                yield task
                continue
            task.begin()
        running[task.pieces] = task


def given(run: Context) -> Files:
    """What a node needs of the run folder: the base's records and its continuations."""
    files = (path for path in run.base_point.root.rglob("*") if intact(path))
    return {path.relative_to(run.root).as_posix(): path.read_bytes() for path in files}


def append(file: Path, data: bytes) -> None:
    """Add a piece to a file, on disk when this returns."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("ab") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def adopt(incoming: Path, root: Path) -> None:
    """Move what came into the run folder: cells whole, other files one by one.

    Their names hold their content's key, or they are the base's, which is the same on all nodes.
    """
    for cell in sorted((incoming / "cells").glob("*")):
        place = root / "cells" / cell.name
        if place.exists():
            shutil.rmtree(place)
        place.parent.mkdir(parents=True, exist_ok=True)
        cell.rename(place)
    for file in sorted(path for path in incoming.rglob("*") if path.is_file()):
        place = root / file.relative_to(incoming)
        place.parent.mkdir(parents=True, exist_ok=True)
        file.replace(place)
    shutil.rmtree(incoming, ignore_errors=True)
