"""Pairs a base with its candidate and reads both once: folders -> running totals per parameter.

Reads two model folders, or a model folder and an adapter folder; writes nothing. Which names pair
is decided in `drift_names`, what an adapter changes in `drift_lora`, the arithmetic in
`drift_blocks`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.drift import lora as drift_lora
from retainbench.harness.drift import names as drift_names
from retainbench.harness.drift.blocks import Totals, Workspace, add_change, add_pair, add_same
from retainbench.harness.drift.files import TensorChunk, read_folder, stream
from retainbench.harness.drift.lora import Adapter, LowRank
from retainbench.harness.models.checked import check
from retainbench.harness.models.checks.headers import StoredTensor
from retainbench.harness.models.checks.weights import is_adapter

MOST_THREADS = 4
"""Each holds 50 MiB, and each shares the disk with the others."""


class TensorPair(NamedTuple):
    """One parameter to measure."""

    base: StoredTensor
    candidate: StoredTensor | None
    """None where the candidate is an adapter that does not replace this tensor."""
    change: LowRank | None = None

    @property
    def name(self) -> str:
        """The parameter's name in the base."""
        return self.base.name

    @property
    def bytes(self) -> int:
        """How much has to be read."""
        return sum(stored.numel * stored.itemsize for stored in self.parts)

    @property
    def parts(self) -> tuple[StoredTensor, ...]:
        """What has to be read."""
        return (self.base, self.candidate) if self.candidate else (self.base,)


class TensorPairs(NamedTuple):
    """All parameters to measure, and what was left out."""

    jobs: list[TensorPair]
    candidate_dtypes: dict[str, int]
    tied: list[str]
    buffers: list[str]
    notes: list[str]


def find(base: Path, candidate: Path) -> TensorPairs:
    """What there is to measure; the errors are those of `drift.measure`."""
    if is_adapter(base):
        raise UsageError(f"{base}: an adapter as base; merge it and give the merged folder")
    return _adapter_work(base, candidate) if is_adapter(candidate) else _full_work(base, candidate)


def _full_work(base: Path, candidate: Path) -> TensorPairs:
    before, after = read_folder(base), read_folder(candidate)
    pairing = drift_names.pair(
        before,
        after,
        base_tied=drift_names.is_tied(base, before),
        candidate_tied=drift_names.is_tied(candidate, after),
    )
    _require_copies(pairing.copies)
    jobs = [TensorPair(one, other) for one, other in pairing.pairs]
    saved = dtypes(other for _, other in pairing.pairs)
    return TensorPairs(jobs, saved, pairing.tied, pairing.buffers, pairing.notes)


def _adapter_work(base: Path, folder: Path) -> TensorPairs:
    """Every tensor of the base, with the change that the adapter makes to it, if any."""
    check(folder)
    before = read_folder(base)
    adapter = drift_lora.read_adapter(folder)
    tied = drift_names.is_tied(base, before)
    pairing = drift_names.pair(before, before, base_tied=tied, candidate_tied=tied)
    _require_copies(pairing.copies[:1])
    stored = {one.name: one for one, _ in pairing.pairs}
    notes = [*pairing.notes, "adapter measured unmerged"]
    if tied:
        notes += drift_names.tie_notes(stored, adapter.changes.keys() | adapter.full.keys())
    jobs = [_adapter_job(one, adapter) for one in stored.values()]
    if moved := [name for name in adapter.copies if not _is_copy(stored, adapter.copies[name])]:
        raise IntegrityError(f"{folder}: its copy of {moved[0]} differs from the base's")
    unknown = sorted((adapter.changes.keys() | adapter.full.keys()) - stored.keys())
    if unknown:
        raise IntegrityError(f"{folder}: the base has no {', '.join(unknown[:3])}")
    return TensorPairs(jobs, adapter.dtypes, pairing.tied, pairing.buffers, notes)


def _is_copy(stored: dict[str, StoredTensor], copy: StoredTensor) -> bool:
    """Whether a tensor that PEFT saved along equals the base's."""
    own = stored.get(copy.name)
    if own is None or own.shape != copy.shape:
        return False
    (totals,) = read([TensorPair(own, copy)])
    return totals.square == 0


