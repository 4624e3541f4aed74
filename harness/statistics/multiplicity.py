"""From task verdicts to one decision: Holm adjustment, axis means, the intersection-union gate.

A release passes only if every mandatory member passes; each is tested at alpha and no correction is
needed, since the gate passes wrongly only if a member passes wrongly. A release is called a
regression only if some member is one after Holm's correction over all gated members. Pure
functions, no files; `gate/decide.py` reads scorecards and policy and calls these. Left out: any
composite score over axes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from retainbench.harness.statistics.graded import t_quantile, t_tail
from retainbench.harness.statistics.paired import Bounds
from retainbench.harness.statistics.verdict import Judgement, against_margin, decide

if TYPE_CHECKING:
    from retainbench.harness.core.records import Verdict


class Member(NamedTuple):
    """What the gate needs to know about one task (or one axis) that it gates."""

    name: str
    verdict: Verdict
    p_within: float
    """One-sided p of H0 "D <= margin"; 1 when nothing could be computed."""
    mandatory: bool = True
    reasons: tuple[str, ...] = ()


class MemberOutcome(NamedTuple):
    """A member after correction for the number of gated members."""

    name: str
    verdict: Verdict
    holm_p: float
    unadjusted: bool
    """A REGRESSION by its own interval that Holm's correction does not confirm."""


@dataclass(frozen=True)
class GateDecision:
    """The verdict on a release and why."""

    verdict: Verdict
    outcomes: tuple[MemberOutcome, ...]
    reasons: tuple[str, ...]


class AxisMean(NamedTuple):
    """An axis' mean drop with its error and interval."""

    drop: float
    standard_error: float
    bounds: Bounds
    degrees: float
    """Of freedom; infinite where every task has a score interval."""


@dataclass(frozen=True)
class AxisJudgement:
    """Unweighted mean of chance-rescaled task drops on one axis."""

    verdict: Verdict
    reasons: tuple[str, ...]
    margin: float
    tasks: int
    """Tasks in the mean."""
    excluded: tuple[str, ...]
    """Tasks at chance, which cannot show forgetting; counted, never averaged."""
    drop: float | None
    standard_error: float | None
    bounds: Bounds | None
    degrees: float
    p_within: float


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given; valid under any dependence.

    Source: Holm (1979, Scand. J. Stat. 6:65). Raises ValueError on NaN or values outside [0, 1].

    >>> [round(p, 6) for p in holm([0.01, 0.04, 0.03, 0.005])]
    [0.03, 0.06, 0.06, 0.02]
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"p-values must be in [0, 1], got {list(p_values)}")
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def axis_mean(
    drops: Sequence[float],
    errors: Sequence[float],
    confidence: float,
    degrees: Sequence[float] | None = None,
) -> AxisMean:
    """Mean of K task drops; SE = sqrt(sum SE_t^2) / K; t interval.

    Degrees of freedom by Satterthwaite (1946, Biometrics Bull. 2:110), (sum SE_t^2)^2 / sum(SE_t^4
    / df_t), from those of the tasks (default: known errors, a normal interval). Assumes tasks with
    disjoint items (independent given the two checkpoints). Raises ValueError on no tasks or unequal
    lengths.

    >>> m = axis_mean([0.01, 0.02, 0.00], [0.008, 0.010, 0.006], 0.90)
    >>> round(m.drop, 6), round(m.standard_error, 8), round(m.bounds.high, 7)
    (0.01, 0.00471405, 0.0177539)
    >>> m = axis_mean([0.01, 0.02, 0.00], [0.008, 0.010, 0.006], 0.90, [18, 92, 158])
    >>> round(m.degrees, 1), round(m.bounds.high, 4)
    (116.1, 0.0178)
    """
    known = [math.inf] * len(drops) if degrees is None else degrees
    if not drops or not len(drops) == len(errors) == len(known):
        raise ValueError(f"need one error per task, got {len(drops)} drops, {len(errors)} errors")
    total = sum(error**2 for error in errors)
    spread = sum(error**4 / df for error, df in zip(errors, known, strict=True))
    freedom = total**2 / spread if spread > 0 else math.inf
    mean, error = float(np.mean(drops)), math.sqrt(total) / len(drops)
    half = t_quantile((1 + confidence) / 2, freedom) * error
    return AxisMean(mean, error, Bounds(mean - half, mean + half), freedom)


