"""Read Inspect logs (`.eval` archives and `.json` files) as records.

Reads one log per task, finished normally: an archive has its header.json only then. Of a failed log
and its retry the retry is read. Epochs become repeats of an item. Samples are read one by one
(`adoption/inspect_samples.py`). Nothing here imports inspect_ai.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, NonNegativeInt

from retainbench.harness.adoption import archive
from retainbench.harness.adoption.choices import DEFAULT_CHOICES, AdoptionChoices
from retainbench.harness.adoption.inspect_samples import InspectSample, sample_record, sample_text
from retainbench.harness.adoption.items import (
    Adopted,
    AdoptedTask,
    Reading,
    number_repeats,
    reading,
    scorable,
    with_constant_answer,
)
from retainbench.harness.adoption.json_files import (
    LARGEST_VALUE,
    Foreign,
    checked,
    parse,
    read_object,
    require_task_name,
    value_text,
)
from retainbench.harness.adoption.settings import ComparedSettings, recorded
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.files.storage import sha256_file
from retainbench.harness.core.records import ItemRecord, ItemText

GENERATION = (
    "temperature", "top_p", "top_k", "max_tokens", "seed", "stop_seqs", "system_message",
    "num_choices", "frequency_penalty", "presence_penalty", "reasoning_effort", "reasoning_tokens",
)  # fmt: skip
SPEC = ("task_version", "task_args", "solver", "solver_args")
CONFIG = ("epochs", "epochs_reducer", "message_limit", "token_limit")
MOST_ENTRIES = 10_000
"""Solvers or scorers of a log."""
LIMITS = ("limit", "sample_id")


class InspectSpec(Foreign):
    """What was evaluated: `eval` in a log."""

    task: str
    task_version: Any = None
    task_args: Any = None
    solver: Any = None
    solver_args: Any = None
    dataset: dict[str, Any] | None = None
    config: dict[str, Any] | None = None
    model: str = "unknown"
    model_args: Any = None
    model_generate_config: dict[str, Any] | None = None
    packages: dict[str, Any] | None = None


class InspectStep(Foreign):
    """One solver of the plan."""

    solver: Any = None
    params: Any = None


class InspectPlan(Foreign):
    """The solvers of a task."""

    steps: list[InspectStep] | None = Field(default=None, max_length=MOST_ENTRIES)


class InspectScorer(Foreign):
    """One scorer's results."""

    name: str


class InspectResults(Foreign):
    """Counts and scorers of a finished evaluation."""

    total_samples: NonNegativeInt | None = None
    completed_samples: NonNegativeInt | None = None
    scores: list[InspectScorer] | None = Field(default=None, max_length=MOST_ENTRIES)


class InspectHeader(Foreign):
    """A log without its samples."""

    version: Any = None
    status: Any = None
    invalidated: Any = None
    eval: InspectSpec
    plan: InspectPlan | None = None
    results: InspectResults | None = None


class InspectLog(NamedTuple):
    """A log whose samples are read one by one."""

    file: Path
    header: InspectHeader
    samples: Iterable[tuple[str, Any]]
    """Each with its place for error messages."""


def log_files(path: Path) -> list[Path]:
    """Inspect logs under a folder, or the one that was named."""
    listed = [path] if path.is_file() else sorted([*path.rglob("*.eval"), *path.rglob("*.json")])
    return [f for f in listed if f.is_file() and (f.suffix == ".eval" or _is_log(f))]


def _is_log(file: Path) -> bool:
    with file.open("rb") as opened:
        start = opened.read(4096)
    return file.suffix == ".json" and b'"eval"' in start and b'"version"' in start


def read(path: Path, choices: AdoptionChoices = DEFAULT_CHOICES) -> Adopted:
    """Read a folder of logs, one per task, or a single log.

    Raises:
        UsageError: two finished logs of one task, or no task that can be compared.
        IntegrityError: an unfinished, errored, invalidated or damaged log.
    """
    files = log_files(path)
    if not files:
        raise UsageError(f"{path}: no Inspect log (.eval, or .json with samples)")
    headers = {file: _header(file) for file in files}
    listed = [header.eval.task for header in headers.values()]
    headers = {f: header for f, header in headers.items() if choices.wants(header.eval.task)}
    finished, notes = _finished(path, headers)

    def task(name: str) -> AdoptedTask:
        with _log(finished[name]) as log:
            return _task(log, choices)

    tasks, unscored = scorable(sorted(finished), choices, task)
    first = headers[finished[min(finished)]].eval if finished else InspectSpec(task="none")
    engine, _, name = first.model.partition("/")
    return Adopted(
        harness=f"inspect_ai {(first.packages or {}).get('inspect_ai', 'unknown')}",
        model=first.model,
        path=path,
        tasks=tasks,
        listed=listed,
        unscored=unscored,
        settings=ComparedSettings(
            shown={
                "model_args": first.model_args,
                "packages": first.packages,
                "engine": engine if name else None,
            }
        ),
        files={file.name: sha256_file(file) for file in finished.values()},
        notes=notes,
    )


