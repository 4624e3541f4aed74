"""What `retainbench gate` does: gate stored results, write what CI shows, say the exit code.

Three sources, one at a time: a run folder, two record files, or two folders of results that another
harness wrote. Scores nothing and never imports torch. The caller prints the lines (plain text, safe
for a terminal and for a workflow's log) and exits with the code.

Command: `retainbench gate RUN [--policy FILE] [--tier smoke] [--out DIR] ...`
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from retainbench.harness.adoption.choices import DEFAULT_CHOICES, AdoptionChoices
from retainbench.harness.comparison.columns import Answers
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.files.storage import digest
from retainbench.harness.core.records import ItemText
from retainbench.harness.core.schema import Policy
from retainbench.harness.core.text.escaping import github_untrusted, terminal
from retainbench.harness.core.text.formatting import counted, points
from retainbench.harness.core.verdicts import (
    GateResult,
    TaskGate,
    deciding,
    erosion,
    exit_code,
    overall,
    perplexity,
    unwarned,
)
from retainbench.harness.gate import ci
from retainbench.harness.gate.candidates import gate_records, gate_run
from retainbench.harness.gate.tiers import Tier, promise
from retainbench.harness.suites import loading

MOST_TASKS_SHOWN = 20


class Sources(NamedTuple):
    """What to gate; exactly one of run, records, results."""

    run: Path | None = None
    cells: Sequence[str] = ()
    base_records: Answers | None = None
    candidate_records: Answers | None = None
    base_results: Path | None = None
    candidate_results: Path | None = None
    choices: AdoptionChoices = DEFAULT_CHOICES
    """About tasks of the results: which, axis, metric, filter, cluster."""


class GatedAnswers(NamedTuple):
    """The records that were judged, for a page that shows lost and gained items."""

    base: Answers
    candidate: Answers
    texts: Mapping[str, Sequence[ItemText]] | None
    """By task, of adopted results; None where the installed tasks have them."""


class FinishedGate(NamedTuple):
    """The outcome of the command."""

    results: list[GateResult]
    lines: list[str]
    """For the terminal, verdict last."""
    workflow: list[str]
    """GitHub workflow commands, to be printed as they are; empty elsewhere."""
    exit_code: int
    answers: GatedAnswers | None = None
    """None for a run folder, whose report shows its answers."""


def command(
    sources: Sources,
    *,
    policy: Path | Policy | None = None,
    tier: Tier = "full",
    out: Path | None = None,
    allow_inconclusive: bool = False,
    pinned: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> FinishedGate:
    """Gate what is stored.

    Args:
        policy: or its YAML; needed unless a run folder brings its own.
        out: folder for gate.json, junit.xml, summary.md and comment.md.
        allow_inconclusive: exit with 0 instead of 3; verdicts stay as they are.
        pinned: `policy` and `base_records` (of adopted results `base_results`) -> SHA-256 from a
            protected branch; another digest is an integrity failure.
        environment: of the process; GitHub's files are written when it says GITHUB_ACTIONS=true.

    Raises:
        UsageError, IntegrityError: as `gate_run`; nothing was judged.
    """
    rules = loading.load_policy(policy) if isinstance(policy, Path) else policy
    results, answers = _judged(sources, rules, tier)
    _check_pinned(results, pinned or {})
    if out:
        ci.write(out, results)
    code = exit_code(results, allow_inconclusive)
    lines = [line for result in results for line in verdict_lines(result)]
    if tier != "full":
        most = max((len(result.tasks) for result in results), default=0)
        margins = [task.change.margin or 0.0 for result in results for task in result.tasks]
        lines.append(promise(tier, most, max(margins, default=0.0), results[0].alpha))
    if allow_inconclusive and exit_code(results) != code:
        lines.append("warning: INCONCLUSIVE is allowed to pass here; the verdict is unchanged")
    lines.append(f"gate: {overall(results)} ({counted(len(results), 'candidate')}), exit {code}")
    return FinishedGate(results, lines, ci.github(results, environment or {}), code, answers)


def printable(finished: FinishedGate, environment: Mapping[str, str]) -> str:
    """All lines for standard output; in a workflow's log none of ours can act as a command."""
    text = "\n".join(finished.lines)
    if environment.get("GITHUB_ACTIONS") != "true":
        return text
    quiet = github_untrusted(text, secrets.token_hex(16))
    return "\n".join([quiet, *finished.workflow])


