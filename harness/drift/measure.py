"""How far and where the weights moved: base against candidate, whole and in parts (METHODS 14).

Reads two model folders, or a model folder and an adapter folder; writes nothing that stays
(`summary` makes a scorecard's columns of the report, drift/terminal.py what is printed). Every byte
of both is read once, with some 50 MiB resident for each of at most four threads (`OMP_NUM_THREADS`
limits them). The levels `spectral` and `subspace` read the matrices again and cost minutes on large
models, hence off by default (`python -m results.performance.build drift` says how many); LoRA
adapters get their spectrum for free.

A LoRA adapter is measured as served unmerged: its change is s B A in float32. Merging rounds to
the save dtype; measure the merged folder to see that. Other adapters are merged in float32 and
measured from a temporary folder of the size of the base.

Command: `retainbench drift BASE CANDIDATE`.

Left out: pickled weights and quantised checkpoints (refused), and principal angles of more than the
top `drift_spectral.SUBSPACE_RANK` directions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.scorecards import DriftSummary
from retainbench.harness.drift import lora as drift_lora
from retainbench.harness.drift import spectral as drift_spectral
from retainbench.harness.drift import tensor_pairs
from retainbench.harness.drift.blocks import Totals
from retainbench.harness.drift.names import kind_of, layer_of
from retainbench.harness.drift.records import (
    DriftReport,
    GroupDrift,
    Spectrum,
    Subspace,
    TensorDrift,
)
from retainbench.harness.drift.tensor_pairs import TensorPair
from retainbench.harness.models.checks.foreign import reading
from retainbench.harness.models.checks.weights import is_adapter


def measure(
    base: Path,
    candidate: Path,
    *,
    spectral: bool = False,
    subspace: bool = False,
    master_dtype: str | None = None,
) -> DriftReport:
    """Compare a candidate with its base.

    Args:
        base: folder of a full model in safetensors.
        candidate: folder of a full model or of an adapter to `base`.
        spectral: also take the singular values of each matrix' change.
        subspace: also compare each change with the base's principal subspaces.
        master_dtype: dtype of the weights that the optimizer moved, to be stated in the report.

    Raises:
        IntegrityError: a tensor is missing, extra, renamed, reshaped, NaN or infinite, or a folder
            holds no weights.
        UsageError: not a folder.
    """
    for folder in (base, candidate):
        if not folder.is_dir():
            raise UsageError(f"not a model folder: {folder}")
    if is_adapter(candidate) and (reason := drift_lora.not_a_product(candidate)):
        with TemporaryDirectory() as temporary:
            merged = _save_merged(base, candidate, Path(temporary) / "merged")
            report = measure(base, merged, spectral=spectral, subspace=subspace)
        note = f"adapter with {reason}: measured merged, in {'+'.join(report.candidate_dtypes)}"
        update = {"notes": [*report.notes, note], "master_dtype": master_dtype}
        return report.model_copy(update=update)
    work = tensor_pairs.find(base, candidate)
    totals = tensor_pairs.read(work.jobs)
    deep = _deep(spectral=spectral, subspace=subspace)
    whole = _sum(totals)
    tensors = [
        _tensor(job, own, whole, *deep(job)) for job, own in zip(work.jobs, totals, strict=True)
    ]
    names = [job.name for job in work.jobs]
    return DriftReport(
        overall=_group("all", totals, whole),
        kinds=_groups([kind_of(name) for name in names], totals, whole),
        layers=_groups(_layer_names(names), totals, whole),
        tensors=tensors,
        base_dtypes=tensor_pairs.dtypes(job.base for job in work.jobs),
        candidate_dtypes=work.candidate_dtypes,
        master_dtype=master_dtype,
        tied=work.tied,
        buffers=work.buffers,
        notes=work.notes,
        rank_tolerance=drift_spectral.RANK_TOLERANCE,
    )


def _save_merged(base: Path, adapter: Path, folder: Path) -> Path:
    """The base with an adapter merged into it, as a folder of weights and config."""
    from retainbench.harness.models import loading
    from retainbench.harness.models.checked import check, on_parent

    model = loading.load_model(on_parent(check(adapter), check(base)))
    with reading(adapter, "the merged model"):
        model.save_pretrained(folder)
    return folder


def summarise(base: Path, candidate: Path, metrics: Mapping[str, float]) -> DriftSummary:
    """`measure` at its cheapest level, as the scorecard's columns.

    Args:
        base: folder of the base.
        candidate: folder of a checkpoint.
        metrics: the training's metrics at this checkpoint; `es_null` gives the ratio to the null.
    """
    return summary(measure(base, candidate), es_null=metrics.get("es_null"))


def summary(report: DriftReport, es_null: float | None = None) -> DriftSummary:
    """The global numbers of a report; `es_null` is in the unit of the weights.

    Raises:
        IntegrityError: the base has no weights other than zero, so nothing is relative to it.
    """
    whole = report.overall
    if whole.relative is None:
        raise IntegrityError("every weight of the base is zero")
    return DriftSummary(
        frobenius=whole.frobenius,
        relative=whole.relative,
        changed_parameters=round((1 - whole.unchanged.exact) * whole.numel),
        parameters=whole.numel,
        unchanged_exact=whole.unchanged.exact,
        unchanged_1e5=whole.unchanged.within_1e5,
        unchanged_bf16=whole.unchanged.relative_1e3,
        cosine=whole.cosine or 0.0,
        by_kind={group.group: group.squared_share for group in report.kinds},
        by_layer={group.group: group.squared_share for group in report.layers},
        relative_by_kind={g.group: g.relative for g in report.kinds if g.relative is not None},
        es_null=es_null,
        over_null=whole.frobenius / es_null if es_null else None,
        dtypes=_dtype_line(report),
    )


def _deep(
    *, spectral: bool, subspace: bool
) -> Callable[[TensorPair], tuple[Spectrum | None, Subspace | None]]:
    """A function that gives the expensive levels' figures for one parameter."""

    def look(job: TensorPair) -> tuple[Spectrum | None, Subspace | None]:
        if job.change and not subspace:
            return drift_spectral.from_values(drift_lora.singular_values(job.change)), None
        if len(job.base.shape) != 2 or 0 in job.base.shape or not (spectral or subspace):
            return None, None
        change = _load_change(job)
        small = job.base.numel <= drift_spectral.SUBSPACE_ELEMENTS
        within = subspace and small
        place = drift_spectral.subspace(drift_spectral.load(job.base), change) if within else None
        if job.change:
            return drift_spectral.from_values(drift_lora.singular_values(job.change)), place
        return (drift_spectral.spectrum(change) if spectral else None), place

    return look


