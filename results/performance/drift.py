"""Drift of two checkpoints against reading both files once: bandwidth and peak memory.

Writes two checkpoints of random weights (shaped like a small Llama) under a folder and deletes
them; returns rows. Every repeat reads both files in order into one reused 4 MiB buffer, then runs
`drift.measure` in a fresh process, so that both are measured at nearly the same time. `cold` drops
the files from the page cache before each, which is the usual state of a checkpoint; `warm` finds
them in memory, where plain reading is a memory copy and drift is bound by arithmetic. Reading uses
one thread, as a copy of a file does; drift uses `threads`.

What is timed is the default level: every number but singular values and subspaces. All singular
values of a change cost linear algebra and not bandwidth; they are timed on the seven matrices of
one layer and stated in processor seconds per 10^9 parameters.

Command: part of `python -m results.performance.build drift`; `python -m results.performance.drift
BASE CANDIDATE` measures two folders once and prints seconds and peak bytes as JSON.

Left out: the start of the interpreter (0.3 s of processor time). Linux only (page cache control and
peak resident memory come from its system calls).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retainbench.harness.drift import measure as drift
from retainbench.harness.drift import spectral as drift_spectral
from retainbench.harness.drift import tensor_pairs
from retainbench.harness.drift.names import layer_of

BUFFER = 1 << 22
POOL = (1 << 22) + 7
"""Random values that fill the checkpoints, at a new offset for every tensor."""


ABOUT = """Two checkpoints of random weights in the shape of a small Llama, read once in order and
measured by `retainbench drift`'s code in a process of its own, in turn. `cold` drops the files from
the page cache before each; `warm` finds them in memory, where reading is a copy."""


class DriftSpeed(NamedTuple):
    """One dtype in one state of the page cache; medians over the repeats."""

    dtype: str
    cache: str
    """cold or warm."""
    bytes: int
    """Of both checkpoints together."""
    largest_tensor: int
    """Bytes."""
    read_seconds: float
    drift_seconds: float
    share_of_read: float
    """Median over repeats of read seconds / drift seconds of the same repeat; goal >= 0.7."""
    read_cpu_seconds: float
    drift_cpu_seconds: float
    """Processor time of all threads, which a busy machine does not inflate by much."""
    peak_bytes: int
    """Largest resident memory of the measuring process, interpreter and libraries included."""
    allowed_bytes: int
    """3 x the largest tensor + 400 MB."""
    threads: int
    """Of drift; `OMP_NUM_THREADS` limits them."""
    spectral_seconds: float
    """Processor time per 10^9 parameters for all singular values; not in `drift_seconds`."""


class _Timed(NamedTuple):
    wall: float
    cpu: float


def _now() -> _Timed:
    return _Timed(time.perf_counter(), time.process_time())


def _since(start: _Timed) -> _Timed:
    now = _now()
    return _Timed(now.wall - start.wall, now.cpu - start.cpu)


def bench(
    folder: Path | None = None,
    *,
    gigabytes: float = 2.0,
    dtypes: tuple[str, ...] = ("BF16", "F32"),
    repeats: int = 3,
) -> list[DriftSpeed]:
    """Measure each dtype cold and warm.

    Args:
        folder: where to put the checkpoints; on the disk to be measured. None takes the system's
            temporary folder.
        gigabytes: size of one checkpoint in units of 10^9 bytes.
        dtypes: BF16, F32.
        repeats: pairs of reading and measuring.
    """
    rows: list[DriftSpeed] = []
    for dtype in dtypes:
        with tempfile.TemporaryDirectory(dir=folder, prefix="bench-drift-") as temporary:
            base, candidate = Path(temporary) / "base", Path(temporary) / "candidate"
            largest = write_pair(base, candidate, dtype, int(gigabytes * 1e9))
            spectral = spectral_seconds(base, candidate)
            rows += [
                _measure(base, candidate, dtype, c, largest, repeats, spectral)
                for c in ("cold", "warm")
            ]
    return rows


def spectral_seconds(base: Path, candidate: Path) -> float:
    """Processor seconds per 10^9 parameters for all singular values of one layer's change."""
    jobs = tensor_pairs.find(base, candidate).jobs
    layer = [job for job in jobs if layer_of(job.name) == 0] or jobs
    start = _now()
    for job in layer:
        if job.candidate:
            drift_spectral.spectrum(drift_spectral.load_change(job.base, job.candidate))
    return _since(start).cpu * 1e9 / sum(job.base.numel for job in layer)