def _judged(
    sources: Sources, policy: Policy | None, tier: Tier
) -> tuple[list[GateResult], GatedAnswers | None]:
    records = (sources.base_records, sources.candidate_records)
    others = (sources.base_results, sources.candidate_results)
    given = [sources.run is not None, records != (None, None), others != (None, None)]
    if sum(given) != 1:
        raise UsageError(
            "name one thing to gate: a run folder, or --base-records with --candidate-records, "
            "or --base-results with --candidate-results"
        )
    if sources.choices.named() and others == (None, None):
        raise UsageError(
            "--task, --leave-out, --axis, --metric, --filter and --cluster are about --base-results"
        )
    if sources.run is not None:
        return gate_run(sources.run, policy, cells=sources.cells, tier=tier), None
    if policy is None:
        raise UsageError("--policy is needed: a file with at least `margin: 0.02`")
    if records != (None, None):
        if records[0] is None or records[1] is None:
            raise UsageError("--base-records and --candidate-records go together")
        name = str(records[1]) if isinstance(records[1], Path) else "candidate"
        result = gate_records(records[0], records[1], policy, name=name, tier=tier)
        return [result], GatedAnswers(records[0], records[1], None)
    if others[0] is None or others[1] is None:
        raise UsageError("--base-results and --candidate-results go together")
    result, answers = _adopted(others[0], others[1], sources.choices, policy, tier)
    return [result], answers


def _adopted(
    base: Path, candidate: Path, choices: AdoptionChoices, policy: Policy, tier: Tier
) -> tuple[GateResult, GatedAnswers]:
    from retainbench.harness.adoption import pair as adopt

    pair = adopt.pair(base, candidate, choices)
    sides = (pair.base.records, pair.candidate.records)
    result = gate_records(*sides, policy, name=str(candidate), tier=tier, part=pair.part)
    files = {"base_results": pair.base.files, "candidate_results": pair.candidate.files}
    digests = {name: digest(listed) for name, listed in files.items()}
    texts = {name: task.texts for name, task in pair.base.tasks.items()}
    return result.model_copy(
        update={"remarks": pair.remarks, "digests": {**result.digests, **digests}}
    ), GatedAnswers(*sides, texts)


def _check_pinned(results: Sequence[GateResult], pinned: Mapping[str, str]) -> None:
    for name, expected in pinned.items():
        for result in results:
            adopted = result.digests.get(name.replace("records", "results"))
            found = result.digests.get(name, adopted)
            if result.verdict != "ERROR" and found != expected.lower():
                raise IntegrityError(f"{name} has the digest {found}, pinned is {expected}")


def verdict_lines(result: GateResult) -> list[str]:
    """One candidate for the terminal: its verdict, then the tasks that are not PASS."""
    gain = f", gain {points(result.gain)} points" if result.gain else ""
    lines = [f"{result.verdict:12} {terminal(result.label)}{gain}"]
    if result.verdict == "ERROR" or not result.tasks:
        lines += [f"  {terminal(reason)}" for reason in result.reasons]
    open_ = [task for task in result.tasks if task.verdict != "PASS"]
    lines += [_task_line(task) for task in open_[:MOST_TASKS_SHOWN]]
    if len(open_) > MOST_TASKS_SHOWN:
        lines.append(f"  and {counted(len(open_) - MOST_TASKS_SHOWN, 'more task')}")
    named = {task.change.task for task in open_}
    others = [r for r in result.reasons if r.split(":")[0].removesuffix(" regressed") not in named]
    lines += [f"  {terminal(reason)}" for reason in others if result.tasks]
    eroded = ((axis.axis, erosion(axis.change)) for axis in result.axes if axis.change)
    shown = [f"{axis}: {found}" for axis, found in eroded if found]
    shown += [f"{change.axis}: {perplexity(change)}" for change in result.perplexity]
    lines += [f"  {line}" for line in unwarned(shown, result.warnings)]
    lines += [f"  warning: {terminal(line)}" for line in result.warnings]
    return lines + [f"  note: {terminal(line)}" for line in result.remarks]


def _task_line(task: TaskGate) -> str:
    change = task.change
    found = (
        f"  {task.verdict:12} {terminal(change.task, 60)} ({change.axis}): drop "
        f"{points(change.drop)} points, margin {100 * (change.margin or 0):g}, {change.n} items"
    )
    alone = "a regression on its own, not after Holm" if task.unadjusted else ""
    return "; ".join(filter(None, (found, alone, deciding(task))))
