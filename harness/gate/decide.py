"""What changed + policy -> one verdict on a release, fail closed.

PASS needs every mandatory task (and gated axis) to PASS; REGRESSION needs one to be worse than its
margin after Holm's correction over all of them; all else is INCONCLUSIVE and says what would
decide. Evidence that cannot be judged (nothing gated, a mandatory task missing, different answers
from identical weights) is an `IntegrityError`, or the verdict ERROR where several candidates are
gated in one go. Advisory limits (drift, KL, soft scores) warn and never decide.

Pure: `gate/candidates.py` reads stored results and calls this, `gate/ci.py` writes what CI shows.
Command: `retainbench gate`; exit codes are in `core/verdicts.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from retainbench.harness.comparison.changes import margin_of
from retainbench.harness.core.axes import ordered
from retainbench.harness.core.changes import AxisChange, Interval, PerplexityChange, TaskChange
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.names import require
from retainbench.harness.core.records import Verdict
from retainbench.harness.core.scorecards import DivergenceSummary, DriftSummary
from retainbench.harness.core.verdicts import (
    FULL,
    WORST_FIRST,
    AxisGate,
    GateResult,
    TaskGate,
    erosion,
)
from retainbench.harness.core.verdicts import perplexity as described
from retainbench.harness.statistics.multiplicity import Member, MemberOutcome, decide_gate
from retainbench.harness.statistics.paired import normal_cdf, normal_quantile

if TYPE_CHECKING:
    from retainbench.harness.core.schema import Policy

LEVEL_DIGITS = 9  # 1 - 2 alpha is rounded so that .9 equals .9


class Movement(NamedTuple):
    """What was measured besides scores; all of it advisory."""

    gain: Interval | None = None
    drift: DriftSummary | None = None
    divergence: DivergenceSummary | None = None
    notes: tuple[str, ...] = ()
    """What could not be measured, and why."""
    one_engine: bool = True
    """Equal weights must then give equal answers."""


NOT_MEASURED = Movement()


def gate(
    tasks: Sequence[TaskChange],
    axes: Sequence[AxisChange],
    policy: Policy,
    *,
    perplexity: Sequence[PerplexityChange] = (),
    candidate: str = "candidate",
    label: str = "",
    expected: Sequence[str] = (),
    movement: Movement = NOT_MEASURED,
    tier: str = FULL,
    digests: Mapping[str, str] | None = None,
) -> GateResult:
    """Judge one candidate from what `compare.compare` found under the same policy.

    Args:
        perplexity: of axes with documents; a task of documents decides if `mandatory` names it.
        expected: retention tasks of the suite; each must have been compared.
        tier: which items were judged; a part of them can show a regression, never PASS.

    Raises:
        IntegrityError: nothing is gated, a mandatory or expected task is missing, or identical
            weights answered differently.
        UsageError: the policy asks for what was not measured, or names a task not compared.
    """
    documents = [task for change in perplexity for task in change.tasks]
    require_complete(tasks, policy, expected, [task.task for task in documents])
    compared = {name for change in tasks for name in (change.task, change.task.split("/")[0])}
    for name in policy.task_margins:
        require(name, compared, "policy.task_margins")
    if movement.one_engine and movement.drift and movement.drift.changed_parameters == 0:
        _require_no_change(tasks)
    names = _mandatory(tasks, policy)
    members = [_task_member(change, policy, change.task in names) for change in tasks]
    members += [_axis_member(axis, axes, policy) for axis in policy.axis_margins]
    members += [
        Member(one.task, one.verdict, p, reasons=tuple(one.reasons))
        for one in documents
        if one.task in (policy.mandatory or ())
        for p in [1.0 if one.p_change_within_margin is None else one.p_change_within_margin]
    ]
    if policy.minimum_gain is not None:
        members.append(_gain_member(movement.gain, policy.minimum_gain))
    decision = decide_gate(members, policy.alpha)
    outcomes = {outcome.name: outcome for outcome in decision.outcomes}
    judged = [_task_gate(c, outcomes[c.task], c.task in names, policy) for c in tasks]
    verdict, reasons = decision.verdict, list(decision.reasons)
    if verdict == "PASS" and tier != FULL:
        verdict = "INCONCLUSIVE"
        reasons = [f"{tier}: no regression was shown, but only all items can pass"]
    return GateResult(
        candidate=candidate,
        label=label or candidate,
        verdict=verdict,
        reasons=reasons,
        warnings=[*_warnings(tasks, axes, policy, movement), *_less_likely(perplexity)],
        tasks=sorted(judged, key=_badness),
        axes=_axis_gates(tasks, axes, policy, outcomes),
        perplexity=list(perplexity),
        gain=movement.gain,
        alpha=policy.alpha,
        tier=tier,
        digests=dict(digests or {}),
    )


def require_complete(
    tasks: Sequence[TaskChange],
    policy: Policy,
    expected: Sequence[str],
    documents: Sequence[str] = (),
) -> None:
    """Refuse an empty gate, a missing task, or changes judged under another policy."""
    if not tasks:
        raise IntegrityError("no retention task was compared: nothing is gated")
    known = {name for change in tasks for name in (change.task, change.task.split("/")[0])}
    known |= set(documents)
    for name in dict.fromkeys([*(policy.mandatory or ()), *expected]):
        if name not in known:
            raise IntegrityError(
                f"task {name!r} must be gated but has no results; compared: "
                f"{', '.join(change.task for change in tasks)}"
            )
    level = round(1 - 2 * policy.alpha, LEVEL_DIGITS)
    for change in tasks:
        margin = margin_of(policy, change.task)
        if change.margin != margin or round(change.drop.level, LEVEL_DIGITS) != level:
            raise IntegrityError(
                f"task {change.task!r} was judged at margin {change.margin} and level "
                f"{change.drop.level:g}, the policy says {margin:g} and {level:g}: compare again"
            )


def _require_no_change(tasks: Sequence[TaskChange]) -> None:
    for change in tasks:
        if change.drop.value or change.lost or change.gained:
            raise IntegrityError(
                f"task {change.task!r}: base and candidate have equal weights but other answers; "
                "score both with one backend, dtype and batch size"
            )


def _mandatory(tasks: Sequence[TaskChange], policy: Policy) -> set[str]:
    names = {change.task for change in tasks}
    if policy.mandatory is None:
        return names
    return {n for n in names if n in policy.mandatory or n.split("/")[0] in policy.mandatory}


def _task_member(change: TaskChange, policy: Policy, mandatory: bool) -> Member:
    if change.verdict is None or change.p_drop_within_margin is None:
        raise IntegrityError(f"task {change.task!r} carries no judgement: compare again")
    return Member(
        name=change.task,
        verdict=change.verdict,
        p_within=change.p_drop_within_margin,
        mandatory=mandatory,
        reasons=tuple(change.reasons),
    )


def _axis_name(axis: str) -> str:
    return f"axis {axis}"


def _axis_member(axis: str, axes: Sequence[AxisChange], policy: Policy) -> Member:
    change = next((one for one in axes if one.axis == axis), None)
    if change is None or change.verdict is None or change.p_drop_within_margin is None:
        why = f"no {axis} task above chance was compared"
        return Member(_axis_name(axis), "INCONCLUSIVE", 1.0, reasons=(why,))
    return Member(
        _axis_name(axis),
        change.verdict,
        change.p_drop_within_margin,
        reasons=tuple(change.reasons),
    )


def _gain_member(gain: Interval | None, floor: float) -> Member:
    """The floor on the gain as a non-inferiority test; p from the interval's width."""
    if gain is None:
        raise UsageError("policy: minimum_gain needs a target's scores; remove it or add a target")
    z = normal_quantile((1 + gain.level) / 2)
    error = (gain.high - gain.low) / (2 * z)
    p = normal_cdf((gain.value - floor) / error) if error > 0 else float(gain.value >= floor)
    interval = f"the interval of the gain, {100 * gain.low:.2f} to {100 * gain.high:.2f} points,"
    if gain.low >= floor:
        return Member("gain", "PASS", p)
    if gain.high < floor:
        return Member("gain", "REGRESSION", p, reasons=(f"{interval} is below {100 * floor:g}",))
    return Member("gain", "INCONCLUSIVE", p, reasons=(f"{interval} contains {100 * floor:g}",))


