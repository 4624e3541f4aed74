"""Gain against retention over methods: the Pareto front, and gain per unit of drift or KL.

Both work on the joint replicates that `stats_seeds.resampled_means` draws, so that methods are
compared on the same items. Pure functions, no files. Left out: any scalar that trades gain against
drop at a fixed rate.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from retainbench.harness.statistics.graded import t_interval
from retainbench.harness.statistics.paired import Bounds, Floats
from retainbench.harness.statistics.seeds import RESAMPLES, UNSEEN, draws, percentile
from retainbench.harness.statistics.unseen import normal_scores, unseen_error


class FrontPoint(NamedTuple):
    """One method's place: on the front unless some method dominates it."""

    dominated_by: tuple[int, ...]
    tied_with: tuple[int, ...]
    """Methods whose gain and drop both cannot be told from this one's."""

    @property
    def on_front(self) -> bool:
        """True when nothing dominates it."""
        return not self.dominated_by


class Ratio(NamedTuple):
    """A ratio of two measured quantities, or the reason why there is none."""

    value: float | None
    bounds: Bounds | None
    reason: str | None


def pareto_front(
    gain: ArrayLike,
    drop: ArrayLike,
    gain_replicates: ArrayLike,
    drop_replicates: ArrayLike,
    *,
    gain_margin: float,
    drop_margin: float,
    confidence: float = 0.90,
) -> list[FrontPoint]:
    """Which of P methods are dominated when gain is maximised and drop minimised.

    a dominates b only if a is at least as good on both, the paired interval of the difference
    excludes 0 in a's favour on at least one, and on the other it excludes a disadvantage larger
    than the margin. `gain` and `drop` are (P,); the replicates (P, B) come from joint draws, so
    differences are paired. Replicates that are NaN (a gain never reached) are refused.

    >>> g, d = np.array([0.30, 0.20]), np.array([0.01, 0.05])
    >>> shake = 0.001 * np.sin(np.arange(200.0))
    >>> front = pareto_front(
    ...     g, d, g[:, None] + shake, d[:, None] - shake, gain_margin=0.02, drop_margin=0.02
    ... )
    >>> [p.on_front for p in front], front[1].dominated_by
    ([True, False], (0,))
    """
    # Both axes as "larger is better", so that one rule serves them.
    values = np.stack([np.asarray(gain, np.float64), -np.asarray(drop, np.float64)])
    replicates = np.stack(
        [np.asarray(gain_replicates, np.float64), -np.asarray(drop_replicates, np.float64)]
    )
    if replicates.shape[:2] != values.shape or not np.all(np.isfinite(replicates)):
        raise ValueError(f"need finite replicates (P, B) for (P,), got {replicates.shape[1:]}")
    margins, count = np.array([gain_margin, drop_margin]), values.shape[1]
    pairs = [(a, b) for a in range(count) for b in range(count) if a != b]
    lead = {(a, b): _lead(replicates[:, a] - replicates[:, b], confidence) for a, b in pairs}
    better = {
        (a, b): bool(np.all(values[:, a] >= values[:, b])) and _beats(lead[a, b], margins)
        for a, b in pairs
    }
    return [
        FrontPoint(
            tuple(a for a in range(count) if a != b and better[a, b]),
            tuple(a for a in range(count) if a != b and _tied(lead[a, b])),
        )
        for b in range(count)
    ]


class _Lead(NamedTuple):
    """Interval of a's advantage over b on (gain, retention)."""

    low: Floats
    high: Floats


def _lead(difference: Floats, confidence: float) -> _Lead:
    sides = [(1 - confidence) / 2, (1 + confidence) / 2]
    return _Lead(*np.quantile(difference, sides, axis=1))


def _beats(lead: _Lead, margins: Floats) -> bool:
    ahead, not_behind = lead.low > 0, lead.low >= -margins
    return bool((ahead[0] and not_behind[1]) or (ahead[1] and not_behind[0]))


def _tied(lead: _Lead) -> bool:
    return bool(np.all((lead.low <= 0) & (lead.high >= 0)))


def gain_per_cost(
    gain: ArrayLike,
    cost: ArrayLike,
    *,
    confidence: float = 0.95,
    clusters: ArrayLike | None = None,
    smallest_cost: float = 0.0,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Ratio:
    """Mean gain divided by mean cost (relative drift, or KL in nats per token) with its interval.

    `gain` is (S, I), per seed and item; `cost` is (S,), one number per seed. Seeds are resampled
    together for both, items (or their clusters) for the gain; percentile interval, widened where
    hardly any item changed (`unseen_error`). With one seed the cost is a constant of that run. The
    ratio is withheld, with a reason, when the cost does not exceed `smallest_cost` (the noise
    floor) or its own interval over seeds reaches down to it: a ratio over a number near zero says
    nothing, and a sentinel would be averaged by somebody.

    >>> gain_per_cost([[1, 0, 1, 0]], [0.02], resamples=999).value
    25.0
    >>> gain_per_cost([[1, 0, 1, 0]], [0.0]).reason
    'the cost, 0, does not exceed 0'
    """
    table, costs = np.atleast_2d(np.asarray(gain, np.float64)), np.asarray(cost, np.float64)
    if costs.shape != (len(table),) or not np.all(np.isfinite(costs)):
        raise ValueError(f"need one finite cost per seed ({len(table)}), got shape {costs.shape}")
    mean_cost = float(costs.mean())
    if mean_cost <= smallest_cost:
        return Ratio(None, None, f"the cost, {mean_cost:g}, does not exceed {smallest_cost:g}")
    if len(costs) > 1 and t_interval(costs, confidence).bounds.low <= smallest_cost:
        return Ratio(None, None, f"the interval of the cost reaches {smallest_cost:g}")
    groups = np.arange(table.shape[1]) if clusters is None else np.asarray(clusters)
    ratios = [
        np.sum((draw.seeds[0] @ table) * draw.items, axis=1) / (draw.seeds[0] @ costs)
        for draw in draws([len(table)], groups, np.zeros(len(groups)), resamples, (seed,))
    ]
    value = float(table.mean()) / mean_cost
    unseen = unseen_error(table, clusters=groups) / mean_cost
    (scatter,) = unseen * normal_scores(1, resamples, (seed, UNSEEN))
    return Ratio(value, percentile(np.concatenate(ratios) + scatter, confidence), None)
