"""Singular values of a change, and where it is in the base's principal subspaces.

Reads one tensor pair at a time; writes nothing. This is the expensive level of drift, off unless
asked for. It holds the change of one matrix in float32 and takes all singular values from the
eigenvalues of its float64 Gram matrix on the short side, which resolves singular values down to
1e-8 of the largest; `RANK_TOLERANCE` stays well above that. Matrices whose short side exceeds
`FULL_SPECTRUM` get the largest singular value only (Lanczos); those above `SUBSPACE_ELEMENTS` get
no subspace, which needs several matrices of that size at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from retainbench.harness.drift.blocks import widen
from retainbench.harness.drift.files import stream
from retainbench.harness.drift.records import Spectrum, Subspace
from retainbench.harness.models.checks.headers import StoredTensor

FloatMatrix = NDArray[Any]

FULL_SPECTRUM = 4096
"""Longest short side for which all singular values are taken: 9e10 floating-point operations."""
SUBSPACE_ELEMENTS = 1 << 25
"""128 MiB of float32."""
SUBSPACE_RANK = 16
RANK_TOLERANCE = 1e-5
ENERGY = 0.9
SLICE = 4096


def load(stored: StoredTensor) -> FloatMatrix:
    """A stored tensor as float32 (float64 if stored so), in its shape."""
    out = np.empty(stored.numel, np.float64 if stored.dtype == "F64" else np.float32)
    for piece in stream([(stored,)]):
        part = out[piece.start : piece.start + piece.parts[0].nbytes // stored.itemsize]
        part[:] = widen(piece.parts[0], stored.dtype, part)
    return out.reshape(stored.shape)


def load_change(base: StoredTensor, candidate: StoredTensor) -> FloatMatrix:
    """candidate - base, holding one tensor and one piece of the other."""
    out = load(candidate).reshape(-1)
    if base.dtype == "F64" and out.dtype != np.float64:
        out = out.astype(np.float64)
    for piece in stream([(base,)]):
        part = out[piece.start : piece.start + piece.parts[0].nbytes // base.itemsize]
        part -= widen(piece.parts[0], base.dtype, np.empty_like(part))
    return out.reshape(base.shape)


def gram(matrix: FloatMatrix) -> FloatMatrix:
    """The smaller of X^T X and X X^T in float64, summed over slices of the long side."""
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    total = np.zeros((tall.shape[1], tall.shape[1]))
    for start in range(0, tall.shape[0], SLICE):
        rows = tall[start : start + SLICE].astype(np.float64)
        total += rows.T @ rows
    return total


def singular_values(matrix: FloatMatrix) -> FloatMatrix:
    """All singular values, largest first; those below 1e-8 of the largest are noise."""
    from scipy.linalg import eigvalsh

    eigenvalues = eigvalsh(gram(matrix), overwrite_a=True, check_finite=False)
    return np.asarray(np.sqrt(np.clip(eigenvalues[::-1], 0, None)))


def spectrum(change: FloatMatrix) -> Spectrum:
    """Spectral norm, stable rank and ranks of one matrix."""
    if min(change.shape) <= FULL_SPECTRUM:
        return from_values(singular_values(change))
    flat = change.reshape(-1)
    square = sum(
        float(np.sum(np.square(flat[n : n + 2**20], dtype=np.float64)))
        for n in range(0, flat.size, 2**20)
    )
    norm = _largest(change) if square else 0.0
    return Spectrum(
        norm=norm,
        stable_rank=square / norm**2 if norm else None,
        numerical_rank=None,
        energy_rank=None,
    )


def from_values(values: FloatMatrix) -> Spectrum:
    """A `Spectrum` from all singular values, largest first.

    >>> from_values(np.array([1.5, 1.0])).stable_rank  # METHODS 14: 1.444444
    1.4444444444444444
    """
    squares = values.astype(np.float64) ** 2
    total, norm = float(squares.sum()), float(values[0]) if len(values) else 0.0
    if norm == 0:
        return Spectrum(norm=0.0, stable_rank=None, numerical_rank=0, energy_rank=None)
    held = np.cumsum(squares)
    return Spectrum(
        norm=norm,
        stable_rank=total / norm**2,
        numerical_rank=int(np.sum(values > RANK_TOLERANCE * norm)),
        energy_rank=int(np.searchsorted(held, ENERGY * total) + 1),
    )


def _largest(matrix: FloatMatrix) -> float:
    """s1 by Lanczos from a fixed start vector (ARPACK, tolerance of machine precision)."""
    from scipy.sparse.linalg import svds

    start = np.random.default_rng(0).standard_normal(min(matrix.shape)).astype(matrix.dtype)
    return float(svds(matrix, k=1, v0=start, return_singular_vectors=False)[0])


def subspace(base: FloatMatrix, change: FloatMatrix) -> Subspace | None:
    """Overlap of a change with the base's top-k singular subspaces, next to random baselines.

    k is `SUBSPACE_RANK`, less for small matrices. None for a change of 0 or a base of 0.
    """
    rows, columns = base.shape
    rank = min(SUBSPACE_RANK, max(1, min(rows, columns) // 4))
    square = float(np.sum(np.square(change, dtype=np.float64)))
    if square == 0 or not base.any():
        return None
    left, values, right = _top(base, rank)
    candidate = base + change
    rotated = _top(candidate, rank)[2]
    before, after = singular_values(base), singular_values(candidate)
    mask, density = _mask_overlap(left @ (values[:, None] * right), change)
    return Subspace(
        rank=rank,
        left=_share(left.T @ change, square),
        left_random=rank / rows,
        right=_share(change @ right.T, square),
        right_random=rank / columns,
        overlap=min(1.0, float(np.sum((right @ rotated.T) ** 2)) / rank),
        overlap_random=rank / columns,
        shift=float(np.linalg.norm(after - before) / np.linalg.norm(before)),
        mask=mask,
        mask_random=density,
    )


def _top(matrix: FloatMatrix, rank: int) -> tuple[FloatMatrix, FloatMatrix, FloatMatrix]:
    """Top singular triplets: (rows, k), (k,), (k, columns)."""
    from scipy.linalg import eigh

    size = min(matrix.shape)
    _, vectors = eigh(gram(matrix), subset_by_index=(size - rank, size - 1), check_finite=False)
    vectors = vectors[:, ::-1]
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    other = tall @ vectors
    values = np.linalg.norm(other, axis=0)
    other = other / np.where(values > 0, values, 1)
    return (other, values, vectors.T) if tall is matrix else (vectors, values, other.T)


def _share(part: FloatMatrix, square: float) -> float:
    return min(1.0, float(np.sum(np.square(part, dtype=np.float64))) / square)


def _mask_overlap(principal: FloatMatrix, change: FloatMatrix) -> tuple[float, float]:
    """Share of changed entries inside the principal mask, whose density is that of the change.

    Where everything changed the mask is its largest half, since a full mask carries no information.
    """
    changed = change != 0
    density = min(0.5, float(changed.mean()))
    number = max(1, round(density * principal.size))
    magnitude = np.abs(principal).reshape(-1)
    mask = np.zeros(principal.size, bool)
    mask[np.argpartition(magnitude, -number)[-number:]] = True
    inside = int(np.count_nonzero(mask & changed.reshape(-1)))
    return inside / int(changed.sum()), number / principal.size