def _finished(path: Path, headers: dict[Path, InspectHeader]) -> tuple[dict[str, Path], list[str]]:
    """The log of each task, and a note for each failed attempt that was run again."""
    by_task: dict[str, list[Path]] = {}
    for file, header in headers.items():
        require_task_name(header.eval.task, str(file))
        by_task.setdefault(header.eval.task, []).append(file)
    finished, notes = {}, []
    for task, files in by_task.items():
        good = [f for f in files if headers[f].status == "success" and not headers[f].invalidated]
        if len(good) > 1:
            raise UsageError(f"{path}: more than one log of task {task!r}: name one run's folder")
        if not good:
            status = headers[files[0]].status
            raise IntegrityError(f"{files[0]}: status {status!r}, or invalidated")
        if headers[good[0]].version != 2:
            version = value_text(headers[good[0]].version)
            raise IntegrityError(f"{good[0]}: log version {version}, expected 2")
        finished[task] = good[0]
        notes += [
            f"{task}: {file.name} has status {headers[file].status!r} and was not read; "
            f"{good[0].name} was"
            for file in files
            if file != good[0]
        ]
    return finished, notes


def _header(file: Path) -> InspectHeader:
    if file.suffix == ".json":
        if (size := file.stat().st_size) > LARGEST_VALUE:
            raise IntegrityError(
                f"{file}: {size >> 20} MiB; at most {LARGEST_VALUE >> 20} are read of a .json log. "
                "Convert it with `inspect log convert --to eval --output-dir DIR FILE`"
            )
        return checked(InspectHeader, read_object(file), str(file))
    with archive.opened(file) as opened:
        return _archived_header(opened)


def _archived_header(opened: archive.Archive) -> InspectHeader:
    if "header.json" not in opened.names:
        raise IntegrityError(f"{opened.path}: no header.json, so the evaluation did not finish")
    place = f"{opened.path}: header.json"
    return checked(InspectHeader, parse(opened.read("header.json"), place), place)


@contextmanager
def _log(file: Path) -> Iterator[InspectLog]:
    """Header and samples of a log in either form."""
    if file.suffix == ".json":
        content = read_object(file)
        samples = content.pop("samples", None) or []
        if not isinstance(samples, list):
            raise IntegrityError(f"{file}: samples: expected a list")
        named = ((f"{file}: samples[{number}]", value) for number, value in enumerate(samples))
        yield InspectLog(file, checked(InspectHeader, content, str(file)), named)
        return
    with archive.opened(file) as opened:
        names = [n for n in opened.names if n.startswith("samples/") and n.endswith(".json")]
        yield InspectLog(
            file,
            _archived_header(opened),
            ((f"{file}: {name}", parse(opened.read(name), f"{file}: {name}")) for name in names),
        )


def _task(log: InspectLog, choices: AdoptionChoices) -> AdoptedTask:
    """Records of one log; checks that every sample is there and was scored."""
    file, header = log.file, log.header
    results = header.results or InspectResults()
    scored = [score.name for score in results.scores or []]
    made: Reading | None = None
    records: dict[tuple[str, int], ItemRecord] = {}
    texts: list[ItemText] = []
    for place, value in log.samples:
        sample = checked(InspectSample, value, place)
        key = (str(sample.id), sample.epoch)
        if key in records:
            raise IntegrityError(f"{file}: duplicate sample {key[0]}, epoch {key[1]}")
        if made is None:
            listed = list(dict.fromkeys([*scored, *(sample.scores or {})]))
            made = reading(header.eval.task, listed, {}, choices, str(file))
        records[key] = sample_record(sample, file, made)
        texts.append(sample_text(sample, records[key]))
    expected = len(records) if results.total_samples is None else results.total_samples
    if made is None or len(records) != expected or results.completed_samples != expected:
        raise IntegrityError(
            f"{file}: {len(records)} of {expected} samples are here, "
            f"{results.completed_samples} were completed"
        )
    ordered = [records[key] for key in sorted(records)]
    limit = _limit(header.eval.config or {}, len({item for item, _ in records}))
    return AdoptedTask(
        records=number_repeats(with_constant_answer(ordered, made)),
        settings=_settings(header),
        texts=texts,
        notes=[f"{header.eval.task}: {limit}"] if limit else [],
        limited=limit,
    )


def _settings(header: InspectHeader) -> ComparedSettings:
    """What two logs of one task must share, and what is shown."""
    spec = header.eval
    steps = (header.plan.steps if header.plan else None) or []
    equal = {
        **recorded(spec.model_dump(exclude_unset=True), SPEC),
        "plan": [[step.solver, step.params] for step in steps],
        **recorded(spec.config, CONFIG),
        **{key: (spec.model_generate_config or {}).get(key) for key in GENERATION},
    }
    shown = {"dataset": (spec.dataset or {}).get("name"), **recorded(spec.config, LIMITS)}
    return ComparedSettings(equal, shown)


def _limit(config: dict[str, Any], items: int) -> str | None:
    """Which samples the log is limited to; a limit above the number of items leaves out none."""
    chosen = {key: config[key] for key in LIMITS if config.get(key) is not None}
    if isinstance(chosen.get("limit"), int) and chosen["limit"] > items:
        del chosen["limit"]
    listed = ", ".join(f"{key} {value_text(value)}" for key, value in chosen.items())
    return f"limited to {listed}" if listed else None
