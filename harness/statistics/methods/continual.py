"""Continual-learning metrics of a sequence of T tasks, from the matrix of scores R.

R[i, j] = score on task j after training on tasks 0 .. i (0-based); b[j] = score before any
training; oracle[j] = score of joint or single-task training. All in score points, higher is better.
Max-based forgetting is biased up by noise, so backward transfer is always given with it. Relative
forgetting (drop / base score, 2308.08747) is left out: it explodes near zero baselines. Pure
functions, no files.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from retainbench.harness.statistics.paired import Floats


class SequenceScores(NamedTuple):
    """METHODS 16; None where the sequence is too short or the reference is not given."""

    accuracy: float
    """ACC: mean over tasks of the final score."""
    backward_transfer: float | None
    """BWT: mean over all but the last task of final score - score when just learned."""
    forward_transfer: float | None
    """FWT: mean over all but the first of score just before learning it - b."""
    forgetting: float | None
    """F: mean over all but the last of best earlier score - final score."""
    intransigence: float | None
    """I: mean over tasks of oracle - score when just learned."""
    trace_backward_transfer: float | None
    """BWT as TRACE divides it, by T with a zero term: (T-1)/T of BWT."""


def sequence_scores(
    scores: ArrayLike, before: ArrayLike | None = None, oracle: ArrayLike | None = None
) -> SequenceScores:
    """All metrics of one sequence; raises ValueError when a cell that is needed is not finite.

    Sources: Lopez-Paz and Ranzato (1706.08840) for ACC, BWT, FWT; Chaudhry et al. (1801.10112) for
    F and I; TRACE (2310.06762) for its BWT. Cells above the first superdiagonal may be NaN.

    >>> R = [[.8, .2, .1], [.6, .9, .3], [.5, .7, .95]]
    >>> s = sequence_scores(R, before=[.1, .1, .1], oracle=[.85, .92, .97])
    >>> [round(x, 6) for x in s]
    [0.716667, -0.25, 0.15, 0.25, 0.03, -0.166667]
    """
    table = np.asarray(scores, np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or not table.size:
        raise ValueError(f"need a square matrix of scores, got shape {table.shape}")
    count = len(table)
    _require_finite(table[np.tril_indices(count)], "a task's score once it was learned")
    learned, final = np.diag(table), table[-1]
    intransigence = None if oracle is None else float(np.mean(_row(oracle, count) - learned))
    if count == 1:
        return SequenceScores(float(final[0]), None, None, None, intransigence, None)
    backward = float(np.mean(final[:-1] - learned[:-1]))
    return SequenceScores(
        accuracy=float(np.mean(final)),
        backward_transfer=backward,
        forward_transfer=None if before is None else _forward(table, _row(before, count)),
        forgetting=_forgetting(table),
        intransigence=intransigence,
        trace_backward_transfer=backward * (count - 1) / count,
    )


def _forward(table: Floats, before: Floats) -> float:
    just_before = np.diag(table, k=1)
    _require_finite(just_before, "a task's score just before it was learned")
    return float(np.mean(just_before - before[1:]))


def _forgetting(table: Floats) -> float:
    """Best score of task j at any earlier stage (also before it was learned) minus the final."""
    best = np.nanmax(table[:-1, :-1], axis=0)
    return float(np.mean(best - table[-1, :-1]))


def _row(values: ArrayLike, count: int) -> Floats:
    row = np.asarray(values, np.float64)
    if row.shape != (count,):
        raise ValueError(f"need one reference score per task ({count}), got shape {row.shape}")
    _require_finite(row, "a reference score")
    return row


def _require_finite(values: Floats, what: str) -> None:
    if not np.all(np.isfinite(values)):
        raise ValueError(f"{what} is missing or not finite")
