"""Read lighteval's details (Parquet, one file per task) and results JSON as records.

Reads `OUT/details/MODEL/DATE/details_TASK_DATE.parquet` and `OUT/results/MODEL/results_DATE.json`,
as `lighteval ... --save-details` writes them. The columns are `doc`, `model_response` and `metric`
(0.13), or the same names between double underscores (its documentation and other releases). The
results file is required: it holds the configuration and the number of items.

Chance is 1/k only for log-likelihood tasks with an accuracy; for generated answers it is 0,
because lighteval does not say whether `choices` are options or accepted references.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet

from retainbench.harness.adoption.items import (
    DEFAULT_CHOICES,
    Adopted,
    Choices,
    Reading,
    item_record,
    number_repeats,
    reading,
    soft_score,
)
from retainbench.harness.adoption.json_files import DATE, LARGEST_FILE, read_object
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.records import ItemRecord
from retainbench.harness.core.storage import digest, sha256_file
from retainbench.harness.core.verdicts import first_items

TASK_SETTINGS = (
    "num_fewshots", "version", "generation_size", "stop_sequence", "num_samples", "hf_repo",
    "hf_subset", "hf_revision", "evaluation_splits", "few_shots_split", "few_shots_select",
    "effective_num_docs",
)  # fmt: skip
MODEL_SETTINGS = (
    "generation_parameters", "system_prompt", "use_chat_template", "override_chat_template",
    "add_special_tokens",
)  # fmt: skip
COLUMNS = ("doc", "model_response", "metric")


def details_files(path: Path) -> list[Path]:
    """Details files under a folder, or the one that was named."""
    found = [path] if path.is_file() else sorted(path.rglob("details_*.parquet"))
    return [file for file in found if file.suffix == ".parquet" and DATE.search(file.stem)]


def read(path: Path, choices: Choices = DEFAULT_CHOICES) -> Adopted:
    """Read one run: the output folder, if it holds exactly one, or its dated details folder.

    Raises:
        UsageError: several runs, or a metric that cannot be compared.
        IntegrityError: items missing or doubled, a broken file, no results file.
    """
    files = details_files(path)
    dated = {(file.parent, _date(file)) for file in files}
    if len(dated) != 1:
        listed = ", ".join(sorted(str(folder) for folder, _ in dated)) or "none"
        raise UsageError(f"{path}: expected one lighteval run, found {listed}: name one folder")
    results_file = _results_file(files[0])
    results = read_object(results_file)
    records: list[ItemRecord] = []
    shared: dict[str, dict[str, Any]] = {"run": _run_settings(results)}
    for file in files:
        task = file.stem.removeprefix("details_").removesuffix(f"_{_date(file)}")
        config = _entry(results.get("config_tasks"), task, results_file)
        records += _task_records(file, task, config, choices)
        hashes = _entry(results.get("summary_tasks"), task, results_file).get("hashes", {})
        shared[task] = {key: config.get(key) for key in TASK_SETTINGS} | dict(hashes)
        shared[task].pop("hash_cont_tokens", None)  # what the model wrote
    general = results.get("config_general") or {}
    model, limit = general.get("model_config") or {}, general.get("max_samples")
    return Adopted(
        harness=f"lighteval {general.get('lighteval_sha', 'unknown')}",
        model=str(general.get("model_name", "unknown")),
        path=results_file,
        records=records,
        settings=shared,
        remarks={key: model.get(key) for key in ("dtype", "batch_size", "max_length", "tokenizer")},
        notes=[] if limit is None else [first_items(limit)],
        files={file.name: sha256_file(file) for file in [results_file, *files]},
        part=first_items(limit),
    )


def _date(file: Path) -> str:
    found = DATE.search(file.stem)
    assert found is not None, file
    return found[1]


def _results_file(details: Path) -> Path:
    """The results JSON of the same date, in `results/` beside the `details/` folder."""
    name = f"results_{_date(details)}.json"
    for folder in details.parents:
        if folder.name == "details":
            found = sorted((folder.parent / "results").rglob(name))
            if len(found) == 1:
                return found[0]
            break
    raise IntegrityError(f"{details}: {name} is not in the results folder beside `details`")


def _entry(table: Any, task: str, file: Path) -> dict[str, Any]:
    """A task's entry; older releases leave the number of shots out of the key."""
    for key in (task, task.rpartition("|")[0]):
        if isinstance(table, dict) and isinstance(table.get(key), dict):
            return dict(table[key])
    raise IntegrityError(f"{file}: nothing about task {task!r}")


