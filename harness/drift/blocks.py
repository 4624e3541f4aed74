"""The inner loop of drift: raw bytes of two tensors -> running totals, in one pass over them.

Reads and writes nothing. Everything is computed on blocks of 262144 elements (1 MiB of float32):
small enough for a core's share of the cache, large enough that neither the cost of 20 numpy calls
per block shows (a quarter of it took 1.2 times as long) nor the interpreter lock that threads pass
to each other between them. Sums of squares are dot products in float32
over rows of 1024, added up in float64: accurate to 1e-7 at twice the speed of float64 arithmetic
(over a whole block, squares of bfloat16 values round to one side, which costs 2e-6). Blocks whose
squares would leave float32's range fall back to float64 and give the same quantity.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.drift.files import Bytes
from retainbench.harness.drift.records import Unchanged
from retainbench.harness.models.checks.headers import FLOATS

Floats = NDArray[Any]
"""One-dimensional float32 or float64."""

BLOCK = 1 << 18
ROW = 1 << 10
TOLERANCES = (1e-6, 1e-5, 1e-4)
RELATIVE = 1e-3
HALF = np.float32(RELATIVE / 2 / (1 - RELATIVE / 2))
"""With d = a - b, |d| <= eta max(|a|, |b|) is |d| <= HALF |a + b|: max(|a|, |b|) is half of
|a + b| + |a - b|."""
_INTEGERS: dict[int, type[np.signedinteger[Any]]] = {4: np.int32, 8: np.int64}
"""Bytes per float -> integers of that size, on which zeros of a magnitude are counted faster."""
SAFE = (1e-15, 1e15)
"""Largest magnitude of a block between which its squares neither vanish nor overflow in float32."""


@dataclass
class Totals:
    """What has been summed over some elements; totals of parts add up to those of the whole."""

    numel: int = 0
    square: float = 0.0
    """Sum of squares of the change; `base_square` and `candidate_square` are the tensors' own."""
    base_square: float = 0.0
    candidate_square: float = 0.0
    absolute: float = 0.0
    peak: float = 0.0
    exact: int = 0
    """Elements that did not change; `within` counts changes up to each of `TOLERANCES`."""
    within: list[int] = field(default_factory=lambda: [0] * len(TOLERANCES))
    relative: int = 0

    def add(self, other: Totals) -> None:
        """Take in another part."""
        self.numel += other.numel
        self.square += other.square
        self.base_square += other.base_square
        self.candidate_square += other.candidate_square
        self.absolute += other.absolute
        self.peak = max(self.peak, other.peak)
        self.exact += other.exact
        self.within = [a + b for a, b in zip(self.within, other.within, strict=True)]
        self.relative += other.relative

    def cosine(self) -> float | None:
        """cos(base, candidate) by the cosine rule, exact for small angles; None if either is 0.

        The subtraction costs absolute, not relative accuracy: about 1e-7 for unrelated tensors.
        """
        if not self.base_square or not self.candidate_square:
            return None
        inner = (self.base_square + self.candidate_square - self.square) / 2
        return float(np.clip(inner / np.sqrt(self.base_square * self.candidate_square), -1, 1))

    def unchanged(self) -> Unchanged:
        """Counts as shares of the elements; an empty tensor is unchanged."""
        number = max(self.numel, 1)
        empty = self.numel == 0
        counts = (self.exact, *self.within, self.relative)
        shares = [1.0 if empty else count / number for count in counts]
        names = ("exact", "within_1e6", "within_1e5", "within_1e4", "relative_1e3")
        return Unchanged(**dict(zip(names, shares, strict=True)))


class Workspace:
    """Buffers of one block, reused for a whole checkpoint."""

    def __init__(self, dtype: type[np.float32] | type[np.float64]) -> None:
        self.dtype = dtype
        self.base, self.candidate, self.change, self.scratch = np.empty((4, BLOCK), dtype)
        self.ones = np.ones(ROW, dtype)
        self.mask = np.empty(BLOCK, bool)