def _task_gate(
    change: TaskChange, outcome: MemberOutcome, mandatory: bool, policy: Policy
) -> TaskGate:
    reasons = list(change.reasons)
    if outcome.unadjusted:
        reasons.append(f"regression (unadjusted): p after Holm is {outcome.holm_p:.3g}")
    verdict: Verdict = "INCONCLUSIVE" if outcome.unadjusted else outcome.verdict
    open_ = verdict == "INCONCLUSIVE"
    return TaskGate(
        change=change,
        mandatory=mandatory,
        verdict=verdict,
        unadjusted=outcome.unadjusted,
        holm_p=outcome.holm_p,
        items_to_decide=_items_to_decide(change, policy.minimum_items) if open_ else None,
        reasons=reasons,
    )


def _items_to_decide(change: TaskChange, minimum: int) -> int | None:
    """Items that would decide, with power .8, if the observed drop were the true one.

    Never fewer than the policy's minimum, nor than bring the interval's edge to the margin when its
    width shrinks with the square root of n. None when no number would: the task is at chance, or
    the drop equals the margin.
    """
    gap = abs(change.drop.value - (change.margin or 0.0))
    if change.base_at_chance or gap == 0:
        return None
    half = (change.drop.high - change.drop.low) / 2
    by_width = math.ceil(change.n * (half / gap) ** 2)
    return max(by_width, change.items_if_as_observed or 0, minimum)


