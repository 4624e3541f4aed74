"""KL on the retention axes' prompts: their mean with its error."""

from __future__ import annotations

from retainbench.harness.core.changes import Interval
from retainbench.harness.core.scorecards import DivergenceSummary
from retainbench.harness.statistics.graded import t_quantile
from retainbench.harness.statistics.multiplicity import AxisMean, axis_mean


def off_target_mean(kl: DivergenceSummary) -> AxisMean | None:
    """Mean forward KL over the axes, nats per token; None where one of them has no interval.

    The axes' prompts are disjoint, so their errors, read off t intervals over prompts, are
    independent.
    """
    axes = [name for name in kl.forward if name != "target"]
    intervals = [kl.intervals[name] for name in axes if name in kl.intervals]
    if not axes or len(intervals) < len(axes):
        return None
    errors = [_error(interval) for interval in intervals]
    degrees = [interval.n - 1 for interval in intervals]
    return axis_mean([one.value for one in intervals], errors, intervals[0].level, degrees)


def _error(interval: Interval) -> float:
    half = (interval.high - interval.low) / 2
    return half / t_quantile((1 + interval.level) / 2, interval.n - 1)
