"""What CI shows of a gate: files, annotations, the job summary and step outputs.

Writes into one folder: `gate.json` (everything), `junit.xml`, `summary.md`, `comment.md`. On GitHub
(`$GITHUB_ACTIONS`) it also prints annotations and appends to `$GITHUB_STEP_SUMMARY` and
`$GITHUB_OUTPUT`. Nothing that a model or a pull request wrote reaches a surface unescaped, and only
words of ours go to `$GITHUB_OUTPUT`.

Used by `retainbench gate --out DIR`, by `certify` and, through both, by `action.yml`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.files import locks
from retainbench.harness.core.files.storage import json_text, write_text
from retainbench.harness.core.records import SCHEMA_VERSION
from retainbench.harness.core.text.escaping import github_data, github_property
from retainbench.harness.core.text.formatting import points
from retainbench.harness.core.verdicts import (
    GateOutcome,
    GateResult,
    TaskGate,
    deciding,
    exit_code,
    overall,
)
from retainbench.harness.gate import job_summary
from retainbench.harness.gate.junit import junit

MOST_ANNOTATIONS = 10  # GitHub shows ten of a kind per step
MESSAGE_LIMIT = 500  # characters of an annotation


def write(folder: Path, results: Sequence[GateResult], timestamp: str | None = None) -> None:
    """Write all files of one gate; names in the folder are replaced.

    Args:
        timestamp: of the evaluation, for JUnit; see `ci_junit.junit`.

    Raises:
        UsageError: the folder cannot be written, or another command writes it.
    """
    with locks.growing(folder, create=True):
        for name, text in files(results, timestamp).items():
            write_text(folder / name, text)


def files(results: Sequence[GateResult], timestamp: str | None = None) -> dict[str, str]:
    """The texts that `write` writes, by file name; equal arguments give equal texts."""
    return {
        "gate.json": json_text(as_json(results)),
        "junit.xml": junit(results, timestamp) if timestamp else junit(results),
        "summary.md": job_summary.summary(results),
        "comment.md": job_summary.comment(results),
    }


def as_json(results: Sequence[GateResult]) -> dict[str, Any]:
    """Everything the gate found, for machines; the verdict is never changed by options."""
    return {
        "schema_version": SCHEMA_VERSION,
        "verdict": overall(results),
        "exit_code": exit_code(results),
        "results": [result.model_dump(mode="json") for result in results],
    }


def github(results: Sequence[GateResult], environment: Mapping[str, str]) -> list[str]:
    """Append summary and outputs where GitHub asks for them; returns the annotations to print.

    Outside GitHub Actions nothing is written and nothing returned.
    """
    if environment.get("GITHUB_ACTIONS") != "true":
        return []
    if path := environment.get("GITHUB_STEP_SUMMARY"):
        _append(Path(path), job_summary.summary(results))
    if path := environment.get("GITHUB_OUTPUT"):
        # Both values are words of ours: no delimiter is needed and none can be forged.
        _append(Path(path), f"verdict={overall(results)}\nexit-code={exit_code(results)}\n")
    return github_annotations(results)


def github_annotations(results: Sequence[GateResult]) -> list[str]:
    """Workflow commands, at most ten errors and ten warnings, largest drop first.

    ERROR and REGRESSION are errors; INCONCLUSIVE and advisory limits are warnings.
    """
    broken = [(r.label, r.reasons) for r in results if r.verdict == "ERROR"]
    errors = [_command("error", f"ERROR: {name}", "; ".join(why)) for name, why in broken]
    errors += [_task_command("error", r, t) for r, t in _ranked(results, "REGRESSION")]
    errors += [
        _command("error", f"REGRESSION: {r.label}", "; ".join(r.reasons))
        for r in results
        if r.verdict == "REGRESSION" and not any(t.verdict == "REGRESSION" for t in r.tasks)
    ]
    warnings = [_task_command("warning", r, t) for r, t in _ranked(results, "INCONCLUSIVE")]
    warnings += [
        _command("warning", f"INCONCLUSIVE: {r.label}", "; ".join(r.reasons))
        for r in results
        if r.verdict == "INCONCLUSIVE" and not any(t.verdict == "INCONCLUSIVE" for t in r.tasks)
    ]
    warnings += [
        _command("warning", f"Advisory: {r.label}", w) for r in results for w in r.warnings
    ]
    return _capped("error", errors) + _capped("warning", warnings)


def _ranked(
    results: Sequence[GateResult], verdict: GateOutcome
) -> list[tuple[GateResult, TaskGate]]:
    found = [(r, task) for r in results for task in r.tasks if task.verdict == verdict]
    return sorted(found, key=lambda pair: -pair[1].change.drop.value)


def _task_command(kind: str, result: GateResult, task: TaskGate) -> str:
    change = task.change
    found = (
        f"drop {points(change.drop)} points on {change.n} items, margin "
        f"{100 * (change.margin or 0):g} ({result.label})"
    )
    text = "; ".join(filter(None, (found, deciding(task))))
    return _command(kind, f"{task.verdict}: {change.task} ({change.axis})", text)


def _command(kind: str, title: str, text: str) -> str:
    return f"::{kind} title={github_property(title, 200)}::{github_data(text, MESSAGE_LIMIT)}"


def _capped(kind: str, commands: list[str]) -> list[str]:
    if len(commands) <= MOST_ANNOTATIONS:
        return commands
    shown = commands[: MOST_ANNOTATIONS - 1]
    more = len(commands) - len(shown)
    return [*shown, _command(kind, "Retention gate", f"and {more} more; see the job summary")]


def _append(path: Path, text: str) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"cannot append to {path}: {error.strerror or error}") from error
