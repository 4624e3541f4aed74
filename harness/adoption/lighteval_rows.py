"""Rows of lighteval's details (Parquet) -> records of one task.

The columns are `doc`, `model_response` and `metric` (0.13), or the same names between double
underscores (its documentation and other releases). A few rows are decoded at a time, and their
decoded size is counted, because a small file can unfold to gigabytes.

For generated answers lighteval does not say whether `choices` are options or accepted references:
they are references where all of them are right, else options with the chance of a guess.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from retainbench.harness.adoption.choices import AdoptionChoices
from retainbench.harness.adoption.guessing import ScoredOptions, right_options, soft_score
from retainbench.harness.adoption.items import (
    Reading,
    checked_score,
    clean,
    item_record,
    number_repeats,
    reading,
    with_constant_answer,
)
from retainbench.harness.adoption.json_files import (
    LARGEST_FILE,
    LARGEST_VALUE,
    Foreign,
    checked,
    fingerprint,
    most_unfolded,
)
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.files.foreign_json import regular_file
from retainbench.harness.core.records import ItemRecord, ItemText

MOST_ROWS_AT_ONCE = 256
MOST_ROWS = 2_000_000


class LightevalDocument(Foreign):
    """The item."""

    id: Any = None
    query: Any = None
    instruction: Any = None
    choices: list[Any] | None = None
    gold_index: int | list[int]
    specific: dict[str, Any] | None = None


class LightevalAnswer(Foreign):
    """What the model answered."""

    input: Any = None
    text: list[Any] | None = None
    text_post_processed: list[Any] | None = None
    logprobs: list[float] | None = None


class LightevalRow(Foreign):
    """One row of a details file."""

    doc: LightevalDocument
    model_response: LightevalAnswer
    metric: dict[str, Any]


def take(
    file: Path,
    task: str,
    expected: int | None,
    higher_is_better: Mapping[str, Any],
    choices: AdoptionChoices,
) -> tuple[list[ItemRecord], list[ItemText]]:
    """Records and texts of one task; checks that every item is there.

    Args:
        expected: number of items; None or -1 if the run does not say.

    Raises:
        UnscorableError: no metric in [0, 1], or the score of a guesser is unknown.
        IntegrityError: rows are missing or damaged.
    """
    made: Reading | None = None
    fields: list[tuple[str, dict[str, Any]]] = []
    options: list[ScoredOptions] = []
    texts: list[ItemText] = []
    for number, value in enumerate(_rows(file)):
        place = f"{file}: row {number}"
        row = checked(LightevalRow, value, place)
        if made is None:
            listed = [name for name, score in row.metric.items() if score is not None]
            made = reading(task, listed, higher_is_better, choices, str(file))
        if row.metric.get(made.metric) is None:
            raise IntegrityError(f"{place}: {made.metric} is missing")
        fields.append((place, _fields(row, number, made)))
        options += _options(row, place, made.metric)
        texts.append(_text(row, task, fields[-1][1]))
    if made is None or (expected not in (None, -1) and len(fields) != expected):
        raise IntegrityError(f"{file}: {len(fields)} rows, expected {expected}")
    if options and len(options) != len(fields):
        raise IntegrityError(f"{file}: mixes multiple choice and generated answers")
    if not options:
        free = [item_record(made, place, **values) for place, values in fields]
        return number_repeats(with_constant_answer(free, made)), texts
    rights = right_options(options, made.metric)
    records = []
    for (place, values), item, right in zip(fields, options, rights, strict=True):
        answer: dict[str, Any] = {
            "soft_score": soft_score(item.logprobs, right.gold),
            "choice_logprobs": item.logprobs,
            "gold": right.gold[0] if right.gold else None,
        }
        answer["chance"] = right.chance
        records.append(item_record(made, place, **values | answer))
    return number_repeats(records), texts


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    """The rows as plain objects with the three columns under their short names.

    Raises:
        IntegrityError: not Parquet, too large when decoded, or a column is missing.
    """
    regular_file(file, LARGEST_FILE)
    most, decoded = most_unfolded(file), 0
    try:
        with parquet.ParquetFile(file) as opened:
            groups = [opened.metadata.row_group(i) for i in range(opened.metadata.num_row_groups)]
            largest = max((group.total_byte_size for group in groups), default=0)
            if largest > most or opened.metadata.num_rows > MOST_ROWS:
                raise IntegrityError(f"{file}: more rows or bytes than a details file has")
            at_once = max(1, min(MOST_ROWS_AT_ONCE, LARGEST_VALUE // max(1, largest)))
            for batch in opened.iter_batches(batch_size=at_once, use_threads=False):
                decoded += batch.nbytes
                if decoded > most:
                    raise IntegrityError(f"{file}: unfolds to more than {most >> 20} MiB")
                for row in batch.to_pylist():
                    yield {key.strip("_"): value for key, value in row.items()}
    except (pa.ArrowException, OSError) as error:
        raise IntegrityError(f"{file}: not a readable Parquet file: {error}") from error


def _fields(row: LightevalRow, number: int, made: Reading) -> dict[str, Any]:
    """Fields of a record that do not depend on the other rows."""
    doc, answer = row.doc, row.model_response
    gold, choices = _gold(doc), doc.choices or []
    content = {
        "query": doc.query,
        "choices": doc.choices,
        "gold_index": doc.gold_index,
        "instruction": doc.instruction,
    }
    written = next(iter(answer.text_post_processed or answer.text or []), None)
    right = [choices[index] for index in gold if 0 <= index < len(choices)]
    return {
        "item_id": str(doc.id or number),
        "value": row.metric.get(made.metric),
        "document": doc.specific or {},
        "doc_hash": fingerprint(content),
        "prompt_hash": fingerprint(answer.input or content),
        "target_hash": fingerprint(right or gold),
        "response": _chosen(row) if written is None else str(written),
        "valid": written is None or bool(str(written).strip()),
        "gold": str(right[0]) if right else None,
        "chance": len(right) / len(choices) if 0 < len(right) < len(choices) else None,
    }


def _gold(doc: LightevalDocument) -> list[int]:
    return [doc.gold_index] if isinstance(doc.gold_index, int) else doc.gold_index


def _chosen(row: LightevalRow) -> str | None:
    """The most likely option, where options were scored."""
    choices, logprobs = row.doc.choices or [], row.model_response.logprobs or []
    if len(choices) != len(logprobs) or not logprobs:
        return None
    return str(choices[max(range(len(logprobs)), key=logprobs.__getitem__)]).strip()


def _options(row: LightevalRow, place: str, metric: str) -> list[ScoredOptions]:
    """The item's options if each was scored, else nothing."""
    texts = [str(choice) for choice in row.doc.choices or []]
    logprobs = row.model_response.logprobs or []
    if len(texts) < 2 or len(logprobs) != len(texts):
        return []
    if not all(map(math.isfinite, logprobs)):
        raise IntegrityError(f"{place}: a log-likelihood is not a finite number")
    gold = _gold(row.doc)
    accuracy = row.metric.get("acc")
    return [
        ScoredOptions(
            score=checked_score(row.metric.get(metric), metric, place),
            accuracy=None if accuracy is None else checked_score(accuracy, "acc", place),
            logprobs=logprobs,
            greedy=[False] * len(texts),
            lengths=[(len(text), len(text.encode("utf-8", "replace"))) for text in texts],
            by_text=[],
            by_index=gold if all(0 <= index < len(texts) for index in gold) else [],
            labels=[[int(place in gold) for place in range(len(texts))]],
            one_text=len(set(texts)) == 1,
        )
    ]


def _text(row: LightevalRow, task: str, fields: Mapping[str, Any]) -> ItemText:
    prompt = row.model_response.input or row.doc.query
    return ItemText(
        task=clean(task),
        item_id=clean(fields["item_id"]),
        doc_hash=fields["doc_hash"],
        prompt=clean(prompt if isinstance(prompt, str) else str(prompt)),
        choices=[clean(str(choice)) for choice in row.doc.choices or []] or None,
        gold=clean(str(fields["gold"])),
    )
