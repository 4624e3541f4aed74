"""A certificate for people: the lines of the screen, `table.csv` and `report.html`.

Takes the `Evidence` of a certificate and returns texts; `certificate/certify.py` writes them.
Nothing rests on these files, but a reader believes them: `verify` makes them again and compares.
The page shows every value that nothing else in the certificate confirms. Deterministic: equal
evidence gives equal bytes.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from retainbench.harness.certificate.bundle import Evidence
from retainbench.harness.core.files.storage import csv_text
from retainbench.harness.core.records import Record
from retainbench.harness.core.schema import Policy
from retainbench.harness.core.text.escaping import terminal
from retainbench.harness.core.text.formatting import NONE, bounded, brief, counted, nats, points
from retainbench.harness.core.verdicts import AxisGate, TaskGate, deciding, erosion
from retainbench.harness.gate import ci
from retainbench.harness.gate.command import verdict_lines
from retainbench.harness.report.page.html import small_page
from retainbench.harness.report.table.columns import Grid

COLUMNS = (
    "axis,task,metric,verdict,mandatory,n,clusters,base_score,candidate_score,drop,drop_low,"
    "drop_high,level,method,margin,holm_p,lost,gained,noise_churn,minimum_detectable_effect,"
    "items_to_decide"
)
"""Of `table.csv`, in score points as stored."""


def screen(evidence: Evidence) -> list[str]:
    """What a person reads at the end: the verdict, tasks that are not PASS, axes, weights."""
    verdict, *rest = verdict_lines(evidence.gate)
    lines = [verdict, *map(_axis_line, evidence.gate.axes), *rest, *_engine_lines(evidence)]
    if evidence.drift:
        lines.append(f"  weights: {_weights(evidence)}")
    if evidence.divergence:
        lines.append(f"  KL to the base, nats per token: {_kl(evidence)}")
    return lines + [f"  note: {terminal(note, 500)}" for note in evidence.notes]


def table(evidence: Evidence) -> str:
    """One row per task as CSV; a missing value is an empty cell."""
    rows = []
    for task in evidence.gate.tasks:
        change = task.change
        values: list[object] = [change.axis, change.task, change.metric]
        values += [task.verdict, task.mandatory, change.n, change.clusters]
        values += [change.base_score, change.candidate_score, change.drop.value, change.drop.low]
        values += [change.drop.high, change.drop.level, change.drop.method, change.margin]
        values += [task.holm_p, change.lost, change.gained, change.noise_churn]
        values += [change.minimum_detectable_effect, task.items_to_decide]
        rows.append(values)
    return csv_text(COLUMNS.split(","), rows)


def page(evidence: Evidence, policy: Policy) -> str:
    """One HTML document without scripts."""
    gate = evidence.gate
    return small_page(
        "certificate.html",
        title=f"{evidence.candidate.name} against {evidence.base.name}",
        verdict=gate.verdict,
        reasons=[*gate.reasons, *gate.warnings, *evidence.notes],
        facts=_facts(evidence),
        grids=[
            _axes(evidence),
            _tasks(evidence),
            *_engines(evidence),
            *_documents(evidence),
            *_measured(evidence),
            _values("Policy", policy),
        ],
    )


def files(evidence: Evidence, policy: Policy) -> dict[str, str]:
    """Every file for people and for CI, by its name in the certificate."""
    shown = ci.files([evidence.gate], evidence.created)
    return {
        "table.csv": table(evidence),
        "report.html": page(evidence, policy),
        **{f"ci/{name}": text for name, text in shown.items()},
    }


def _axis_line(axis: AxisGate) -> str:
    if axis.change is None:
        return f"  {axis.axis:8} no task above chance"
    gated = "" if axis.gated else " (not gated as a whole)"
    return (
        f"  {axis.axis:8} mean drop {points(axis.change.drop)} points over "
        f"{counted(axis.change.tasks, 'task')}, {axis.change.n} items: {axis.verdict}{gated}"
    )


def _engine_lines(evidence: Evidence) -> list[str]:
    """Next to a verdict across engines: what each of the two changes did, axis by axis."""
    if evidence.engine_change is None:
        return []
    lines = []
    for gate in (evidence.engine_change.engine, evidence.engine_change.weights):
        drops = ", ".join(
            f"{axis.axis} {points(axis.change.drop)}" for axis in gate.axes if axis.change
        )
        lines.append(f"  {gate.candidate} alone: mean drop {drops or NONE} points: {gate.verdict}")
    return lines


def _engines(evidence: Evidence) -> list[Grid]:
    """One row per task: its drop, as the sum of what the two changes did."""
    change = evidence.engine_change
    if change is None:
        return []
    engine, weights = (
        {task.change.task: task for task in gate.tasks} for gate in (change.engine, change.weights)
    )
    cells = [
        [
            name,
            points(engine[name].change.drop),
            brief(engine[name].change.churn, 100),
            points(weights[name].change.drop),
            weights[name].verdict,
        ]
        for name in sorted(engine)
    ]
    note = (
        "Points. Engine: the base on its own engine minus the base on the candidate's. Weights: "
        "the base minus the candidate, both on the candidate's engine. Item by item the two add "
        "up to the drop that decides. Churn: percentage of items that the engine alone changed."
    )
    head = ["Task", "Engine", "Churn", "Weights", "Verdict on the weights"]
    return [Grid("Change of engine and change of weights", head, "lrrrl", cells, [note])]


def _weights(evidence: Evidence) -> str:
    drift = evidence.drift
    if drift is None:
        return NONE
    return (
        f"moved by {brief(drift.relative, 100)} % of the base's norm, "
        f"{brief(drift.unchanged_exact, 100)} % of them unchanged ({terminal(drift.dtypes)})"
    )


def _kl(evidence: Evidence) -> str:
    if evidence.divergence is None:
        return NONE
    forward, intervals = evidence.divergence.forward, evidence.divergence.intervals
    return ", ".join(f"{axis} {bounded(kl, intervals.get(axis))}" for axis, kl in forward.items())


def _facts(evidence: Evidence) -> list[tuple[str, str]]:
    floors = [task.change.noise_churn for task in evidence.gate.tasks]
    known = [floor for floor in floors if floor is not None]
    churn = evidence.repeat_churn
    repeated = None if churn is None else ", ".join(f"{k} {v}" for k, v in churn.items())
    return [
        ("Suite", evidence.suite),
        ("Tasks of the suite", ", ".join(evidence.suite_tasks)),
        ("Suite, sha256 of what else is asked", evidence.suite_sha256),
        ("Items", evidence.gate.tier),
        ("Weights", _weights(evidence)),
        ("KL to the base on retention prompts, nats per token", _kl(evidence)),
        ("A/A noise floor", f"at most {100 * max(known):.1f} % of a task" if known else "none"),
        ("Items that changed when the base was scored twice", repeated or "not scored twice"),
        ("Made", evidence.created),
        ("Command", shlex.join(evidence.command)),
        ("Base", f"{evidence.base.name}, sha256 {evidence.base.sha256}"),
        ("Candidate", f"{evidence.candidate.name}, sha256 {evidence.candidate.sha256}"),
        *((f"{name}", value) for name, value in evidence.settings.items()),
        *(
            (f"candidate's {name}", value)
            for name, value in (evidence.candidate_settings or {}).items()
        ),
        *_twin(evidence),
        *((f"{name}", value) for name, value in evidence.environment.items()),
    ]


def _twin(evidence: Evidence) -> list[tuple[str, str]]:
    if evidence.engine_change is None:
        return []
    base = evidence.engine_change.base
    return [("Base on the candidate's engine", f"{base.name}, sha256 {base.sha256}")]


def _measured(evidence: Evidence) -> list[Grid]:
    """All of drift and KL, where they were measured."""
    parts = [("Drift of the weights", evidence.drift), ("KL to the base", evidence.divergence)]
    return [_values(caption, part) for caption, part in parts if part is not None]


def _values(caption: str, record: Record) -> Grid:
    """Every value of a record in a line."""
    cells = [[place, text] for place, text in _leaves(record.model_dump(mode="json"))]
    return Grid(caption, ["Name", "Value"], "lr", cells, [])


def _leaves(value: Any, place: str = "") -> Iterator[list[str]]:
    """Names and values, inner names after a full stop."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _leaves(part, f"{place}.{key}" if place else key)
    elif isinstance(value, list):
        yield [place, ", ".join(map(str, value)) or NONE]
    else:
        yield [place, NONE if value is None else str(value)]


