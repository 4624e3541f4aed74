"""Sample rows of lm-eval -> records of one task, with chance and gold from the rows themselves.

A row's kind follows from its requests and responses and not from the task's configuration: several
(context, continuation) pairs are multiple choice, one pair is a single continuation, a context with
generation settings is free form. Rows are reduced one by one, so that a large file needs little
memory. Rows of 0.4.5 and older have no `metrics` and `filter`: metrics are then the other keys.

Leaves out tasks without a score per item in [0, 1] (perplexity, corpus BLEU): nothing pairs there.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ConfigDict

from retainbench.harness.adoption.choices import AdoptionChoices, choose
from retainbench.harness.adoption.guessing import (
    RightAnswer,
    ScoredOptions,
    UnscorableError,
    listed_choice,
    right_options,
    soft_score,
    target_places,
)
from retainbench.harness.adoption.items import (
    Reading,
    checked_score,
    clean,
    item_record,
    number_repeats,
    reading,
    with_constant_answer,
)
from retainbench.harness.adoption.json_files import Foreign, checked, fingerprint, value_text
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.records import ItemRecord, ItemText

NumberedRows = Iterable[tuple[str, dict[str, Any]]]
"""Sample rows, each with its place for error messages."""
INVALID = ("", "[invalid]")
"""What lm-eval's regex filters leave when they find no answer."""
MOST_OPTIONS = 10_000


class LmEvalRow(Foreign):
    """A sample row; what is not declared may be a metric."""

    model_config = ConfigDict(extra="allow")

    doc_id: int
    doc: Any = None
    target: Any
    arguments: dict[str, dict[str, Any]] | list[list[Any]]
    """On disk `{gen_args_0: {arg_0: ..., arg_1: ...}}`, in memory a list of pairs."""
    resps: list[Any]
    filtered_resps: list[Any]
    filter: str = "none"
    metrics: list[str] | None = None
    valid: bool | None = None
    """Written by the package's own targets."""
    doc_hash: str
    prompt_hash: str
    target_hash: str

    def values(self) -> dict[str, Any]:
        """What the row holds for each metric."""
        extra = self.model_extra or {}
        listed = [key for key in extra if _is_number(extra[key])]
        return {
            name: extra.get(name) for name in (listed if self.metrics is None else self.metrics)
        }


class PartialItem(NamedTuple):
    """What is kept of a row until all rows of its task are known."""

    place: str
    doc_id: int
    fields: dict[str, Any]
    """Of the record: hashes, answer, value."""
    options: ScoredOptions | None
    asked: str
    text: ItemText


class TaskRecords(NamedTuple):
    """The rows of one task as records."""

    records: list[ItemRecord]
    asked: dict[tuple[str, int], str]
    texts: list[ItemText]
    notes: list[str]


def take(
    task: str,
    rows: NumberedRows,
    expected: int,
    higher_is_better: Mapping[str, Any],
    choices: AdoptionChoices,
) -> TaskRecords:
    """Records of one task and one filter; checks that every item has exactly one row.

    Args:
        expected: items that the run says it scored.
        higher_is_better: by metric.

    Raises:
        UnscorableError: no metric in [0, 1], or the score of a guesser is unknown.
        UsageError: a choice of the user that the rows do not offer.
        IntegrityError: rows are missing, doubled or damaged.
    """
    seen: dict[str, Counter[int]] = {}
    chosen = choose(choices.filters, task)
    made: Reading | None = None
    items: list[PartialItem] = []
    unscorable: UnscorableError | None = None
    for place, value in rows:
        row = checked(LmEvalRow, value, place)
        seen.setdefault(row.filter, Counter())[row.doc_id] += 1
        chosen = chosen or row.filter
        if row.filter != chosen or unscorable:
            continue
        made = made or reading(task, list(row.values()), higher_is_better, choices, place)
        try:
            items.append(_item(row, place, made))
        except UnscorableError as error:
            unscorable = error
    _check_counts(task, seen, expected)
    if unscorable:
        raise unscorable
    if made is None or chosen not in seen:
        raise UsageError(f"{task}: no filter {chosen!r}; choose one of {', '.join(seen)}")
    items.sort(key=lambda item: item.doc_id)
    records = number_repeats(with_constant_answer(_records(items, made), made))
    others = ", ".join(name for name in seen if name != chosen)
    return TaskRecords(
        records,
        {(r.doc_hash, r.repeat): item.asked for r, item in zip(records, items, strict=True)},
        [_with_gold(item.text, r) for r, item in zip(records, items, strict=True)],
        [f"{task}: filter {chosen}; not judged: {others}"] if others else [],
    )


