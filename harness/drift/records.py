"""The results of a drift measurement, as records; `drift.json` itself holds the `DriftSummary`.

Reads and writes nothing. All norms are of float32 differences with squares summed in float64
(float64 throughout where a stored tensor is float64); all shares are of parameters, never averaged
over tensors (METHODS 14).
"""

from __future__ import annotations

from retainbench.harness.core.records import SCHEMA_VERSION, Record, Share


class Unchanged(Record):
    """Share of parameters that did not move, by five definitions of not moving."""

    exact: Share
    """candidate == base (0 and -0 are equal)."""
    within_1e6: Share
    """|candidate - base| <= 1e-6."""
    within_1e5: Share
    within_1e4: Share
    relative_1e3: Share
    """|candidate - base| <= 1e-3 max(|candidate|, |base|): equality after rounding to bfloat16
    granularity, and the only share that compares float32 and bfloat16 checkpoints fairly."""


class Spectrum(Record):
    """Singular values of the change D of one matrix."""

    norm: float
    """s1, the largest."""
    stable_rank: float | None
    """|D|_F^2 / s1^2; None for D = 0."""
    numerical_rank: int | None
    """Singular values above `rank_tolerance` s1; None for matrices beyond the size limit."""
    energy_rank: int | None
    """Singular values that hold 90 % of |D|_F^2; None beyond the size limit and for D = 0."""


class Subspace(Record):
    """Where D is with respect to the base's top-k singular subspaces (arXiv:2511.08567)."""

    rank: int
    """k."""
    left: Share
    """|U_k^T D|^2 / |D|^2."""
    left_random: Share
    """Expectation of `left` for D with independent entries: k / rows."""
    right: Share
    right_random: Share
    overlap: Share
    """Mean squared cosine of the principal angles between base's and candidate's top-k right
    subspaces; 1 = not rotated."""
    overlap_random: Share
    """The same for a random subspace: k / columns."""
    shift: float
    """|s(candidate) - s(base)| / |s(base)| over all singular values."""
    mask: Share
    """Share of the changed entries that are where the base's rank-k part is largest."""
    mask_random: Share
    """The density of that principal mask, which a random update mask would reach."""


class Geometry(Record):
    """Size and direction of a change."""

    numel: int
    frobenius: float
    base_frobenius: float
    relative: float | None
    """frobenius / base_frobenius; None for a base of zeros."""
    mean_abs: float
    max_abs: float
    cosine: float | None
    """Between base and candidate; None where either is zero."""
    unchanged: Unchanged
    squared_share: Share
    """Share of the checkpoint's squared norm of change; 0 where nothing changed at all."""


class TensorDrift(Geometry):
    """One parameter."""

    name: str
    kind: str
    layer: int | None
    shape: list[int]
    base_dtype: str
    candidate_dtype: str
    """Dtypes as stored."""
    spectrum: Spectrum | None = None
    subspace: Subspace | None = None


class GroupDrift(Geometry):
    """All parameters of one module kind, of one layer, or of the checkpoint."""

    group: str
    tensors: int
    parameter_share: Share


class DriftReport(Record):
    """Candidate minus base, whole and in parts."""

    schema_version: int = SCHEMA_VERSION
    overall: GroupDrift
    kinds: list[GroupDrift]
    layers: list[GroupDrift]
    """By depth; `outside` holds what belongs to no layer."""
    tensors: list[TensorDrift]
    base_dtypes: dict[str, int]
    """Dtype as saved -> parameters."""
    candidate_dtypes: dict[str, int]
    master_dtype: str | None
    """Dtype of the weights that the optimizer moved, if the caller knows it."""
    tied: list[str]
    """Names left out because they are stored copies of a tensor that is counted."""
    buffers: list[str]
    """Names left out because they are not parameters (rotary frequencies, attention masks)."""
    notes: list[str]
    rank_tolerance: float
