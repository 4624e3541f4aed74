"""Read lighteval's details (Parquet, one file per task) and results JSON as records.

Reads `OUT/details/MODEL/DATE/details_TASK_DATE.parquet` and `OUT/results/MODEL/results_DATE.json`,
as `lighteval ... --save-details` writes them. The results file is required: it holds the
configuration and the number of items. The rows are in `adoption/lighteval_rows.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from retainbench.harness.adoption.choices import DEFAULT_CHOICES, AdoptionChoices
from retainbench.harness.adoption.items import Adopted, AdoptedTask, scorable
from retainbench.harness.adoption.json_files import (
    MOST_SETTINGS,
    Foreign,
    checked,
    read_object,
    require_task_name,
    run_date,
)
from retainbench.harness.adoption.settings import ComparedSettings, recorded
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.files.storage import sha256_file
from retainbench.harness.core.verdicts import first_items

EQUAL_IN_TASK = (
    "num_fewshots", "version", "generation_size", "stop_sequence", "num_samples", "hf_repo",
    "hf_subset", "hf_revision", "evaluation_splits", "few_shots_split", "few_shots_select",
    "effective_num_docs",
)  # fmt: skip
EQUAL_IN_MODEL = (
    "generation_parameters", "system_prompt", "use_chat_template", "override_chat_template",
    "add_special_tokens",
)  # fmt: skip
THE_MODEL = ("model_name", "model_config", "revision", "subfolder", "base_model", "delta_weights")
"""Keys that name what is compared."""
WRITTEN = "hash_cont_tokens"
"""The hash of what the model wrote."""


class LightevalMetric(Foreign):
    """One metric of a task."""

    metric_name: Any = None
    higher_is_better: Any = None


class TaskConfig(Foreign):
    """What is read of a task's configuration."""

    effective_num_docs: int | None = None
    metrics: list[LightevalMetric | None] | None = None


class LightevalSummary(Foreign):
    """A task's hashes of prompts and examples."""

    hashes: dict[str, Any] | None = None


class LightevalGeneral(Foreign):
    """The configuration of the run."""

    model_name: Any = "unknown"
    model: dict[str, Any] | None = Field(None, alias="model_config")
    lighteval_sha: Any = "unknown"
    max_samples: int | None = None
    num_fewshot_seeds: Any = None


class LightevalResults(Foreign):
    """What is read of a results file."""

    config_general: dict[str, Any] | None = None
    config_tasks: dict[str, dict[str, Any] | None]
    summary_tasks: dict[str, dict[str, Any] | None]


def details_files(path: Path) -> list[Path]:
    """Details files under a folder, or the one that was named."""
    listed = [path] if path.is_file() else sorted(path.rglob("details_*.parquet"))
    return [f for f in listed if f.is_file() and f.suffix == ".parquet" and run_date(f)]


def read(path: Path, choices: AdoptionChoices = DEFAULT_CHOICES) -> Adopted:
    """Read one run: the output folder, if it holds exactly one, or its dated details folder.

    Raises:
        UsageError: several runs, or no task that can be compared.
        IntegrityError: items missing or doubled, a broken file, no results file.
    """
    files = details_files(path)
    dated = {(file.parent, run_date(file)) for file in files}
    if len(dated) != 1:
        listed = ", ".join(sorted(str(folder) for folder, _ in dated)) or "none"
        raise UsageError(f"{path}: expected one lighteval run, found {listed}: name one folder")
    results_file = _results_file(files[0])
    results = checked(LightevalResults, read_object(results_file, MOST_SETTINGS), str(results_file))
    general = checked(
        LightevalGeneral, results.config_general or {}, f"{results_file}: config_general"
    )
    by_task = {_task_name(file): file for file in files}

    def task(name: str) -> AdoptedTask:
        return _task(by_task[name], name, results, results_file, general.max_samples, choices)

    tasks, unscored = scorable(filter(choices.wants, by_task), choices, task)
    return Adopted(
        harness=f"lighteval {general.lighteval_sha}",
        model=str(general.model_name),
        path=results_file,
        tasks=tasks,
        listed=list(results.config_tasks),
        unscored=unscored,
        settings=_run_settings(general),
        files={file.name: sha256_file(file) for file in [results_file, *files]},
    )


def _task_name(file: Path) -> str:
    name = file.stem.removeprefix("details_").removesuffix(f"_{run_date(file)}")
    require_task_name(name, str(file))
    return name


def _results_file(details: Path) -> Path:
    """The results JSON of the same date, in `results/` next to the `details/` folder."""
    name = f"results_{run_date(details)}.json"
    for folder in details.parents:
        if folder.name == "details":
            files = sorted((folder.parent / "results").rglob(name))
            if len(files) == 1:
                return files[0]
            break
    raise IntegrityError(f"{details}: {name} is not in the results folder next to `details`")


def _entry(table: dict[str, dict[str, Any] | None], task: str, file: Path) -> dict[str, Any]:
    """A task's entry; older releases leave the number of shots out of the key."""
    entry = table.get(task) or table.get(task.rpartition("|")[0])
    if entry is None:
        raise IntegrityError(f"{file}: nothing about task {task!r}")
    return entry


def _run_settings(general: LightevalGeneral) -> ComparedSettings:
    model = general.model or {}
    equal = recorded(model, EQUAL_IN_MODEL) | {"num_fewshot_seeds": general.num_fewshot_seeds}
    named = {*EQUAL_IN_MODEL, *THE_MODEL}
    shown = {key: value for key, value in model.items() if key not in named}
    return ComparedSettings(equal, shown | {"max_samples": general.max_samples})


def _task(
    file: Path,
    task: str,
    results: LightevalResults,
    results_file: Path,
    limit: int | None,
    choices: AdoptionChoices,
) -> AdoptedTask:
    raw = _entry(results.config_tasks, task, results_file)
    config = checked(TaskConfig, raw, f"{results_file}: {task}")
    higher = {str(m.metric_name): m.higher_is_better for m in config.metrics or [] if m}
    # Reads Parquet, which the base install cannot.
    from retainbench.harness.adoption.lighteval_rows import take

    records, texts = take(file, task, config.effective_num_docs, higher, choices)
    summary = checked(
        LightevalSummary, _entry(results.summary_tasks, task, results_file), str(results_file)
    )
    hashes = {key: value for key, value in (summary.hashes or {}).items() if key != WRITTEN}
    limited = first_items(limit) if limit is not None and limit <= len(records) else None
    return AdoptedTask(
        records=records,
        settings=ComparedSettings(recorded(raw, EQUAL_IN_TASK) | hashes),
        texts=texts,
        notes=[f"{task}: {limited}"] if limited else [],
        limited=limited,
    )