def judge_axis(
    tasks: Mapping[str, Judgement], *, margin: float, alpha: float = 0.05
) -> AxisJudgement:
    """Verdict on one axis by its mean: PASS needs mean U <= margin and no task that regressed.

    REGRESSION if mean L > margin; the gate adds tasks whose regression Holm confirms. Tasks at
    chance are left out of the mean and named; a task without an estimate makes the axis
    INCONCLUSIVE, for a mean over what happens to be there is not the axis.
    """
    excluded = tuple(name for name, j in tasks.items() if j.at_chance and j.n)
    used = {name: j for name, j in tasks.items() if name not in excluded}
    missing = [name for name, j in used.items() if j.rescaled_drop is None]
    if missing or not used:
        why = f"no estimate for {', '.join(missing)}" if missing else "no task above chance"
        return AxisJudgement(
            verdict="INCONCLUSIVE",
            reasons=(why,),
            margin=margin,
            tasks=0,
            excluded=excluded,
            drop=None,
            standard_error=None,
            bounds=None,
            degrees=math.inf,
            p_within=1.0,
        )
    mean = axis_mean(
        [j.rescaled_drop for j in used.values() if j.rescaled_drop is not None],
        [j.rescaled_error for j in used.values() if j.rescaled_error is not None],
        1 - 2 * alpha,
        [j.degrees for j in used.values()],
    )
    verdict, reasons = _axis_ruling(mean, margin, used)
    p_within = t_tail((mean.drop - margin) / mean.standard_error, mean.degrees)
    return AxisJudgement(
        verdict=verdict,
        reasons=reasons,
        margin=margin,
        tasks=len(used),
        excluded=excluded,
        drop=mean.drop,
        standard_error=mean.standard_error,
        bounds=mean.bounds,
        degrees=mean.degrees,
        p_within=p_within,
    )


class _AxisRuling(NamedTuple):
    verdict: Verdict
    reasons: tuple[str, ...]


def _axis_ruling(mean: AxisMean, margin: float, used: Mapping[str, Judgement]) -> _AxisRuling:
    verdict = decide(mean.bounds, margin)
    if verdict == "REGRESSION":
        return _AxisRuling(verdict, ("the axis mean regressed",))
    alone = [name for name, j in used.items() if j.verdict == "REGRESSION"]
    if alone:
        words = tuple(f"{name}: regression (unadjusted)" for name in alone)
        return _AxisRuling("INCONCLUSIVE", words)
    if verdict == "PASS":
        return _AxisRuling("PASS", ())
    why = against_margin("the interval of the mean", mean.bounds, "contains", margin)
    return _AxisRuling("INCONCLUSIVE", (why,))


def _outcomes(members: Sequence[Member], alpha: float) -> list[MemberOutcome]:
    adjusted = holm([m.p_within for m in members])
    return [
        MemberOutcome(m.name, m.verdict, p, m.verdict == "REGRESSION" and p > alpha)
        for m, p in zip(members, adjusted, strict=True)
    ]


def decide_gate(members: Sequence[Member], alpha: float = 0.05) -> GateDecision:
    """One verdict for a release from the verdicts of everything it gates.

    REGRESSION: some member is a REGRESSION with Holm-adjusted p <= alpha. Otherwise PASS if there
    is a mandatory member and all of them PASS and no member is an unadjusted regression. Otherwise,
    and when nothing is gated, INCONCLUSIVE. False PASS <= alpha whatever the number of members.
    Axes with margins of their own may be given as members; they then count in the Holm family.

    >>> decide_gate([]).verdict, decide_gate([Member("a", "PASS", 0.9)]).verdict
    ('INCONCLUSIVE', 'PASS')
    """
    outcomes = tuple(_outcomes(members, alpha))
    harmed = [o.name for o in outcomes if o.verdict == "REGRESSION" and not o.unadjusted]
    if harmed:
        return GateDecision("REGRESSION", outcomes, tuple(f"{n} regressed" for n in harmed))
    reasons = [f"{o.name}: regression (unadjusted)" for o in outcomes if o.unadjusted]
    mandatory = [m for m in members if m.mandatory]
    if not mandatory:
        reasons.append("no mandatory task was judged")
    for member in mandatory:
        if member.verdict == "INCONCLUSIVE":
            reasons.append(f"{member.name}: {'; '.join(member.reasons) or 'inconclusive'}")
    return GateDecision("INCONCLUSIVE" if reasons else "PASS", outcomes, tuple(reasons))