def _run_settings(results: dict[str, Any]) -> dict[str, Any]:
    general = results.get("config_general") or {}
    model = general.get("model_config") or {}
    shared = {key: model.get(key) for key in MODEL_SETTINGS}
    return shared | {key: general.get(key) for key in ("max_samples", "num_fewshot_seeds")}


def _task_records(
    file: Path, task: str, config: dict[str, Any], choices: Choices
) -> list[ItemRecord]:
    rows = _rows(file)
    expected = config.get("effective_num_docs", -1)
    if not rows or (expected != -1 and len(rows) != expected):
        raise IntegrityError(f"{file}: {len(rows)} rows, expected {expected}")
    listed = [name for name, value in rows[0]["metric"].items() if value is not None]
    entries = [entry for entry in config.get("metrics") or [] if isinstance(entry, dict)]
    higher = {entry.get("metric_name", ""): entry.get("higher_is_better") for entry in entries}
    made = reading(task, listed, higher, choices, str(file))
    named = ((row, f"{file}: row {number}") for number, row in enumerate(rows))
    return number_repeats(_record(row, where, made) for row, where in named)


def _rows(file: Path) -> list[dict[str, Any]]:
    """The rows as plain objects with the three columns under their short names."""
    try:
        opened = parquet.ParquetFile(file)
        groups = [opened.metadata.row_group(i) for i in range(opened.metadata.num_row_groups)]
        if sum(group.total_byte_size for group in groups) > LARGEST_FILE:
            raise IntegrityError(f"{file}: larger than {LARGEST_FILE >> 30} GiB")
        rows: list[dict[str, Any]] = opened.read().to_pylist()
    except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
        raise IntegrityError(f"{file}: not a readable Parquet file: {error}") from error
    short = [{key.strip("_"): value for key, value in row.items()} for row in rows]
    for row in short[:1]:
        if not all(isinstance(row.get(column), dict) for column in COLUMNS):
            raise IntegrityError(f"{file}: expected the columns {', '.join(COLUMNS)}")
    return short


def _record(row: dict[str, Any], where: str, made: Reading) -> ItemRecord:
    doc, answer = row["doc"], row["model_response"]
    gold = doc["gold_index"] if isinstance(doc["gold_index"], list) else [doc["gold_index"]]
    options = list(doc.get("choices") or [])
    content = {key: doc.get(key) for key in ("query", "choices", "gold_index", "instruction")}
    return item_record(
        made,
        where,
        item_id=str(doc.get("id") or where.rpartition(" ")[2]),
        value=row["metric"][made.metric],
        document=doc.get("specific") or {},
        doc_hash=digest(content),
        prompt_hash=digest(answer.get("input") or content),
        target_hash=digest([options[index] if index < len(options) else index for index in gold]),
        **_answer(answer, options, gold, made.metric),
    )


def _answer(
    answer: dict[str, Any], options: list[str], gold: list[int], metric: str
) -> dict[str, Any]:
    logprobs = [float(value) for value in answer.get("logprobs") or []]
    if len(options) > 1 and len(logprobs) == len(options):
        best = max(range(len(logprobs)), key=logprobs.__getitem__)
        return {
            "chance": min(1.0, len(gold) / len(options)) if metric.startswith("acc") else 0.0,
            "soft_score": soft_score(logprobs, gold),
            "response": options[best].strip(),
            "choice_logprobs": logprobs,
            "gold": gold[0],
        }
    text = next(iter(answer.get("text_post_processed") or answer.get("text") or []), None)
    right = [options[index] for index in gold if index < len(options)]
    valid = text is None or bool(text.strip())
    return {"chance": 0.0, "response": text, "valid": valid, "gold": right[0] if right else None}