def _load_change(job: TensorPair) -> drift_spectral.FloatMatrix:
    if job.candidate:
        return drift_spectral.load_change(job.base, job.candidate)
    if job.change:
        return drift_lora.rows(job.change, 0, job.base.numel).reshape(job.base.shape)
    return np.zeros(job.base.shape, np.float32)


def _sum(parts: Iterable[Totals]) -> Totals:
    whole = Totals()
    for part in parts:
        whole.add(part)
    return whole


def _geometry(own: Totals, whole: Totals) -> dict[str, Any]:
    """The fields of `Geometry`."""
    frobenius, before = own.square**0.5, own.base_square**0.5
    return {
        "numel": own.numel,
        "frobenius": frobenius,
        "base_frobenius": before,
        "relative": frobenius / before if before else None,
        "mean_abs": own.absolute / own.numel if own.numel else 0.0,
        "max_abs": own.peak,
        "cosine": own.cosine(),
        "unchanged": own.unchanged(),
        "squared_share": min(1.0, own.square / whole.square) if whole.square else 0.0,
    }


def _tensor(
    job: TensorPair,
    own: Totals,
    whole: Totals,
    spectrum: Spectrum | None,
    subspace: Subspace | None,
) -> TensorDrift:
    after = job.candidate.dtype if job.candidate else "adapter" if job.change else job.base.dtype
    return TensorDrift(
        name=job.name,
        kind=kind_of(job.name),
        layer=layer_of(job.name),
        shape=list(job.base.shape),
        base_dtype=job.base.dtype,
        candidate_dtype=after,
        spectrum=spectrum,
        subspace=subspace,
        **_geometry(own, whole),
    )


def _group(name: str, parts: Sequence[Totals], whole: Totals) -> GroupDrift:
    own = _sum(parts)
    share = own.numel / whole.numel if whole.numel else 0.0
    geometry = _geometry(own, whole)
    return GroupDrift(group=name, tensors=len(parts), parameter_share=share, **geometry)


def _groups(labels: Sequence[str], totals: Sequence[Totals], whole: Totals) -> list[GroupDrift]:
    members: dict[str, list[Totals]] = {}
    for label, own in zip(labels, totals, strict=True):
        members.setdefault(label, []).append(own)
    return [_group(label, members[label], whole) for label in sorted(members)]


def _layer_names(names: Sequence[str]) -> list[str]:
    """Depths padded with zeros, so that they sort as text; `outside` sorts after them."""
    depths = [layer_of(name) for name in names]
    width = len(str(max((depth for depth in depths if depth is not None), default=0)))
    return ["outside" if depth is None else f"{depth:0{width}d}" for depth in depths]


def _dtype_line(report: DriftReport) -> str:
    """For example `base BF16, candidate F32, master float32`."""
    base, candidate = "+".join(report.base_dtypes), "+".join(report.candidate_dtypes)
    master = f", master {report.master_dtype}" if report.master_dtype else ""
    return f"base {base}, candidate {candidate}{master}"
