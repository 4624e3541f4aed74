"""One sample of an Inspect log -> one record.

Inspect's letters become C = 1, P = 0.5, I = 0 and N = 0 with `valid` off. A sample that ended with
an error, or that its scorer could not score, is an integrity failure and never a zero. Chance is
1/k with k options, more where several of them are right.

Leaves out scores that are lists or mappings: there is no single score per item to pair.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from retainbench.harness.adoption.items import Reading, clean, item_record
from retainbench.harness.adoption.json_files import Foreign, checked, fingerprint, value_text
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.records import ItemRecord, ItemText

LETTERS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
INSTRUMENT = ("grader_failed", "scoring_failed")
"""Reasons that are about the scorer, not about the model."""


class InspectScore(Foreign):
    """What one scorer gave one sample."""

    value: Any = None
    reason: Any = None


class InspectOutput(Foreign):
    """What the model wrote at the end."""

    completion: str | None = None


class InspectSample(Foreign):
    """One sample in one epoch."""

    id: int | str
    epoch: int
    input: Any
    choices: list[Any] | None = None
    target: str | list[str]
    messages: list[dict[str, Any]] | None = None
    output: InspectOutput | None = None
    scores: dict[str, dict[str, Any] | None] | None = None
    metadata: dict[str, Any] | None = None
    error: Any = None
    invalidation: Any = None
    limit: Any = None


def sample_record(sample: InspectSample, file: Path, made: Reading) -> ItemRecord:
    place = f"{file}: sample {value_text(sample.id)} epoch {sample.epoch}"
    if sample.error or sample.invalidation:
        raise IntegrityError(f"{place} ended with an error or was invalidated")
    scored = (sample.scores or {}).get(made.metric)
    score = InspectScore() if scored is None else checked(InspectScore, scored, place)
    if scored is None or score.reason in INSTRUMENT:
        raise IntegrityError(f"{place} was not scored by {made.metric}")
    options, target = sample.choices or [], sample.target
    right = 1 if isinstance(target, str) or len(target) >= len(options) else max(1, len(target))
    return item_record(
        made,
        place,
        item_id=str(sample.id),
        value=_number(score.value),
        document=sample.metadata or {},
        doc_hash=fingerprint([_plain(sample.input), options, target]),
        prompt_hash=fingerprint(list(_prompt(sample))),
        target_hash=fingerprint(target),
        chance=right / len(options) if len(options) > 1 else None,
        valid=not (score.value == "N" or score.reason or sample.limit),
        response=sample.output.completion if sample.output else None,
        gold=target if isinstance(target, str) else " | ".join(target),
    )


def sample_text(sample: InspectSample, record: ItemRecord) -> ItemText:
    prompt = sample.input if isinstance(sample.input, str) else str(list(_prompt(sample)))
    return ItemText(
        task=record.task,
        item_id=record.item_id,
        doc_hash=record.doc_hash,
        prompt=clean(prompt),
        choices=[clean(str(option)) for option in sample.choices or []] or None,
        gold=str(record.gold),
    )


def _number(value: Any) -> Any:
    """Inspect's letters and words as numbers; anything else unchanged."""
    if isinstance(value, str):
        return LETTERS.get(value, WORDS.get(value.lower(), value))
    return value


def _prompt(sample: InspectSample) -> Iterator[Any]:
    """Messages before the model first answered, without their random ids."""
    if not sample.messages:
        yield _plain(sample.input)
    for message in sample.messages or []:
        if message.get("role") == "assistant":
            return
        yield [message.get("role"), _plain(message.get("content"))]


def _plain(value: Any) -> Any:
    """A value without the `id` keys that Inspect draws at random."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items() if key != "id"}
    return [_plain(part) for part in value] if isinstance(value, list) else value