def write_pair(base: Path, candidate: Path, dtype: str, size: int) -> int:
    """Write two checkpoints of about `size` bytes, every weight of which moved.

    Returns:
        Bytes of the largest tensor.
    """
    generator = np.random.default_rng(0)
    values = generator.standard_normal(POOL, dtype=np.float32) * np.float32(0.02)
    step = generator.standard_normal(POOL, dtype=np.float32) * np.float32(2e-4)
    shapes = _shapes(size // (2 if dtype == "BF16" else 4))
    for folder, pool in ((base, values), (candidate, values + step)):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text('{"tie_word_embeddings": false}')
        raw = (pool.view(np.uint32) >> 16).astype(np.uint16) if dtype == "BF16" else pool
        _write(folder / "model.safetensors", shapes, dtype, raw)
    return max(rows * columns for rows, columns in shapes.values()) * raw.itemsize


def _shapes(parameters: int) -> dict[str, tuple[int, int]]:
    """Embedding and head of 32768 x 2048, and as many layers as fit (at least one)."""
    layer = {
        **{f"self_attn.{side}_proj.weight": (2048, 2048) for side in "qkvo"},
        **{f"mlp.{side}_proj.weight": (5632, 2048) for side in ("gate", "up")},
        "mlp.down_proj.weight": (2048, 5632),
    }
    ends = dict.fromkeys(("model.embed_tokens.weight", "lm_head.weight"), (32768, 2048))
    each = sum(rows * columns for rows, columns in layer.values())
    layers = max(1, (parameters - 2 * 32768 * 2048) // each)
    inner = {f"model.layers.{n}.{name}": s for n in range(layers) for name, s in layer.items()}
    return ends | inner


def _write(file: Path, shapes: dict[str, tuple[int, int]], dtype: str, pool: NDArray[Any]) -> None:
    header: dict[str, Any] = {}
    end = 0
    for name, (rows, columns) in shapes.items():
        start, end = end, end + rows * columns * pool.itemsize
        header[name] = {"dtype": dtype, "shape": [rows, columns], "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for number, (rows, columns) in enumerate(shapes.values()):
            for part in _tiles(pool, rows * columns, 1013 * number):
                stream.write(part.data)
        stream.flush()
        os.fsync(stream.fileno())


def _tiles(pool: NDArray[Any], count: int, offset: int) -> Iterator[NDArray[Any]]:
    while count:
        part = pool[offset % len(pool) :][:count]
        yield part
        count -= len(part)
        offset = 0


def _measure(
    base: Path,
    candidate: Path,
    dtype: str,
    cache: str,
    largest: int,
    repeats: int,
    spectral: float,
) -> DriftSpeed:
    files = [folder / "model.safetensors" for folder in (base, candidate)]
    reads: list[_Timed] = []
    drifts: list[_Timed] = []
    peaks: list[int] = []
    _read(files)
    for _ in range(repeats):
        if cache == "cold":
            _forget(files)
        reads.append(_read(files))
        if cache == "cold":
            _forget(files)
        done = subprocess.run(
            [sys.executable, "-P", __file__, str(base), str(candidate)],
            check=True,
            capture_output=True,
            text=True,
        )
        found = json.loads(done.stdout)
        drifts.append(_Timed(found["seconds"], found["cpu_seconds"]))
        peaks.append(found["peak_bytes"])
    return DriftSpeed(
        dtype=dtype,
        cache=cache,
        bytes=sum(file.stat().st_size for file in files),
        largest_tensor=largest,
        read_seconds=statistics.median(one.wall for one in reads),
        drift_seconds=statistics.median(one.wall for one in drifts),
        share_of_read=statistics.median(
            a.wall / b.wall for a, b in zip(reads, drifts, strict=True)
        ),
        read_cpu_seconds=statistics.median(one.cpu for one in reads),
        drift_cpu_seconds=statistics.median(one.cpu for one in drifts),
        peak_bytes=max(peaks),
        allowed_bytes=3 * largest + 400_000_000,
        threads=tensor_pairs.threads(),
        spectral_seconds=spectral,
    )


def _read(files: list[Path]) -> _Timed:
    """Read all files once, in order."""
    buffer = bytearray(BUFFER)
    start = _now()
    for file in files:
        with file.open("rb", buffering=0) as stream:
            while stream.readinto(buffer):
                pass
    return _since(start)


def _forget(files: list[Path]) -> None:
    for file in files:
        with file.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def findings(rows: list[dict[str, Any]]) -> list[str]:
    """What the stored rows show."""
    return [
        f"{row['dtype']}, {row['cache']}: {row['share_of_read']:.0%} of the rate of reading (goal "
        f"70%), {row['peak_bytes'] / 1e6:.0f} MB of {row['allowed_bytes'] / 1e6:.0f} allowed."
        for row in rows
    ]


def main() -> None:
    """Measure the two folders on the command line once."""
    base, candidate = (Path(name) for name in sys.argv[1:3])
    start = _now()
    drift.measure(base, candidate)
    spent = _since(start)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    # Not getrusage: its maximum survives exec, so it would count the parent's memory.
    peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    found = {"seconds": spent.wall, "cpu_seconds": spent.cpu, "peak_bytes": 1024 * int(peak)}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