def _axes(evidence: Evidence) -> Grid:
    cells = [
        [axis.axis, axis.verdict if axis.gated else f"{axis.verdict}, not gated as a whole"]
        + [points(axis.change.drop) if axis.change else NONE]
        + [str(value) for value in ((axis.change.tasks, axis.change.n) if axis.change else (0, 0))]
        + [(erosion(axis.change).removeprefix("erosion ") if axis.change else "") or NONE]
        for axis in evidence.gate.axes
    ]
    note = (
        "Drop: base minus candidate in points, rescaled so that guessing is 0, mean over the "
        "axis' tasks above chance; positive is forgetting. Erosion: the same of the gold choice's "
        "probability at temperature 4, an early warning that decides nothing."
    )
    head = ["Axis", "Verdict", "Mean drop", "Tasks", "Items", "Erosion"]
    return Grid("Axes", head, "llrrrr", cells, [note])


def _documents(evidence: Evidence) -> list[Grid]:
    """Held-out perplexity, where documents were scored."""
    rows = [
        [
            change.axis,
            task.task,
            task.verdict,
            f"{task.base_nats:.3f}",
            f"{task.candidate_nats:.3f}",
            nats(task.change),
            f"{task.margin:g}",
            str(task.n),
            f"{task.base_bits_per_byte:.3f} > {task.candidate_bits_per_byte:.3f}",
        ]
        for change in evidence.gate.perplexity
        for task in change.tasks
    ]
    if not rows:
        return []
    note = (
        "Nats per token of the base's tokenizer, mean over documents; change: candidate minus "
        "base, paired by document; above 0 is worse. It decides where the policy's `mandatory` "
        "names the task."
    )
    head = ["Axis", "Task", "Verdict", "Base", "Candidate", "Change", "Margin", "Documents"]
    head += ["Bits per byte"]
    return [Grid("Held-out perplexity", head, "lllrrrrrr", rows, [note])]


def _tasks(evidence: Evidence) -> Grid:
    head = ["Axis", "Task", "Verdict", "Base", "Candidate", "Drop", "Margin", "Items"]
    head += ["Lost / gained", "Detectable", "What would decide"]
    level = f"{100 * (1 - 2 * evidence.gate.alpha):g} %"
    note = (
        f"Points; brackets: the {level} interval that decides. Detectable: the smallest margin "
        "that would pass with power 0.8 if nothing was lost."
    )
    rows = [_row(task) for task in evidence.gate.tasks]
    return Grid("Tasks, worst first", head, "lllrrrrrrrl", rows, [note, evidence.scope])


def _row(task: TaskGate) -> list[str]:
    change = task.change
    return [
        change.axis,
        change.task + ("" if task.mandatory else " (not mandatory)"),
        task.verdict,
        f"{100 * change.base_score:.1f}",
        f"{100 * change.candidate_score:.1f}",
        points(change.drop),
        brief(change.margin, 100),
        str(change.n),
        NONE if change.lost is None else f"{change.lost} / {change.gained}",
        brief(change.minimum_detectable_effect, 100),
        "; ".join([*task.reasons, *filter(None, [deciding(task)])]) or NONE,
    ]
