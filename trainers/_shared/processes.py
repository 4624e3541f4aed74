"""Start several processes that share the batches of a stage: the recipe key `processes`.

Each of them holds the whole model and computes its own rows of every batch; accelerate, which TRL's
trainers use, averages the gradients, so that all take the same step. What they count is summed, so
that all see the same share of the budget. The first one alone writes. They talk through gloo on
CPUs and NCCL on GPUs (one each), within this machine.

A method allows it with `SPLITS = True`. Left out: methods with a loop of their own or that sample,
FSDP (each process needs room for weights, gradients and optimizer), and several machines.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from retainbench.harness.core.errors import RetainbenchError, UsageError
from retainbench.harness.core.files.locks import LockShare
from retainbench.harness.core.process import end_with_parent, quieten
from retainbench.trainers._shared.contract import Outcome, TrainingError

Progress = Callable[[float, dict[str, float]], None]
"""(share of the stage's budget that is spent, the step's metrics)."""
Call = Callable[[Progress], Outcome]
PATIENCE = 10.0
"""Seconds for the other processes to end by themselves after one has failed."""


class LostProcessError(Exception):
    """One of the processes was killed, or died in a library."""


class Place(NamedTuple):
    """What a process knows of itself and the others."""

    rank: int
    processes: int
    device: str
    threads: int
    meeting: Path
    """The file through which they find each other."""


def run(call: Call, processes: int, device: str, progress: Progress) -> Outcome:
    """Let new processes make the same call together; returns what the first one returns.

    Args:
        call: can be pickled; is given what to call after each step.
        progress: called in this process, with what the first one reports.

    Raises:
        UsageError: fewer GPUs than processes.
        LostProcessError: a process died.
        TrainingError: the call raised it.
    """
    import torch

    _check_device(processes, device)
    threads = max(1, torch.get_num_threads() // processes)
    spawn = get_context("spawn")
    started: dict[Connection, SpawnProcess] = {}
    with TemporaryDirectory() as scratch:
        try:
            for rank in range(processes):
                reader, writer = spawn.Pipe(duplex=False)
                place = Place(rank, processes, device, threads, Path(scratch) / "meeting")
                process = spawn.Process(target=_work, args=(call, place, writer, LockShare()))
                process.start()
                writer.close()
                started[reader] = process
            return _outcome(started, progress)
        finally:
            for process in started.values():
                process.kill()
                process.join()


def _check_device(processes: int, device: str) -> None:
    if not device.startswith("cuda"):
        return
    import torch

    if device != "cuda":
        raise UsageError(f"--device {device}: with `processes: {processes}` use --device cuda")
    if (visible := torch.cuda.device_count()) < processes:
        raise UsageError(
            f"`processes: {processes}` needs as many GPUs, and this process can use {visible}: use "
            "fewer processes, or fewer --workers"
        )


def _outcome(started: dict[Connection, SpawnProcess], progress: Progress) -> Outcome:
    """Wait for all answers; a failure of any process is the failure of all."""
    waiting = list(started)
    answers: dict[Connection, Outcome | Exception] = {}
    failed: list[Exception] = []
    while waiting:
        # Later than that, the others wait for the one that failed.
        if not (ready := wait(waiting, timeout=PATIENCE if failed else None)):
            break
        for reader in ready:
            assert isinstance(reader, Connection)
            try:
                message = reader.recv()
            except EOFError:
                waiting.remove(reader)
                if reader not in answers:
                    failed.append(_lost(list(started).index(reader), started[reader]))
                continue
            if isinstance(message, tuple) and not isinstance(message, Outcome):
                progress(*message)
                continue
            answers[reader] = message
            failed += [message] if isinstance(message, Exception) else []
    if failed:
        raise _cause(failed)
    outcome = answers[next(iter(started))]
    assert isinstance(outcome, Outcome)
    return outcome


def _lost(rank: int, process: SpawnProcess) -> LostProcessError:
    process.join()
    code = process.exitcode or 0
    how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    return LostProcessError(f"process {rank} {how}; the same command goes on where it was")


def _cause(failed: list[Exception]) -> Exception:
    """A process that lost another one fails too, with an error of the connection."""
    known = (TrainingError, RetainbenchError, LostProcessError)
    return next((error for error in failed if isinstance(error, known)), failed[0])


def _work(call: Call, place: Place, pipe: Connection, _: LockShare) -> None:
    """In a new process: join the others, make the call, send what it returns or raises."""
    end_with_parent()
    quieten()
    _join(place)
    import torch.distributed as dist

    def report(share: float, metrics: dict[str, float]) -> None:
        if place.rank == 0:
            pipe.send((share, metrics))

    try:
        pipe.send(call(report))
    except (TrainingError, RetainbenchError) as error:
        pipe.send(error)
    except Exception as error:  # noqa: BLE001 - raised again by the process that started this one
        crash = RuntimeError(f"process {place.rank}: {type(error).__name__}: {error}")
        crash.add_note(traceback.format_exc())
        pipe.send(crash)
    else:
        dist.destroy_process_group()
        return
    os._exit(1)  # closing the group would wait for the others


def _join(place: Place) -> None:
    """Find the other processes; accelerate reads the variables and uses the group."""
    import torch
    import torch.distributed as dist

    rank, processes = str(place.rank), str(place.processes)
    os.environ |= {"RANK": rank, "LOCAL_RANK": rank}
    os.environ |= {"WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
    os.environ |= {"OMP_NUM_THREADS": str(place.threads)}
    torch.set_num_threads(place.threads)
    if place.device == "cuda":
        torch.cuda.set_device(place.rank)
    elif sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group(
        "nccl" if place.device == "cuda" else "gloo",
        init_method=f"file://{place.meeting}",
        rank=place.rank,
        world_size=place.processes,
    )