def widen(raw: Bytes, dtype: str, out: Floats) -> Floats:
    """Stored bytes as floats in natural order; a view where no conversion is needed, else `out`."""
    if dtype == "BF16":
        if out.dtype == np.float64:
            out[:] = widen(raw, dtype, np.empty(len(out), np.float32))
            return out
        bits = out.view(np.uint32)
        bits[:] = raw.view(np.uint16)
        np.left_shift(bits, 16, out=bits)
        return out
    values = raw.view({"F64": np.float64, "F32": np.float32, "F16": np.float16}[dtype])
    if values.dtype == out.dtype:
        return values
    out[:] = values
    return out


def _widen_halves(raw: Bytes, out: Floats) -> Floats:
    """bfloat16 as float32, elements of even index first: two vector operations instead of a cast.

    The order does not matter to a sum as long as both tensors use the same.
    """
    pairs, bits, half = raw.view(np.uint32), out.view(np.uint32), len(out) // 2
    np.left_shift(pairs, 16, out=bits[:half])
    np.bitwise_and(pairs, 0xFFFF0000, out=bits[half:])
    return out


def add_pair(
    totals: Totals,
    raw: tuple[Bytes, ...],
    dtypes: tuple[str, str],
    space: Workspace,
    where: str,
) -> None:
    """Add the same elements of base and candidate, given as stored bytes.

    Args:
        totals: what to add to.
        raw: the bytes of base and candidate, equally many elements.
        dtypes: their safetensors dtypes.
        space: scratch memory; its dtype is the precision of the arithmetic.
        where: the tensor's name, for the error.

    Raises:
        IntegrityError: NaN or infinity in either.
    """
    sizes = [FLOATS[dtype] for dtype in dtypes]
    number = raw[0].nbytes // sizes[0]
    both_bf16 = dtypes == ("BF16", "BF16") and space.dtype is np.float32
    for start in range(0, number, BLOCK):
        stop = min(start + BLOCK, number)
        count = stop - start
        parts = [r[start * s : stop * s] for r, s in zip(raw, sizes, strict=True)]
        into = (space.base[:count], space.candidate[:count])
        if both_bf16 and count % 2 == 0:
            base, candidate = (_widen_halves(r, o) for r, o in zip(parts, into, strict=True))
        else:
            base, candidate = (widen(*both) for both in zip(parts, dtypes, into, strict=True))
        tally(totals, base, candidate, None, space, where, equality=both_bf16)


def add_change(
    totals: Totals, raw: Bytes, dtype: str, change: Floats, space: Workspace, where: str
) -> None:
    """Add elements of the base whose change is known instead of the candidate.

    Args:
        totals: what to add to.
        raw: the base's bytes.
        dtype: their safetensors dtype.
        change: candidate - base, as many elements (overwritten).
        space: scratch memory; its dtype is the precision of the arithmetic.
        where: the tensor's name, for the error.
    """
    size = FLOATS[dtype]
    for start in range(0, len(change), BLOCK):
        moved = change[start : start + BLOCK].astype(space.dtype, copy=False)
        count = len(moved)
        base = widen(raw[start * size : (start + count) * size], dtype, space.base[:count])
        candidate = np.add(base, moved, out=space.candidate[:count])
        tally(totals, base, candidate, moved, space, where)


