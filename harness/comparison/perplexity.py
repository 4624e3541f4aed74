"""Held-out perplexity: by how many nats per token documents became less likely.

Takes paired records of tasks of documents (kind `perplexity`), which have no answers; returns
one `PerplexityChange` an axis. A document's difference is its negative log-likelihood by the
candidate minus that by the base, both divided by the base's number of tokens, so that a candidate
with another tokenizer can be compared. The unit of sampling is the document (or its cluster): the
tokens of one text are not independent evidence. It is continuous, so it sees damage long before an
answer flips; it has a margin of its own and never changes the verdict of a task with answers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from retainbench.harness.comparison.columns import RecordTable
from retainbench.harness.comparison.pairing import Floats, PairedRows, kept
from retainbench.harness.core.axes import ordered
from retainbench.harness.core.changes import DocumentChange, Interval, PerplexityChange
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.records import Verdict
from retainbench.harness.statistics.clusters import Design
from retainbench.harness.statistics.graded import t_quantile, t_tail
from retainbench.harness.statistics.multiplicity import axis_mean
from retainbench.harness.statistics.paired import Bounds
from retainbench.harness.statistics.verdict import FEWEST_CLUSTERS, decide

if TYPE_CHECKING:
    from retainbench.harness.core.schema import Policy

METHOD, AXIS_METHOD = "t over documents", "t over tasks"
WIDEST = 36.0
"""Nats: the standard error of a single cluster, which has none; e^-36 is below a double's step."""


class Documents(NamedTuple):
    """One task's documents by both models, in one order."""

    base: Floats
    """Nats per token."""
    candidate: Floats
    """Nats per token of the base's tokenizer."""
    base_bits: float
    """Bits per byte over all documents."""
    candidate_bits: float
    tokens: int
    clusters: Any
    left_out: int


def changes(judged: Sequence[tuple[str, DocumentChange]], policy: Policy) -> list[PerplexityChange]:
    """What changed on each axis that has documents, in the order of every table.

    Args:
        judged: axis and change of each task of documents.
    """
    found: dict[str, list[DocumentChange]] = {}
    for axis, change in judged:
        found.setdefault(axis, []).append(change)
    return [_axis(axis, found[axis], policy) for axis in ordered(found)]


def judge_documents(
    label: str, rows: PairedRows, policy: Policy, excluded: Mapping[str, Set[str]]
) -> tuple[str, DocumentChange]:
    """Axis and change of one task.

    Raises:
        IntegrityError: a document has no tokens or no likelihood.
    """
    found = documents(label, rows, excluded)
    return str(rows.base["axis"][0]), _change(label, found, policy)


def documents(label: str, rows: PairedRows, excluded: Mapping[str, Set[str]]) -> Documents:
    """Likelihoods of one task's documents as numbers."""
    left, right = kept(label, rows, excluded)
    tokens, sizes = left["document_tokens"], left["document_bytes"]
    if not (tokens >= 1).all() or not (sizes >= 1).all():
        raise IntegrityError(f"task {label!r}: a document's number of tokens or bytes is missing")
    likelihoods = [_likelihoods(label, side) for side in (left, right)]
    bits = [-float(one.sum()) / float(sizes.sum()) / math.log(2) for one in likelihoods]
    return Documents(
        base=-likelihoods[0] / tokens,
        candidate=-likelihoods[1] / tokens,
        base_bits=bits[0],
        candidate_bits=bits[1],
        tokens=int(tokens.sum()),
        clusters=np.asarray(left["cluster"].tolist()),
        left_out=len(rows.base) - len(left),
    )


def _likelihoods(label: str, rows: RecordTable) -> Floats:
    values = rows.choice_logprobs.values
    if (rows.choice_logprobs.lengths != 1).any() or not np.isfinite(values).all():
        raise IntegrityError(f"task {label!r}: a document has no log-likelihood, or several")
    return values


def _change(label: str, found: Documents, policy: Policy) -> DocumentChange:
    d, design = found.candidate - found.base, Design(found.clusters, policy.icc)
    level = 1 - 2 * policy.alpha
    few = len(d) < policy.minimum_items or design.groups < FEWEST_CLUSTERS
    mean = float(np.mean(d))
    error, degrees = WIDEST, math.inf
    if design.groups > 1:
        result = design.interval(d, level)
        error, degrees = result.standard_error, result.degrees
    ruling = _ruled(_Mean(mean, error, degrees), policy, few)
    return DocumentChange(
        task=label,
        n=len(d),
        clusters=design.groups,
        tokens=found.tokens,
        excluded=found.left_out,
        base_nats=float(np.mean(found.base)),
        candidate_nats=float(np.mean(found.candidate)),
        base_bits_per_byte=found.base_bits,
        candidate_bits_per_byte=found.candidate_bits,
        change=_interval(mean, ruling.bounds, level, len(d), METHOD),
        error=error,
        degrees=min(degrees, len(d)),
        margin=policy.perplexity_margin,
        verdict=ruling.verdict,
        reasons=ruling.reasons,
        p_change_within_margin=ruling.p_within,
    )


class _Mean(NamedTuple):
    value: float
    error: float
    degrees: float


class _PerplexityRuling(NamedTuple):
    bounds: Bounds
    verdict: Verdict
    reasons: list[str]
    p_within: float | None
    """None: too few documents to decide."""


def _ruled(mean: _Mean, policy: Policy, few: bool) -> _PerplexityRuling:
    """The three-way rule on a t interval."""
    margin = policy.perplexity_margin
    half = t_quantile(1 - policy.alpha, mean.degrees) * mean.error
    bounds, gap = Bounds(mean.value - half, mean.value + half), mean.value - margin
    if few:
        return _PerplexityRuling(bounds, "INCONCLUSIVE", ["too few documents to decide"], None)
    statistic = gap / mean.error if mean.error else math.copysign(math.inf, gap)
    verdict, p_within = decide(bounds, margin), t_tail(statistic, mean.degrees)
    if verdict == "PASS":
        return _PerplexityRuling(bounds, verdict, [], p_within)
    word = "is above" if verdict == "REGRESSION" else "contains"
    why = f"the interval, {bounds.low:.4f} to {bounds.high:.4f} nats per token, {word} {margin:g}"
    return _PerplexityRuling(bounds, verdict, [why], p_within)


def _axis(axis: str, tasks: Sequence[DocumentChange], policy: Policy) -> PerplexityChange:
    """Unweighted mean over the axis' tasks of documents."""
    level = 1 - 2 * policy.alpha
    mean = axis_mean(
        [task.change.value for task in tasks],
        [task.error for task in tasks],
        level,
        [task.degrees for task in tasks],
    )
    few = any(task.p_change_within_margin is None for task in tasks)
    ruling = _ruled(_Mean(mean.drop, mean.standard_error, mean.degrees), policy, few)
    method = METHOD if len(tasks) == 1 else AXIS_METHOD
    return PerplexityChange(
        axis=axis,
        tasks=list(tasks),
        change=_interval(mean.drop, ruling.bounds, level, sum(t.n for t in tasks), method),
        margin=policy.perplexity_margin,
        verdict=ruling.verdict,
        reasons=ruling.reasons,
    )


def _interval(value: float, bounds: Bounds, level: float, n: int, method: str) -> Interval:
    low, high = bounds
    return Interval(value=value, low=low, high=high, level=level, n=n, method=method)
