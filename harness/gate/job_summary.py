"""Gate results as Markdown: the GitHub job summary and a pull request's comment.

Verdict first, then one row per candidate, then every task, worst first. Where a surface has a
limit, whole rows are dropped from the end and counted, with the name of the artifact that holds
them all. Every name and reason is escaped; numbers are ours. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from retainbench.harness.core.text import markdown as table
from retainbench.harness.core.text.escaping import markdown
from retainbench.harness.core.text.formatting import brief, counted, points
from retainbench.harness.core.verdicts import (
    WORST_FIRST,
    GateResult,
    TaskGate,
    deciding,
    erosion,
    overall,
    perplexity,
    unwarned,
)

SUMMARY_BYTES = 900_000  # GitHub drops a step's summary above 1 MiB
COMMENT_BYTES = 60_000  # a comment above 64 KB is refused
NAME_LIMIT = 200  # characters of a name or reason in a cell
REASONS_LIMIT = 600
SIGNS = {"PASS": "✅", "REGRESSION": "❌", "INCONCLUSIVE": "❔", "ERROR": "⛔"}
MEANINGS = {
    "PASS": "every mandatory task is shown to lose no more than its margin.",
    "REGRESSION": "at least one task is shown to lose more than its margin.",
    "INCONCLUSIVE": "neither is shown; this is not a pass.",
    "ERROR": "the evidence is broken or missing; nothing was judged.",
}
TASK_HEAD = (
    "task", "axis", "verdict", "base", "candidate", "drop, points", "margin", "items",
    "lost / gained", "detectable", "would decide", "why",
)  # fmt: skip
CANDIDATE_HEAD = ("candidate", "verdict", "gain, points", "worst task", "why")


class SummaryBlock(NamedTuple):
    """A heading with a table whose rows may be dropped from the end."""

    head: str
    rows: list[str]


def summary(
    results: Sequence[GateResult],
    *,
    artifact: str = "retention-gate",
    limit: int = SUMMARY_BYTES,
) -> str:
    """Markdown of at most `limit` bytes in UTF-8.

    Args:
        artifact: where the reader finds what was dropped.
    """
    verdict = overall(results)
    ordered = sorted(results, key=lambda result: WORST_FIRST.index(result.verdict))
    first = f"## {SIGNS[verdict]} Retention gate: {verdict}\n\n**{verdict}**: {MEANINGS[verdict]}\n"
    blocks = [
        SummaryBlock(_head(CANDIDATE_HEAD, "llrll"), [_candidate_row(result) for result in ordered])
    ]
    blocks += [block for result in ordered for block in _blocks(result)]
    return _fitted(first, blocks, _legend(results), artifact, limit)


def comment(results: Sequence[GateResult], artifact: str = "retention-gate") -> str:
    """The summary within the size of a pull request's comment."""
    return summary(results, artifact=artifact, limit=COMMENT_BYTES)


def _blocks(result: GateResult) -> list[SummaryBlock]:
    """Warnings and axes of one candidate, then its tasks."""
    name = f"\n### {SIGNS[result.verdict]} {_cell(result.label)}: {result.verdict}\n"
    notes = [f"- warning: {_cell(line)}" for line in result.warnings]
    notes += [f"- note: {markdown(line, REASONS_LIMIT)}" for line in result.remarks]
    notes += [
        f"- axis {axis.axis}: {SIGNS[axis.verdict]} {axis.verdict}"
        f"{'' if axis.gated else ' (shown, not gated)'}"
        + (f", drop {points(axis.change.drop)} points" if axis.change else "")
        + (f"; {found}" if axis.change and (found := erosion(axis.change)) else "")
        + (f"; {_cell('; '.join(axis.reasons))}" if axis.reasons else "")
        for axis in result.axes
    ]
    documents = [f"{change.axis}: {perplexity(change)}" for change in result.perplexity]
    notes += [f"- axis {line}" for line in unwarned(documents, result.warnings)]
    tasks = [_task_row(task) for task in result.tasks]
    return [
        SummaryBlock(name, notes),
        *([SummaryBlock(_head(TASK_HEAD, "lllrrrrrrrrl"), tasks)] if tasks else []),
    ]


def _head(names: Sequence[str], align: str) -> str:
    return "\n".join(["", *table.header(names, align)])


def _candidate_row(result: GateResult) -> str:
    worst = result.tasks[0].change if result.tasks else None
    cells = [
        _cell(result.label),
        f"{SIGNS[result.verdict]} {result.verdict}",
        points(result.gain),
        f"{_cell(worst.task)} {points(worst.drop)}" if worst else "—",
        markdown("; ".join(result.reasons), REASONS_LIMIT),
    ]
    return table.row(cells)


def _task_row(task: TaskGate) -> str:
    change = task.change
    flips = "—" if change.lost is None else f"{change.lost} / {change.gained}"
    needed = deciding(task).removesuffix(" would decide") or "—"
    cells = [
        _cell(change.task) + ("" if task.mandatory else " (not mandatory)"),
        change.axis,
        f"{SIGNS[task.verdict]} {task.verdict}",
        f"{100 * change.base_score:.1f}",
        f"{100 * change.candidate_score:.1f}",
        points(change.drop),
        brief(change.margin, 100),
        str(change.n),
        flips,
        brief(change.minimum_detectable_effect, 100),
        needed,
        markdown("; ".join(task.reasons), REASONS_LIMIT),
    ]
    return table.row(cells)


def _legend(results: Sequence[GateResult]) -> str:
    levels = ", ".join(sorted({f"{100 * (1 - 2 * r.alpha):g} %" for r in results})) or "90 %"
    tiers = sorted({result.tier for result in results if result.tier != "full"})
    parts = [
        f"Drops are base minus candidate, paired by item, with the {levels} interval that decides.",
        "Detectable: the smallest margin that would pass with power 0.8 if nothing was lost.",
        "Would decide: items needed if the observed drop were the true one.",
        *(f"Items: {markdown(tier)}." for tier in tiers),
    ]
    return "\n<sub>" + " ".join(parts) + "</sub>\n"


def _fitted(
    first: str, blocks: Sequence[SummaryBlock], last: str, artifact: str, limit: int
) -> str:
    """Blocks until the budget is spent; then only the number of rows that were left out."""
    where = markdown(artifact, NAME_LIMIT)
    total = sum(len(block.rows) for block in blocks)
    reserve = len((_dropped(total, where) + last).encode())
    used, parts, left = len(first.encode()) + reserve, [first], 0
    for block in blocks:
        lines = [block.head, *block.rows]
        sizes = [len(line.encode()) + 1 for line in lines]
        if left or used + sum(sizes[:2]) > limit:
            left += len(block.rows)
            continue
        for number, (line, size) in enumerate(zip(lines, sizes, strict=True)):
            if used + size > limit:
                left += len(lines) - number
                break
            used += size
            parts.append(line + "\n")
    return "".join(parts) + (_dropped(left, where) if left else "") + last


def _dropped(rows: int, where: str) -> str:
    return f"\n**{counted(rows, 'row')} left out for size**; all are in the artifact {where}.\n"


def _cell(text: str) -> str:
    return markdown(text, NAME_LIMIT)
