"""Read what lm-eval wrote with `--log_samples` (results_*.json and samples_*.jsonl) as records.

Reads either the files of one run or the dictionary that `simple_evaluate` returns; both give the
same records. Counts are checked against `n-samples`, because lm-eval's tracker swallows write
errors and appends to existing files. Nothing here imports lm_eval.

Command: `retainbench compare --base-results DIR --candidate-results DIR`.
Leaves out tasks without a score per item in [0, 1] (perplexity, corpus BLEU): nothing pairs there.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from retainbench.harness.adoption.items import (
    DEFAULT_CHOICES,
    Adopted,
    Choices,
    Reading,
    choose,
    item_record,
    number_repeats,
    packaged,
    reading,
    soft_score,
)
from retainbench.harness.adoption.json_files import DATE, read_lines, read_object, shorten
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.records import ItemRecord
from retainbench.harness.core.storage import sha256_file
from retainbench.harness.core.verdicts import FULL
from retainbench.harness.tasks import catalogue

Rows = Iterable[tuple[str, dict[str, Any]]]
"""Sample rows with where each one stands."""

REQUIRED = (
    "doc_id", "target", "arguments", "resps", "filtered_resps", "metrics",
    "doc_hash", "prompt_hash", "target_hash",
)  # fmt: skip
LIMITED = "the items that --limit left"
ACCURACIES = ("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match")
"""Metrics of multiple choice for which a guesser scores 1/k."""
INVALID = ("", "[invalid]")
"""What lm-eval's regex filters leave when they find no answer."""
RUN_SETTINGS = (
    "chat_template_sha",
    "chat_template",
    "system_instruction_sha",
    "system_instruction",
    "fewshot_as_multiturn",
    "tokenizer_eos_token",
    "tokenizer_bos_token",
    "eot_token_id",
)
CONFIG_SETTINGS = ("limit", "gen_kwargs", "fewshot_seed")
TASK_SETTINGS = (
    "output_type", "dataset_path", "dataset_name", "test_split", "doc_to_text", "doc_to_target",
    "doc_to_choice", "description", "target_delimiter", "fewshot_delimiter", "fewshot_config",
    "num_fewshot", "metric_list", "generation_kwargs", "filter_list", "repeats",
)  # fmt: skip
REMARKS = (
    "lm_eval_version",
    "transformers_version",
    "max_length",
    "tokenizer_pad_token",
)
"""May differ and is then shown. Training often sets a pad token, and padding is masked."""


def results_files(path: Path) -> list[Path]:
    """Results files of lm-eval under a folder, or the one that was named."""
    found = [path] if path.is_file() else sorted(path.rglob("results_*.json"))
    return [file for file in found if DATE.search(file.stem) and "n-samples" in read_object(file)]


def read(path: Path, choices: Choices = DEFAULT_CHOICES) -> Adopted:
    """Read one run: a folder that holds exactly one, or its results_*.json.

    Raises:
        UsageError: several runs, no samples, or a metric that cannot be compared.
        IntegrityError: rows missing or doubled, a broken file, a response cache in use.
    """
    files = results_files(path)
    if len(files) != 1:
        listed = ", ".join(str(file) for file in files[:5]) or "none"
        raise UsageError(f"{path}: expected one lm-eval run, found {listed}: name one results file")
    results = read_object(files[0])
    date = DATE.search(files[0].stem)
    assert date is not None, files[0]
    samples = {
        task: files[0].parent / f"samples_{task}_{date[1]}.jsonl" for task in results["n-samples"]
    }
    for task, file in samples.items():
        if not file.is_file():
            raise IntegrityError(
                f"{file}: missing, though {files[0].name} lists {task}; run lm_eval --log_samples"
            )
    rows = {task: read_lines(file) for task, file in samples.items()}
    digests = {file.name: sha256_file(file) for file in [files[0], *samples.values()]}
    return adopt(results, rows, choices, files[0], digests)