def add_same(totals: Totals, raw: Bytes, dtype: str, space: Workspace, where: str) -> None:
    """Add elements of the base that the candidate shares; the arguments are those of `add_pair`."""
    size = FLOATS[dtype]
    part = Totals()
    for start in range(0, raw.nbytes, BLOCK * size):
        piece = raw[start : start + BLOCK * size]
        base = widen(piece, dtype, space.base[: piece.nbytes // size])
        part.numel += len(base)
        part.base_square += _finite_square(base, f"{where} of the base")
    part.candidate_square = part.base_square
    part.exact = part.relative = part.numel
    part.within = [part.numel] * len(TOLERANCES)
    totals.add(part)


def tally(
    totals: Totals,
    base: Floats,
    candidate: Floats,
    change: Floats | None,
    space: Workspace,
    where: str,
    *,
    equality: bool = False,
) -> None:
    """Add one block of at most `BLOCK` elements.

    Args:
        totals: what to add to.
        base: elements of the base.
        candidate: the same elements of the candidate.
        change: candidate - base if it is known better than by subtraction (overwritten).
        space: scratch memory of the blocks' dtype.
        where: the tensor's name, for the error.
        equality: both tensors are stored in bfloat16, whose neighbours differ by 2^-8 or more of
            the larger, so that `RELATIVE` means equality (METHODS 14).
    """
    count = len(base)
    totals.numel += count
    totals.base_square += _finite_square(base, f"{where} of the base")
    totals.candidate_square += _finite_square(candidate, f"{where} of the candidate")
    moved = change
    if moved is None:
        moved = np.subtract(candidate, base, out=space.change[:count])
    np.abs(moved, out=moved)
    peak = float(moved.max())
    if peak == 0:
        totals.add(Totals(exact=count, within=[count] * len(TOLERANCES), relative=count))
        return
    totals.peak = max(totals.peak, peak)
    narrow = SAFE[0] < peak < SAFE[1]
    totals.square += _inner(moved, moved) if narrow else _square(moved)
    totals.absolute += _sum(moved, space.ones)
    mask = space.mask[:count]
    exact = count - int(np.count_nonzero(moved.view(_INTEGERS[moved.itemsize])))
    totals.exact += exact
    totals.within = [
        n + new for n, new in zip(totals.within, _within(moved, exact, peak, mask), strict=True)
    ]
    if equality:
        totals.relative += exact
        return
    limit = np.add(base, candidate, out=space.scratch[:count])
    np.abs(limit, out=limit)
    np.multiply(limit, HALF, out=limit)
    np.less_equal(moved, limit, out=mask)
    totals.relative += int(np.count_nonzero(mask))


def _within(moved: Floats, exact: int, peak: float, mask: NDArray[np.bool_]) -> list[int]:
    """Elements up to each tolerance, the largest first: where it finds only zeros, so do others."""
    found: list[int] = []
    for limit in reversed(TOLERANCES):
        if peak <= limit:
            found.append(len(moved))
        elif found and found[-1] == exact:
            found.append(exact)
        else:
            np.less_equal(moved, moved.dtype.type(limit), out=mask)
            found.append(int(np.count_nonzero(mask)))
    return found[::-1]


def _inner(one: Floats, other: Floats) -> float:
    """Dot product of two equally long vectors, by rows."""
    whole = len(one) - len(one) % ROW
    rows = np.vecdot(one[:whole].reshape(-1, ROW), other[:whole].reshape(-1, ROW))
    return float(rows.sum(dtype=np.float64)) + float(np.dot(one[whole:], other[whole:]))


def _sum(values: Floats, ones: Floats) -> float:
    """Sum by rows, as the dot product with one row of ones, which stays in the nearest cache."""
    whole = len(values) - len(values) % ROW
    rows = np.vecdot(values[:whole].reshape(-1, ROW), ones)
    return float(rows.sum(dtype=np.float64)) + float(values[whole:].sum(dtype=np.float64))


def _square(values: Floats) -> float:
    wide = values.astype(np.float64)
    return float(np.dot(wide, wide))


def _finite_square(values: Floats, where: str) -> float:
    """Sum of squares; a float32 sum that left the safe range is taken again in float64."""
    total = _inner(values, values)
    if not 1e-24 < total < 1e30:
        total = _square(values)
        if not np.isfinite(total):
            raise IntegrityError(f"{where} holds NaN or infinity")
    return total
