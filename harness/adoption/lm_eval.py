"""Read what lm-eval wrote with `--log_samples` (a results JSON and samples_*.jsonl of one date).

Counts are checked against `n-samples`, because lm-eval's tracker swallows write errors and appends
to existing files. The rows are in `adoption/lm_eval_rows.py`. Nothing here imports lm_eval.

Command: `retainbench compare --base-results DIR --candidate-results DIR`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, NonNegativeInt

from retainbench.harness.adoption.choices import DEFAULT_CHOICES, AdoptionChoices
from retainbench.harness.adoption.items import Adopted, AdoptedTask, scorable
from retainbench.harness.adoption.json_files import (
    LARGEST_FILE,
    MOST_SETTINGS,
    Foreign,
    checked,
    read_lines,
    read_object,
    require_task_name,
    run_date,
)
from retainbench.harness.adoption.lm_eval_rows import NumberedRows, take
from retainbench.harness.adoption.own_tasks import own_records
from retainbench.harness.adoption.settings import ComparedSettings, recorded
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.files.foreign_json import regular_file
from retainbench.harness.core.files.storage import sha256_file

EQUAL_IN_RUN = (
    "chat_template_sha", "chat_template", "system_instruction_sha", "system_instruction",
    "tokenizer_bos_token",
)  # fmt: skip
SHOWN_OF_RUN = (
    "transformers_version", "max_length", "model_source", "tokenizer_pad_token",
    "tokenizer_eos_token", "eot_token_id", "fewshot_as_multiturn",
)  # fmt: skip
"""A chat fine-tune ends with another token; training often sets a pad token, which is masked."""
SHOWN_OF_CONFIG = ("model", "model_dtype", "batch_size", "device", "limit", "fewshot_seed")
EQUAL_IN_TASK = (
    "output_type", "num_fewshot", "metric_list", "generation_kwargs", "filter_list", "repeats",
    "process_results",
)  # fmt: skip
SHOWN_OF_TASK = (
    "dataset_path", "dataset_name", "test_split", "doc_to_text", "doc_to_target", "doc_to_choice",
    "description", "target_delimiter", "fewshot_delimiter", "fewshot_config",
)  # fmt: skip
"""Their effect is in the prompts, which are compared item by item."""
THE_MODEL = ("pretrained", "peft", "delta", "revision", "subfolder", "gguf_file")
"""Arguments that name what is compared."""
RESULTS = "results"
"""Stem of a results file whose date somebody has removed; the samples have none then either."""
UNSEEN = ("add_bos_token", "add_special_tokens", "prefix_token_id", "enable_thinking")
"""Arguments of the model that change the ids of every question, which the rows do not show."""


class LmEvalCounts(Foreign):
    """How many items a task has and how many were scored."""

    original: NonNegativeInt
    effective: NonNegativeInt

    @property
    def limited(self) -> bool:
        """Whether items were left out; a limit above the number of items leaves out none."""
        return self.effective != self.original


class LmEvalResults(Foreign):
    """What is read of a results file; more settings are in `model_extra`."""

    model_config = ConfigDict(extra="allow")

    counts: dict[str, LmEvalCounts] = Field(alias="n-samples", min_length=1)
    config: dict[str, Any] | None = None
    configs: dict[str, dict[str, Any] | None] | None = None
    versions: dict[str, Any] | None = None
    shots: dict[str, Any] | None = Field(None, alias="n-shot")
    higher_is_better: dict[str, dict[str, Any] | None] | None = None
    task_hashes: dict[str, Any] | None = None
    lm_eval_version: Any = "unknown"
    model_name: Any = "unknown"


def results_files(path: Path) -> list[Path]:
    """Results files of lm-eval under a folder, or the one that was named."""
    listed = [path] if path.is_file() else sorted(path.rglob("*.json"))
    named = [f for f in listed if f.is_file() and (run_date(f) or f.name == f"{RESULTS}.json")]
    return [file for file in named if "n-samples" in read_object(file)]


def read(path: Path, choices: AdoptionChoices = DEFAULT_CHOICES) -> Adopted:
    """Read one run: a folder that holds exactly one, or its results JSON.

    Raises:
        UsageError: several runs, no samples, or no task that can be compared.
        IntegrityError: rows missing or doubled, a broken file, a response cache in use.
    """
    files = results_files(path)
    if len(files) != 1:
        listed = ", ".join(str(file) for file in files[:5]) or "none"
        raise UsageError(f"{path}: expected one lm-eval run, found {listed}: name one results file")
    results = checked(LmEvalResults, read_object(files[0], MOST_SETTINGS), str(files[0]))
    date = run_date(files[0])
    rows: dict[str, NumberedRows] = {}
    digests = {files[0].name: sha256_file(files[0])}
    for task in filter(choices.wants, results.counts):
        require_task_name(task, str(files[0]))
        samples = files[0].parent / f"{'_'.join(filter(None, ('samples', task, date)))}.jsonl"
        if not samples.exists():
            raise IntegrityError(
                f"{samples}: missing, though {files[0].name} lists {task}; "
                "run lm_eval --log_samples"
            )
        regular_file(samples, LARGEST_FILE)
        rows[task], digests[samples.name] = read_lines(samples), sha256_file(samples)
    return adopt(results, rows, choices, files[0], digests)


def adopt(
    results: LmEvalResults,
    rows: dict[str, NumberedRows],
    choices: AdoptionChoices,
    path: Path,
    files: dict[str, str],
) -> Adopted:
    """Records of all tasks of one run, with the settings that the other run must share."""
    config = results.config or {}
    if config.get("use_cache"):
        raise IntegrityError(
            f"{path}: made with use_cache, which is not keyed by weights; run without it"
        )
    names = sorted(filter(choices.wants, results.counts))
    tasks, unscored = scorable(
        names, choices, lambda name: _task(name, rows[name], results, choices)
    )
    return Adopted(
        harness=f"lm-eval {results.lm_eval_version}",
        model=str(results.model_name),
        path=path,
        tasks=tasks,
        listed=list(results.counts),
        unscored=unscored,
        settings=_run_settings(results),
        files=files,
    )


def _task(
    task: str, rows: NumberedRows, results: LmEvalResults, choices: AdoptionChoices
) -> AdoptedTask:
    counts = results.counts[task]
    higher = (results.higher_is_better or {}).get(task) or {}
    taken = take(task, rows, counts.effective, higher, choices)
    limit = f"the first {counts.effective} of {counts.original} items" if counts.limited else None
    return AdoptedTask(
        records=own_records(task, taken.records, choices.catalogue, limited=counts.limited),
        settings=_task_settings(task, results),
        asked=taken.asked,
        texts=taken.texts,
        notes=[*taken.notes, *([f"{task}: {limit}"] if limit else [])],
        limited="the items that --limit left" if limit else None,
    )


def _run_settings(results: LmEvalResults) -> ComparedSettings:
    config, extra = results.config or {}, results.model_extra or {}
    equal = recorded(extra, EQUAL_IN_RUN) | recorded(config, ["gen_kwargs"])
    shown = recorded(extra, SHOWN_OF_RUN) | recorded(config, SHOWN_OF_CONFIG)
    if "model_args" in config:
        arguments = _arguments(config["model_args"])
        equal |= {f"model_args.{key}": _flag(arguments.pop(key, None)) for key in UNSEEN}
        shown["model_args"] = {k: v for k, v in arguments.items() if k not in THE_MODEL}
    return ComparedSettings(equal, shown)


def _arguments(model_args: Any) -> dict[str, Any]:
    """The model's arguments from a mapping or from `a=1,b=2`."""
    if isinstance(model_args, dict):
        return {str(key): value for key, value in model_args.items()}
    parts = str(model_args or "").split(",")
    return {key.strip(): value for key, _, value in (part.partition("=") for part in parts) if key}


def _flag(value: Any) -> Any:
    """A flag of the model's arguments, which is off where it is not given."""
    return {"true": True, "1": True, "false": None, "0": None, "none": None}.get(
        str(value).lower(), value
    )


def _task_settings(task: str, results: LmEvalResults) -> ComparedSettings:
    config = (results.configs or {}).get(task)
    equal = recorded(config, EQUAL_IN_TASK)
    for name, table in (
        ("version", results.versions),
        ("n-shot", results.shots),
        ("task hash", results.task_hashes),
    ):
        if table and table.get(task) is not None:
            equal[name] = table[task]
    return ComparedSettings(equal, recorded(config, SHOWN_OF_TASK))