def _check_counts(task: str, seen: Mapping[str, Counter[int]], expected: int) -> None:
    if not seen:
        raise IntegrityError(f"{task}: no sample rows, expected {expected}")
    for name, counts in seen.items():
        doubled = [doc for doc, count in counts.items() if count > 1]
        if doubled:
            raise IntegrityError(f"{task}: duplicate item {doubled[0]} for filter {name!r}")
        if len(counts) != expected:
            raise IntegrityError(f"{task}: {len(counts)} rows for filter {name!r}, not {expected}")


def _item(row: LmEvalRow, place: str, made: Reading) -> PartialItem:
    """One row reduced to what its record needs."""
    values = row.values()
    if values.get(made.metric) is None:
        raise IntegrityError(f"{place}: {made.metric} is missing")
    requests = _requests(row.arguments, place)
    document = row.doc if isinstance(row.doc, dict) else {}
    keys = {made.cluster or "cluster"} & document.keys()
    fields = {
        "item_id": str(document.get("id", row.doc_id)),
        "value": values[made.metric],
        "document": {key: document[key] for key in keys},
        "doc_hash": row.doc_hash,
        "prompt_hash": row.prompt_hash,
        "target_hash": row.target_hash,
        "filter": row.filter,
    }
    options = _options(row, requests, made.metric, place) if _is_choice(row, requests) else None
    if options:
        texts = [str(request[1]).strip() for request in requests[: len(options.logprobs)]]
        best = max(range(len(texts)), key=options.logprobs.__getitem__)
        fields |= {"response": texts[best], "choice_logprobs": options.logprobs}
    else:
        texts = []
        fields |= _free(row)
        fields["chance"] = None if made.own else listed_choice(row.doc, row.target)
    text = ItemText(
        task=clean(made.task),
        item_id=clean(fields["item_id"]),
        doc_hash=clean(row.doc_hash),
        prompt=clean(str(requests[0][0])) if requests and requests[0] else "",
        choices=[clean(text) for text in texts] or None,
        gold=clean(str(row.target)),
    )
    return PartialItem(place, row.doc_id, fields, options, fingerprint(requests), text)


def _records(items: Sequence[PartialItem], made: Reading) -> list[ItemRecord]:
    """Records of one task; either all or none of its items offer options."""
    options = [item.options for item in items if item.options]
    if options and len(options) != len(items):
        raise IntegrityError(f"{items[0].place}: {made.task} mixes multiple choice and other items")
    rights = right_options(options, made.metric) if options else [None] * len(items)
    return [_record(item, right, made) for item, right in zip(items, rights, strict=True)]


def _record(item: PartialItem, right: RightAnswer | None, made: Reading) -> ItemRecord:
    if right is None or item.options is None:
        return item_record(made, item.place, **item.fields)
    return item_record(
        made,
        item.place,
        chance=right.chance,
        soft_score=soft_score(item.options.logprobs, right.gold),
        gold=right.gold[0] if right.gold else item.text.gold,
        **item.fields,
    )


def _with_gold(text: ItemText, record: ItemRecord) -> ItemText:
    """The text with the right choice in words, where the record names its place."""
    if text.choices is None or not isinstance(record.gold, int):
        return text
    return text.model_copy(update={"gold": text.choices[record.gold]})


