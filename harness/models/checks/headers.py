"""Headers of safetensors files, checked before any library maps or copies a tensor.

Reads the header only (8 bytes of length, then JSON), so a file of any size is checked in
milliseconds. Format: https://github.com/huggingface/safetensors#format. Writes nothing; whether the
values are finite is known only after loading (`loading.check_finite`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.files.foreign_json import parse_object, regular_file

FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
INTEGERS = {"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1}
BITS = {name: 8 * size for name, size in (FLOATS | INTEGERS).items()} | {
    "C64": 64,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F4": 4,
}
MOST_HEADER = 16 << 20
"""Bytes; the library allows 100 MB, a shard with 100,000 tensors needs 12 MB."""


class StoredTensor(NamedTuple):
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


def read_header(file: Path) -> dict[str, StoredTensor]:
    """Name -> tensor of one safetensors file, in the order of the header.

    Raises:
        IntegrityError: not a regular file, truncated, a header that is not JSON, or tensors whose
            dtype, shape and offsets do not fill the file exactly.
    """
    size = regular_file(file)
    if size < 10:
        raise IntegrityError(f"{file}: {size} bytes; too short for a safetensors file")
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > min(size - 8, MOST_HEADER):
            raise IntegrityError(
                f"{file}: the header claims {length} bytes; the file has {size} bytes and a header "
                f"may have {MOST_HEADER}"
            )
        text = stream.read(length)
    try:
        header = parse_object(text.decode("utf-8"), f"{file}: header")
    except UnicodeDecodeError as error:
        raise IntegrityError(f"{file}: the header is not UTF-8") from error
    header.pop("__metadata__", None)
    found: dict[str, StoredTensor] = {}
    ends: dict[str, tuple[int, int]] = {}
    for name, entry in header.items():
        found[name], ends[name] = _entry(file, name, entry, 8 + length)
    _require_tiling(file, ends, size - 8 - length)
    return found


def _entry(file: Path, name: str, entry: Any, data: int) -> tuple[StoredTensor, tuple[int, int]]:
    """A tensor and its (begin, end) relative to the data."""
    fields = entry if isinstance(entry, dict) else {}
    dtype = fields.get("dtype")
    shape, offsets = _counts(fields.get("shape")), _counts(fields.get("data_offsets"))
    if shape is None or offsets is None or len(offsets) != 2:
        raise IntegrityError(f"{file}: {name[:80]}: shape and data_offsets must be whole numbers")
    if not isinstance(dtype, str) or dtype not in BITS:
        raise IntegrityError(f"{file}: {name[:80]}: unknown dtype {str(dtype)[:40]!r}")
    numel = 1
    for length in shape:
        numel *= length
    if numel >= 2**62 or numel * BITS[dtype] != 8 * (offsets[1] - offsets[0]):
        raise IntegrityError(
            f"{file}: {name[:80]}: shape {str(shape)[:60]} of {dtype} does not fit into bytes "
            f"{offsets[0]} to {offsets[1]}"
        )
    stored = StoredTensor(name, file, dtype, tuple(shape), data + offsets[0])
    return stored, (offsets[0], offsets[1])


def _counts(value: Any) -> list[int] | None:
    """A list of whole numbers below 2^62, else None."""
    fine = isinstance(value, list) and all(type(n) is int and 0 <= n < 2**62 for n in value)
    return value if fine else None


def _require_tiling(file: Path, ends: dict[str, tuple[int, int]], size: int) -> None:
    """Tensors must follow each other without gaps or overlaps, up to the end of the file."""
    place = 0
    for name, (begin, end) in sorted(ends.items(), key=lambda item: item[1]):
        if begin != place:
            what = "overlaps the tensor before it" if begin < place else "leaves a gap before it"
            raise IntegrityError(f"{file}: {name[:80]} {what}; write the file again")
        place = end
    if place != size:
        raise IntegrityError(
            f"{file}: holds {size} bytes of data, its header describes {place}: truncated or "
            "overwritten; copy it again"
        )