def adopt(
    results: dict[str, Any],
    rows: dict[str, Any],
    choices: Choices,
    path: Path,
    files: dict[str, str],
) -> Adopted:
    """Records of all tasks of one run, with the settings that the other run must share."""
    config = results.get("config") or {}
    if config.get("use_cache"):
        raise IntegrityError(
            f"{path}: made with use_cache, which is not keyed by weights; run without it"
        )
    records: list[ItemRecord] = []
    notes: list[str] = []
    for task in sorted(results["n-samples"]):
        counts = results["n-samples"][task]
        records += task_records(task, rows[task], results, choices, notes)
        if is_limited(counts):
            notes.append(f"{task}: the first {counts['effective']} of {counts['original']} items")
    name = results.get("model_name") or config.get("model_args") or "unknown"
    remarks = {key: results.get(key) for key in REMARKS}
    remarks |= {key: config.get(key) for key in ("model_dtype", "batch_size", "device")}
    return Adopted(
        harness=f"lm-eval {results.get('lm_eval_version', 'unknown')}",
        model=str(name),
        path=path,
        records=records,
        settings=settings(results),
        remarks=remarks,
        notes=notes,
        files=files,
        part=FULL if not any(map(is_limited, results["n-samples"].values())) else LIMITED,
    )


def settings(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What two runs must share: per task the prompt's making, for all the template and limit."""
    config = results.get("config") or {}
    shared: dict[str, dict[str, Any]] = {
        "run": {key: results.get(key) for key in RUN_SETTINGS}
        | {key: config.get(key) for key in CONFIG_SETTINGS}
    }
    for task, counts in results["n-samples"].items():
        made = results.get("configs", {}).get(task) or {}
        shared[task] = {key: _stable(made.get(key)) for key in TASK_SETTINGS} | {
            "version": results.get("versions", {}).get(task),
            "n-shot": results.get("n-shot", {}).get(task),
            "task hash": (results.get("task_hashes") or {}).get(task),
            "items": counts["effective"],
        }
    return shared


def _stable(value: Any) -> Any:
    """A setting without the memory address that Python prints for functions."""
    if isinstance(value, str) or callable(value):
        return re.sub(r" at 0x[0-9a-f]+", "", str(value))
    return value


def task_records(
    task: str, rows: Rows, results: dict[str, Any], choices: Choices, notes: list[str]
) -> list[ItemRecord]:
    """Records of one task and one filter; checks that every item is there once."""
    by_filter: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for where, row in rows:
        for key in REQUIRED:
            if row.get(key) is None:
                raise IntegrityError(f"{where}: {key} is missing")
        by_filter.setdefault(str(row.get("filter", "none")), []).append((where, row))
    _check_counts(task, by_filter, int(results["n-samples"][task]["effective"]))
    chosen = choose(choices.filters, task) or next(iter(by_filter))
    if chosen not in by_filter:
        raise UsageError(f"{task}: no filter {chosen!r}; choose one of {', '.join(by_filter)}")
    if len(by_filter) > 1:
        left = ", ".join(name for name in by_filter if name != chosen)
        notes.append(f"{task}: filter {chosen}; not judged: {left}")
    where, first = by_filter[chosen][0]
    higher = (results.get("higher_is_better") or {}).get(task) or {}
    made = reading(task, list(first.get("metrics") or []), higher, choices, where)
    kind = (results.get("configs", {}).get(task) or {}).get("output_type")
    answer = _choice if kind == "multiple_choice" else _free
    ordered = sorted(by_filter[chosen], key=lambda pair: int(pair[1]["doc_id"]))
    records = number_repeats(_record(row, where, made, answer) for where, row in ordered)
    return own_records(task, records, limited=is_limited(results["n-samples"][task]))


def is_limited(counts: dict[str, Any]) -> bool:
    """Whether a task's entry of `n-samples` says that items were left out."""
    return bool(counts["effective"] != counts["original"])


def own_records(task: str, records: list[ItemRecord], *, limited: bool) -> list[ItemRecord]:
    """Records of one of the package's own tasks under its short name, checked against its lock.

    Raises:
        IntegrityError: an item that is not in the lock, or was asked otherwise; or one is missing
            though the run had no limit.
    """
    info = packaged(task)
    if info is None:
        return records
    locked = {item.id: item for item in catalogue.lock(info).items}
    for record in records:
        item = locked.get(record.item_id)
        asked = (record.doc_hash, record.prompt_hash, record.target_hash)
        if item is None or (item.doc_hash, item.prompt_hash, item.target_hash) != asked:
            raise IntegrityError(
                f"{task}: item {record.item_id} is not what the installed task's lock says"
            )
    if not limited and len(records) != len(locked):
        raise IntegrityError(f"{task}: {len(records)} items, but its lock has {len(locked)}")
    return [record.model_copy(update={"task": info.name}) for record in records]


def _check_counts(task: str, by_filter: dict[str, Any], expected: int) -> None:
    if not by_filter:
        raise IntegrityError(f"{task}: no sample rows, expected {expected}")
    for name, rows in by_filter.items():
        seen: Counter[Any] = Counter(row.get("doc_id") for _, row in rows)
        double = [doc for doc, count in seen.items() if count > 1]
        if double:
            raise IntegrityError(f"{task}: item {double[0]} is there twice for filter {name!r}")
        if len(rows) != expected:
            raise IntegrityError(f"{task}: {len(rows)} rows for filter {name!r}, not {expected}")


def _record(
    row: dict[str, Any], where: str, made: Reading, answer: Callable[..., dict[str, Any]]
) -> ItemRecord:
    if row.get(made.metric) is None:
        raise IntegrityError(f"{where}: {made.metric} is missing")
    doc = row["doc"] if isinstance(row.get("doc"), dict) else {}
    return item_record(
        made,
        where,
        item_id=str(doc.get("id", row["doc_id"])),
        value=row[made.metric],
        document=doc,
        doc_hash=row["doc_hash"],
        prompt_hash=row["prompt_hash"],
        target_hash=row["target_hash"],
        filter=str(row.get("filter", "none")),
        **answer(row, made.metric, where),
    )


def _choice(row: dict[str, Any], metric: str, where: str) -> dict[str, Any]:
    """Fields of a multiple-choice item from its per-choice log-likelihoods."""
    texts = continuations(row["arguments"])
    logprobs = [_logprob(response, where) for response in row["filtered_resps"]]
    if "acc_mutual_info" in row["metrics"]:  # the second half asks the choices without the prompt
        texts, logprobs = texts[: len(texts) // 2], logprobs[: len(logprobs) // 2]
    if not logprobs or len(texts) != len(logprobs):
        raise IntegrityError(f"{where}: {len(texts)} choices but {len(logprobs)} log-likelihoods")
    gold = _gold(row["target"], texts)
    best = max(range(len(logprobs)), key=logprobs.__getitem__)
    guess = max(1, len(gold)) / len(logprobs) if metric in ACCURACIES else 0.0
    return {
        "chance": min(1.0, guess),
        "soft_score": soft_score(logprobs, gold),
        "response": texts[best].strip(),
        "choice_logprobs": logprobs,
        "gold": gold[0] if gold else str(row["target"]),
    }


def _free(row: dict[str, Any], metric: str, where: str) -> dict[str, Any]:
    """Fields of a free-form item: what was written, and whether an answer was found in it.

    A task may report `valid` itself, as the package's targets do.
    """
    extracted = row["filtered_resps"][0] if row["filtered_resps"] else ""
    if not isinstance(extracted, str):  # (log-likelihood, greedy) of a single continuation
        return {"chance": 0.0, "gold": str(row["target"])}
    return {
        "chance": 0.0,
        "response": str(row["resps"][0][0]),
        "valid": bool(row["valid"]) if "valid" in row else extracted.strip() not in INVALID,
        "gold": str(row["target"]),
    }


def continuations(arguments: Any) -> list[str]:
    """Texts of the choices: from a list of pairs, or from the nested objects on disk."""
    if isinstance(arguments, dict):
        ordered = sorted(arguments.items(), key=lambda pair: int(pair[0].rpartition("_")[2]))
        return [str(value["arg_1"]) for _, value in ordered]
    return [str(pair[1]) for pair in arguments]


def _logprob(response: Any, where: str) -> float:
    """The first of (log-likelihood, is greedy); on disk both are texts."""
    try:
        return float(response[0])
    except (TypeError, ValueError, IndexError) as error:
        raise IntegrityError(f"{where}: no log-likelihood in {shorten(response)}") from error


def _gold(target: Any, texts: list[str]) -> list[int]:
    """Indices of the right choices; a target may be an index, a list of them, or a text."""
    try:
        value = ast.literal_eval(target) if isinstance(target, str) else target
    except (ValueError, SyntaxError):
        value = target
    listed = value if isinstance(value, (list, tuple)) else [value]
    if all(isinstance(index, int) and 0 <= index < len(texts) for index in listed):
        return [int(index) for index in listed]
    return [index for index, text in enumerate(texts) if text.strip() == str(target).strip()]
