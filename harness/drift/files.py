"""Finds the tensors of a checkpoint folder and streams pairs of them in pieces of raw bytes.

`models.weights` decides which tensors a folder holds and checks the headers. The bytes are read
with `preadv` into reused buffers rather than mapped, so that resident memory stays below 50 MiB
whatever the file size. One thread reads ahead while the caller computes. Writes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.models.checks import weights
from retainbench.harness.models.checks.headers import FLOATS, INTEGERS, StoredTensor

Bytes = NDArray[np.uint8]

PIECE = 1 << 21
"""Elements per read; 8 MiB of float32. Pieces of a quarter took up to twice as long from disk."""
SLOTS = 3
"""Pieces in memory: one computed on, one ready, one being read."""


class TensorChunk(NamedTuple):
    """The same elements of several tensors, as raw bytes valid until the next piece."""

    job: int
    """Index into the jobs given to `stream`."""
    start: int
    """Index of the first element."""
    parts: tuple[Bytes, ...]


def read_folder(folder: Path) -> dict[str, StoredTensor]:
    """Name -> tensor for every tensor that a model folder or an adapter folder stores.

    Raises:
        IntegrityError: as `weights.read`, and for a dtype without a plain value (float8, int4).
    """
    found = weights.read(folder).tensors
    for name, stored in found.items():
        if stored.dtype not in FLOATS | INTEGERS:
            raise IntegrityError(
                f"{stored.file}: {name} is stored as {stored.dtype}; dequantise the checkpoint "
                "first"
            )
    return found


def stream(jobs: Sequence[tuple[StoredTensor, ...]]) -> Iterator[TensorChunk]:
    """The tensors of each job side by side, job after job, in pieces of `PIECE` elements.

    The tensors of one job have equal element counts. Buffers are reused: a piece is valid only
    until the next one is asked for.
    """
    files = {stored.file for job in jobs for stored in job}
    width = max((len(job) for job in jobs), default=0)
    size = PIECE * max((stored.itemsize for job in jobs for stored in job), default=0)
    slots = [[np.empty(size, np.uint8) for _ in range(width)] for _ in range(SLOTS)]
    plan = ((n, start) for n, job in enumerate(jobs) for start in range(0, job[0].numel, PIECE))
    with ExitStack() as stack:
        opened = {file: stack.enter_context(file.open("rb", buffering=0)) for file in files}
        handles = {file: handle.fileno() for file, handle in opened.items()}
        reader = stack.enter_context(ThreadPoolExecutor(1))
        waiting: list[Future[TensorChunk]] = []
        for turn, (n, start) in enumerate(plan):
            slot = slots[turn % SLOTS]
            waiting.append(reader.submit(_read, handles, jobs[n], n, start, slot))
            if len(waiting) == SLOTS:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()


def _read(
    handles: dict[Path, int],
    job: tuple[StoredTensor, ...],
    number: int,
    start: int,
    slot: list[Bytes],
) -> TensorChunk:
    count = min(PIECE, job[0].numel - start)
    parts: list[Bytes] = []
    for stored, buffer in zip(job, slot, strict=False):
        part = buffer[: count * stored.itemsize]
        _fill(handles[stored.file], part, stored.start + start * stored.itemsize, stored)
        parts.append(part)
    return TensorChunk(number, start, tuple(parts))


def _fill(handle: int, buffer: Bytes, offset: int, stored: StoredTensor) -> None:
    done = 0
    while done < buffer.nbytes:
        got = os.preadv(handle, [buffer.data[done:]], offset + done)
        if got == 0:
            raise IntegrityError(f"{stored.file}: ends inside {stored.name}")
        done += got
