"""The records a gate writes (`gate.json`) and the exit code that they mean.

Exit codes are a stable interface: 0 PASS, 1 REGRESSION, 2 usage error, 3 INCONCLUSIVE, 4 integrity
failure; of several candidates 4 outranks 1, 1 outranks 3, 3 outranks 0. Reads and writes nothing;
`gate/decide.py` fills the records, `gate/ci.py` shows them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from retainbench.harness.core.changes import AxisChange, Interval, PerplexityChange, TaskChange
from retainbench.harness.core.records import SCHEMA_VERSION, Record, Verdict
from retainbench.harness.core.text.formatting import nats, points

GateOutcome = Literal["PASS", "REGRESSION", "INCONCLUSIVE", "ERROR"]

FULL = "full"
EXIT_CODES: Mapping[GateOutcome, int] = {"PASS": 0, "REGRESSION": 1, "INCONCLUSIVE": 3, "ERROR": 4}
WORST_FIRST: tuple[GateOutcome, ...] = ("ERROR", "REGRESSION", "INCONCLUSIVE", "PASS")


class TaskGate(Record):
    """One task in the gate."""

    change: TaskChange
    mandatory: bool
    verdict: Verdict
    """INCONCLUSIVE where a regression is not confirmed by Holm's correction."""
    unadjusted: bool
    """The task's own interval is above its margin, but Holm's correction does not confirm it."""
    holm_p: float
    items_to_decide: int | None
    """Items of this kind that would decide with power .8; None for a decided or hopeless task."""
    reasons: list[str]


def deciding(task: TaskGate) -> str:
    """What would end an INCONCLUSIVE, in words; empty for a decided task."""
    if task.verdict != "INCONCLUSIVE":
        return ""
    if task.items_to_decide is None:
        return "no number of items would decide"
    return f"{task.items_to_decide} items would decide"


class AxisGate(Record):
    """One axis in the gate; it decides only if the policy names a margin for it."""

    axis: str
    change: AxisChange | None
    """None: no task of the axis is above chance."""
    gated: bool
    verdict: Verdict
    reasons: list[str]


def erosion(change: AxisChange) -> str:
    """An axis' erosion in points with its margin, and what follows; empty where it has none.

    It never decides: a change of confidence is not a change of answer.
    """
    found, margin = change.erosion, change.erosion_margin
    if found is None or margin is None:
        return ""
    return f"erosion {points(found)} points, {eroded(found, margin)}"


def eroded(found: Interval, margin: float) -> str:
    """`above its margin of 2`, `within its margin of 2`, or neither."""
    if found.low > margin:
        return f"above its margin of {100 * margin:g}"
    within = found.high <= margin
    return f"within its margin of {100 * margin:g}" if within else "not decided by its interval"


def perplexity(change: PerplexityChange) -> str:
    """How much less likely an axis' documents became, with the margin and what follows."""
    found, margin = change.change, change.margin
    if found.low > margin:
        place = f"above its margin of {margin:g}"
    elif found.high <= margin:
        place = f"within its margin of {margin:g}"
    else:
        place = "not decided by its interval"
    return f"perplexity {nats(found)} nats per token, {place}"


def unwarned(lines: Sequence[str], warnings: Sequence[str]) -> list[str]:
    """Lines without those that a warning says already.

    >>> unwarned(["general: erosion 3", "numeric: erosion 1"], ["general: erosion 3: look"])
    ['numeric: erosion 1']
    """
    return [line for line in lines if not any(line in warning for warning in warnings)]


class GateResult(Record):
    """`gate.json`: the verdict on one candidate with everything it rests on."""

    schema_version: int = SCHEMA_VERSION
    candidate: str
    """A cell's id or a name of the user's; for people, identity is in the digests."""
    label: str
    verdict: GateOutcome
    reasons: list[str]
    """Why it is not PASS."""
    warnings: list[str]
    """Advisory limits that were exceeded."""
    remarks: list[str] = []
    """About adopted results: what was decided while reading, and settings that differ."""
    tasks: list[TaskGate]
    """Worst first."""
    axes: list[AxisGate]
    perplexity: list[PerplexityChange] = []
    """Held-out documents, one entry an axis; they decide where the policy makes them mandatory."""
    gain: Interval | None
    alpha: float
    tier: str = FULL
    """Which items were judged: `full`, or which part of them."""
    digests: dict[str, str] = {}
    """Of what was judged: base records, candidate records, policy."""


def first_items(most: int | None) -> str:
    """How a result names that only the first items of each task were scored; None: all were."""
    return FULL if most is None else f"first {most} items of each task"


def failed(candidate: str, label: str, reason: str, alpha: float) -> GateResult:
    """The result for a candidate that could not be judged: ERROR, never PASS."""
    return GateResult(
        candidate=candidate,
        label=label or candidate,
        verdict="ERROR",
        reasons=[reason],
        warnings=[],
        tasks=[],
        axes=[],
        gain=None,
        alpha=alpha,
    )


def overall(results: Sequence[GateResult]) -> GateOutcome:
    """The verdict on several candidates: the worst one; nothing gated is ERROR."""
    found = {result.verdict for result in results}
    return next((verdict for verdict in WORST_FIRST if verdict in found), "ERROR")


def exit_code(results: Sequence[GateResult], allow_inconclusive: bool = False) -> int:
    """The process exit code; `allow_inconclusive` turns 3 into 0 and leaves every verdict alone."""
    code = EXIT_CODES[overall(results)]
    return 0 if code == EXIT_CODES["INCONCLUSIVE"] and allow_inconclusive else code