def _is_choice(row: LmEvalRow, requests: list[list[Any]]) -> bool:
    """Several continuations were scored, as their texts and the pairs of responses show."""
    return len(requests) > 1 and all(
        len(request) > 1 and isinstance(request[1], str) for request in requests
    )


def _options(row: LmEvalRow, requests: list[list[Any]], metric: str, place: str) -> ScoredOptions:
    values = row.values()
    texts = [str(request[1]) for request in requests]
    pairs = [_pair(response, place) for response in row.filtered_resps]
    if "acc_mutual_info" in values:  # the second half asks the choices without the prompt
        texts, pairs = texts[: len(texts) // 2], pairs[: len(pairs) // 2]
    if not pairs or len(texts) != len(pairs):
        raise IntegrityError(f"{place}: {len(texts)} choices but {len(pairs)} log-likelihoods")
    if len(texts) > MOST_OPTIONS:
        raise IntegrityError(f"{place}: more than {MOST_OPTIONS} choices")
    by_text, by_index = target_places(row.target, texts)
    accuracy = values.get("acc")
    return ScoredOptions(
        score=checked_score(values[metric], metric, place),
        accuracy=None if accuracy is None else checked_score(accuracy, "acc", place),
        logprobs=[logprob for logprob, _ in pairs],
        greedy=[greedy for _, greedy in pairs],
        lengths=[(len(t.strip()), len(t.strip().encode("utf-8", "replace"))) for t in texts],
        by_text=by_text,
        by_index=by_index,
        labels=_labels(row.doc, len(texts)),
        one_text=len(set(texts)) == 1,
    )


def _labels(document: Any, options: int) -> list[list[int]]:
    """Every field of a document that holds 0 or 1 for each option, however deep it is."""
    if isinstance(document, Mapping):
        return [found for value in document.values() for found in _labels(value, options)]
    marks = isinstance(document, list) and len(document) == options
    if marks and all(isinstance(mark, int) and mark in (0, 1) for mark in document):
        return [[int(mark) for mark in document]]
    return []


def _free(row: LmEvalRow) -> dict[str, Any]:
    """Fields of an item without options: what was written, and whether it holds an answer."""
    written, extracted = _first_text(row.resps), _first_text(row.filtered_resps[:1])
    if extracted is None or written is None:  # (log-likelihood, greedy) of a single continuation
        return {"gold": str(row.target)}
    valid = extracted.strip() not in INVALID if row.valid is None else row.valid
    return {"response": written, "valid": valid, "gold": str(row.target)}


def _first_text(responses: Any) -> str | None:
    """The first response, under one level of list for each repeat and request."""
    for _ in range(3):
        if isinstance(responses, str) or not isinstance(responses, list) or not responses:
            break
        responses = responses[0]
    return responses if isinstance(responses, str) else None


def _requests(
    arguments: dict[str, dict[str, Any]] | list[list[Any]], place: str
) -> list[list[Any]]:
    """The arguments of every request in order, from either form."""
    if isinstance(arguments, list):
        return arguments
    try:
        return [_in_order(arguments[key]) for key in sorted(arguments, key=_number)]
    except ValueError as error:
        raise IntegrityError(f"{place}: arguments: {error}") from error


def _in_order(numbered: Mapping[str, Any]) -> list[Any]:
    return [numbered[key] for key in sorted(numbered, key=_number)]


def _number(key: str) -> int:
    """The number at the end of `gen_args_12`."""
    return int(key.rpartition("_")[2])


def _pair(response: Any, place: str) -> tuple[float, bool]:
    """(log-likelihood, is greedy); on disk both are texts."""
    try:
        logprob, greedy = float(response[0]), str(response[1]) in ("True", "true", "1")
    except (TypeError, ValueError, IndexError, KeyError, OverflowError) as error:
        raise IntegrityError(f"{place}: no log-likelihood in {value_text(response)}") from error
    if not math.isfinite(logprob):
        raise IntegrityError(f"{place}: a log-likelihood is {logprob}")
    return logprob, greedy


def _is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float))