def _adapter_job(base: StoredTensor, adapter: Adapter) -> TensorPair:
    change, full = adapter.changes.get(base.name), adapter.full.get(base.name)
    shape = (change.b.shape[0], change.a.shape[1]) if change else full.shape if full else base.shape
    if shape != base.shape:
        raise IntegrityError(
            f"{base.name}: shape {list(base.shape)} in the base, {list(shape)} in the adapter"
        )
    return TensorPair(base, full, change)


def _require_copies(copies: Sequence[tuple[StoredTensor, StoredTensor]]) -> None:
    """Stored copies of tied tensors must equal what they copy, or the tie is a fiction."""
    for head, embedding in copies:
        if head.shape == embedding.shape:
            (totals,) = read([TensorPair(embedding, head)])
            if totals.square == 0:
                continue
        raise IntegrityError(
            f"{head.file}: {head.name} differs from {embedding.name}, to which config.json ties it"
        )


def read(jobs: Sequence[TensorPair]) -> list[Totals]:
    """Totals of each parameter, in one pass over all bytes.

    Parameters are shared out to threads by their bytes, and each is added up in order by one of
    them: the numbers do not depend on how many there are.

    Raises:
        IntegrityError: a tensor holds NaN or infinity.
    """
    totals = [Totals() for _ in jobs]
    shares = _shares(jobs, threads())
    with ThreadPoolExecutor(len(shares)) as pool:
        work = [pool.submit(_read, [(jobs[n], totals[n]) for n in share]) for share in shares]
    for done in work:
        done.result()
    return totals


def threads() -> int:
    """Computing threads: as many as this process has cores, at most `OMP_NUM_THREADS` if set."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(cores or 1, MOST_THREADS, int(asked) if asked.isdigit() else MOST_THREADS))


def _shares(jobs: Sequence[TensorPair], number: int) -> list[list[int]]:
    """Indices of jobs for each thread: largest first, each to the one with fewest bytes so far."""
    shares: list[list[int]] = [[] for _ in range(min(number, len(jobs)) or 1)]
    sizes = [0] * len(shares)
    for n in sorted(range(len(jobs)), key=lambda n: -jobs[n].bytes):
        least = sizes.index(min(sizes))
        shares[least].append(n)
        sizes[least] += jobs[n].bytes
    return [sorted(share) for share in shares]


def _read(share: Sequence[tuple[TensorPair, Totals]]) -> None:
    spaces: dict[str, Workspace] = {}
    with np.errstate(all="ignore"):  # non-finite values are found in the sums and raised there
        for piece in stream([job.parts for job, _ in share]):
            job, own = share[piece.job]
            wide = any(stored.dtype == "F64" for stored in job.parts)
            dtype = np.float64 if wide else np.float32
            if dtype.__name__ not in spaces:
                spaces[dtype.__name__] = Workspace(dtype)
            _add(own, job, piece, spaces[dtype.__name__])
    for job, own in share:
        if job.change:
            own.square = drift_lora.square(job.change)


def _add(totals: Totals, job: TensorPair, piece: TensorChunk, space: Workspace) -> None:
    if job.candidate:
        dtypes = (job.base.dtype, job.candidate.dtype)
        add_pair(totals, piece.parts, dtypes, space, job.name)
    elif job.change:
        stop = piece.start + piece.parts[0].nbytes // job.base.itemsize
        change = drift_lora.rows(job.change, piece.start, stop)
        add_change(totals, piece.parts[0], job.base.dtype, change, space, job.name)
    else:
        add_same(totals, piece.parts[0], job.base.dtype, space, job.name)


def dtypes(stored: Iterable[StoredTensor]) -> dict[str, int]:
    """Dtype as saved -> parameters."""
    found: dict[str, int] = {}
    for one in stored:
        found[one.dtype] = found.get(one.dtype, 0) + one.numel
    return dict(sorted(found.items()))