def _badness(task: TaskGate) -> tuple[int, bool, float, str]:
    drop = task.change.drop.value
    return (WORST_FIRST.index(task.verdict), not task.mandatory, -drop, task.change.task)


def _axis_gates(
    tasks: Sequence[TaskChange],
    axes: Sequence[AxisChange],
    policy: Policy,
    outcomes: Mapping[str, MemberOutcome],
) -> list[AxisGate]:
    """Every axis that has tasks: its mean's verdict, or REGRESSION by a task that Holm confirms."""
    found = []
    for axis in ordered((*(change.axis for change in tasks), *policy.axis_margins)):
        mean = next((one for one in axes if one.axis == axis), None)
        on_axis = [change.task for change in tasks if change.axis == axis]
        harmed = [n for n in on_axis if _confirmed(outcomes[n])]
        gated = axis in policy.axis_margins
        verdict: Verdict = (mean and mean.verdict) or "INCONCLUSIVE"
        reasons = list(mean.reasons) if mean else [f"no {axis} task above chance was compared"]
        own = outcomes.get(_axis_name(axis))
        if own and own.unadjusted:
            verdict = "INCONCLUSIVE"
            reasons.append(f"regression (unadjusted): p after Holm is {own.holm_p:.3g}")
        if harmed:
            verdict, reasons = "REGRESSION", [f"{name} regressed" for name in harmed]
        found.append(
            AxisGate(axis=axis, change=mean, gated=gated, verdict=verdict, reasons=reasons)
        )
    return found


def _confirmed(outcome: MemberOutcome) -> bool:
    return outcome.verdict == "REGRESSION" and not outcome.unadjusted


def _warnings(
    tasks: Sequence[TaskChange], axes: Sequence[AxisChange], policy: Policy, movement: Movement
) -> list[str]:
    """Advisory limits: each that is exceeded is one line; a limit without a measurement says so."""
    found = []
    if policy.maximum_relative_drift is not None:
        relative = movement.drift.relative if movement.drift else None
        found += _limit("relative drift", relative, policy.maximum_relative_drift)
    if policy.maximum_kl is not None:
        off = movement.divergence.forward if movement.divergence else {}
        kls = [kl for name, kl in off.items() if name != "target"]
        found += _limit("KL on retention prompts", max(kls, default=None), policy.maximum_kl)
    for axis in axes:
        if axis.erosion and axis.erosion.low > policy.erosion_margin:
            found.append(f"{axis.axis}: {erosion(axis)}: confidence goes before answers do")
    for change in tasks if policy.soft_margin is not None else ():
        soft = change.soft_drop
        if soft and policy.soft_margin is not None and soft.low > policy.soft_margin:
            found.append(
                f"{change.task}: the soft score dropped by {soft.value:.4f}, more than "
                f"{policy.soft_margin:g}: confidence goes before answers do"
            )
    return found


def _less_likely(perplexity: Sequence[PerplexityChange]) -> list[str]:
    """Axes whose documents are shown to have become less likely than the margin allows."""
    above = (change for change in perplexity if change.change.low > change.margin)
    return [f"{change.axis}: {described(change)}" for change in above]


def _limit(what: str, value: float | None, limit: float) -> list[str]:
    if value is None:
        return [f"{what} was not measured; the policy advises at most {limit:g}"]
    return [f"{what} is {value:.4g}, above the advised {limit:g}"] if value > limit else []
