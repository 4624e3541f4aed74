"""Cells on this machine: one after another in this process, or side by side in worker processes.

A worker keeps to its share of the cores (or to a GPU of its own where the device is `cuda`), with
as many threads, so that workers do not compete. A worker that dies - out of memory, a crash in a
library - takes its own cell with it, which is recorded as failed, and a new one takes its place.
Workers end with the command that started them, however it ends, and hold its locks until then.
The variants of a sweep are worked on in the same way (running/sweep.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from queue import SimpleQueue
from typing import TypeVar

from retainbench.harness.core.files.locks import LockShare
from retainbench.harness.core.process import end_with_parent, quieten
from retainbench.harness.core.scorecards import Scorecard
from retainbench.harness.running.cell import Watch, crashed, execute
from retainbench.harness.running.context import Context
from retainbench.harness.suites.plan import Cell

T = TypeVar("T")


def serial(run: Context, watch: Watch | None) -> Iterator[tuple[Cell, Scorecard]]:
    """Scorecards in the plan's order."""
    for cell in run.plan.cells:
        yield cell, execute(run, cell, watch)


def processes(run: Context, workers: int) -> Iterator[tuple[Cell, Scorecard]]:
    """Scorecards as cells finish."""
    calls = [partial(execute, run, cell) for cell in run.plan.cells]
    for number, card in side_by_side(calls, workers, run.device):
        cell = run.plan.cells[number]
        died = RuntimeError("its worker process died")
        yield cell, crashed(run, cell, died) if card is None else card


def side_by_side(
    calls: Sequence[Callable[[], T]], workers: int, device: str
) -> Iterator[tuple[int, T | None]]:
    """Results of calls by their numbers, as they finish; None where the worker process died.

    Args:
        calls: can be pickled, as can what they return, which is not None.
    """
    share = max(1, len(_cores()) // workers)
    free: SimpleQueue[_Worker] = SimpleQueue()
    for number in range(workers):
        free.put(_Worker(cores_of(number, share), gpu_of(number, device)))

    def run(call: Callable[[], T]) -> T | None:
        worker = free.get()
        try:
            return worker.run(call)
        finally:
            free.put(worker)

    with _threads(share), ThreadPoolExecutor(workers) as queue:
        try:
            futures = {queue.submit(run, call): number for number, call in enumerate(calls)}
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            queue.shutdown(cancel_futures=True)
            for _ in range(workers):
                free.get().close()


class _Worker:
    """One process at a time, started when it has something to do."""

    def __init__(self, cores: list[int], gpu: str | None) -> None:
        self._place = (cores, gpu)
        self._pool = self._start()

    def _start(self) -> ProcessPoolExecutor:
        context = get_context("spawn")
        arguments = (*self._place, LockShare())
        return ProcessPoolExecutor(1, context, initializer=_settle, initargs=arguments)

    def run(self, call: Callable[[], T]) -> T | None:
        """The call's result, or None after its death."""
        try:
            return self._pool.submit(call).result()
        except BrokenProcessPool:
            self._pool = self._start()
            return None

    def close(self) -> None:
        self._pool.shutdown()


def cores_of(worker: int, share: int) -> list[int]:
    """The cores of a worker; none in particular where there are too few, or no such choice."""
    if not hasattr(os, "sched_setaffinity"):
        return []
    cores = _cores()[worker * share : (worker + 1) * share]
    return cores if len(cores) == share else []


def _cores() -> list[int]:
    """The cores that this process may use; a container has some of the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def gpu_of(worker: int, device: str) -> str | None:
    """The GPU that a worker sees, by turns, where the device is `cuda` without a number."""
    if device != "cuda":
        return None
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        import torch

        visible = ",".join(map(str, range(torch.cuda.device_count())))
    names = visible.split(",")
    return names[worker % len(names)]


def _settle(cores: list[int], gpu: str | None, _: LockShare) -> None:
    """Runs first in a worker process; unpickling the share makes it hold the command's locks."""
    end_with_parent()
    quieten()
    if cores:
        os.sched_setaffinity(0, cores)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Spawned workers read these variables when they load torch; ours are put back."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, str(number)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
