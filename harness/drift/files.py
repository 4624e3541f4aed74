"""Finds the tensors of a checkpoint folder and streams pairs of them in pieces of raw bytes.

Reads safetensors only, sharded (`model.safetensors.index.json`) or not; writes nothing. The
safetensors library validates each header; the bytes are then read with `preadv` into reused
buffers rather than mapped, so that resident memory stays below 50 MiB whatever the file size. One
thread reads ahead while the caller computes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from retainbench.harness.core.errors import IntegrityError, UsageError

Bytes = NDArray[np.uint8]

FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
INTEGERS = {"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1}
PIECE = 1 << 21
"""Elements per read; 8 MiB of float32. Pieces of a quarter took up to twice as long from disk."""
SLOTS = 3
"""Pieces in memory: one computed on, one ready, one being read."""


class Stored(NamedTuple):
    """One tensor in a file."""

    name: str
    file: Path
    dtype: str
    """As safetensors writes it: F64, F32, F16, BF16, I64, ..."""
    shape: tuple[int, ...]
    start: int
    """Offset of its first byte in the file."""

    @property
    def numel(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return (FLOATS | INTEGERS)[self.dtype]


class Piece(NamedTuple):
    """The same elements of several tensors, as raw bytes valid until the next piece."""

    job: int
    """Index into the jobs given to `stream`."""
    start: int
    """Index of the first element."""
    parts: tuple[Bytes, ...]


def read_folder(folder: Path) -> dict[str, Stored]:
    """Name -> tensor for every tensor that a model folder or an adapter folder stores.

    Raises:
        UsageError: no safetensors weights here, or several files without an index.
        IntegrityError: broken header, missing shard, index and shards disagree, unknown dtype.
    """
    index = folder / "model.safetensors.index.json"
    if index.exists():
        return _read_sharded(index)
    for name in ("adapter_model.safetensors", "model.safetensors"):
        if (folder / name).exists():
            return read_header(folder / name)
    files = sorted(folder.glob("*.safetensors"))
    if len(files) != 1:
        raise UsageError(
            f"{folder}: expected model.safetensors, adapter_model.safetensors or "
            f"model.safetensors.index.json, found {len(files)} other .safetensors files"
        )
    return read_header(files[0])


def _read_sharded(index: Path) -> dict[str, Stored]:
    try:
        where: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise IntegrityError(f"{index}: not an index of shards ({error!r})") from error
    found: dict[str, Stored] = {}
    for shard in sorted(set(where.values())):
        if Path(shard).name != shard:
            raise IntegrityError(f"{index}: shard {shard!r} is not a plain file name")
        for name, stored in read_header(index.parent / shard).items():
            if where.get(name) != shard:
                raise IntegrityError(f"{index}: does not say that {name} is in {shard}")
            found[name] = stored
    absent = sorted(where.keys() - found.keys())
    if absent:
        raise IntegrityError(f"{index}: {absent[0]} is not in {where[absent[0]]}")
    return found


def read_header(file: Path) -> dict[str, Stored]:
    """Name -> tensor of one safetensors file.

    Raises:
        IntegrityError: missing or broken file, or a dtype that has no plain value (float8, int4).
    """
    try:
        with safe_open(file, framework="np"):
            pass
    except (SafetensorError, FileNotFoundError) as error:
        raise IntegrityError(f"{file}: {error}") from error
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header: dict[str, dict[str, Any]] = json.loads(stream.read(length))
    header.pop("__metadata__", None)
    for name, entry in header.items():
        if entry["dtype"] not in FLOATS | INTEGERS:
            raise IntegrityError(
                f"{file}: {name} is stored as {entry['dtype']}; dequantise the checkpoint first"
            )
    return {
        name: Stored(
            name, file, entry["dtype"], tuple(entry["shape"]), 8 + length + entry["data_offsets"][0]
        )
        for name, entry in header.items()
    }


def stream(jobs: Sequence[tuple[Stored, ...]]) -> Iterator[Piece]:
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
        waiting: list[Future[Piece]] = []
        for turn, (n, start) in enumerate(plan):
            slot = slots[turn % SLOTS]
            waiting.append(reader.submit(_read, handles, jobs[n], n, start, slot))
            if len(waiting) == SLOTS:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()


def _read(
    handles: dict[Path, int], job: tuple[Stored, ...], number: int, start: int, slot: list[Bytes]
) -> Piece:
    count = min(PIECE, job[0].numel - start)
    parts: list[Bytes] = []
    for stored, buffer in zip(job, slot, strict=False):
        part = buffer[: count * stored.itemsize]
        _fill(handles[stored.file], part, stored.start + start * stored.itemsize, stored)
        parts.append(part)
    return Piece(number, start, tuple(parts))


def _fill(handle: int, buffer: Bytes, offset: int, stored: Stored) -> None:
    done = 0
    while done < buffer.nbytes:
        got = os.preadv(handle, [buffer.data[done:]], offset + done)
        if got == 0:
            raise IntegrityError(f"{stored.file}: ends inside {stored.name}")
        done += got
