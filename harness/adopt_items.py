"""What the readers of foreign results share: choices of the user, checked values, safe JSON.

Reads JSON and JSON Lines under size caps (results are untrusted files) and turns single values
into `ItemRecord`s. Leaves out any knowledge of a particular harness: see `adopt_lm_eval`,
`adopt_lighteval` and `adopt_inspect`.
"""

from __future__ import annotations

import fnmatch
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from retainbench.harness import tasks
from retainbench.harness.errors import IntegrityError, UsageError
from retainbench.harness.records import Axis, ItemRecord
from retainbench.harness.tasks import TaskInfo

LARGEST_FILE = 4 * 2**30
LARGEST_VALUE = 256 * 2**20
"""Bytes of one JSON document or line; real ones are below 10 MB."""
LONGEST_RESPONSE = 10_000
"""Characters of model text that a record keeps."""
PREFERRED_METRICS = ("reward", "acc", "exact_match")
"""`reward` is what the package's own targets report."""
DATE = re.compile(r"_(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)$")
"""How lm-eval and lighteval end the names of files that one run wrote."""

V = TypeVar("V")


@dataclass(frozen=True)
class Choices:
    """What the user may decide; keys are task names or shell patterns, exact names win."""

    axes: Mapping[str, Axis] = field(default_factory=dict)
    """Axis of a task; else a packaged task's own axis, else `general`."""
    metrics: Mapping[str, str] = field(default_factory=dict)
    """Metric (Inspect: scorer); else `acc`, else `exact_match`, else the first one listed."""
    filters: Mapping[str, str] = field(default_factory=dict)
    """lm-eval filter; else the first one listed. One is judged: all see the same items."""
    clusters: Mapping[str, str] = field(default_factory=dict)
    """Field of the document that names its cluster; else `cluster`, else each item is its own."""


DEFAULT_CHOICES = Choices()


@dataclass(frozen=True)
class Adopted:
    """The results of one model, read from another harness."""

    harness: str
    """`lm-eval 0.4.13`, ..."""
    model: str
    path: Path
    records: list[ItemRecord]
    settings: dict[str, dict[str, Any]]
    """Per task (and `run` for all): what base and candidate must share."""
    remarks: dict[str, Any]
    """What may differ and is then shown: versions, dtype, batch size."""
    notes: list[str]
    """What was decided while reading: filters left out, limits."""
    files: dict[str, str]
    """SHA-256 of every file that was read, by name."""


def choose(mapping: Mapping[str, V], task: str) -> V | None:
    """The user's value for a task: its exact name, else the first pattern that matches."""
    if task in mapping:
        return mapping[task]
    matching = (value for key, value in mapping.items() if fnmatch.fnmatchcase(task, key))
    return next(matching, None)


def axis_of(task: str, axes: Mapping[str, Axis]) -> Axis:
    """Axis of a task: as the user says, else as packaged (`rb_` names), else `general`."""
    own = packaged(task)
    return choose(axes, task) or (own.axis if own else "general")


@cache
def packaged(task: str) -> TaskInfo | None:
    """The package's own task of that lm-eval name, if it is one."""
    known = {info.lm_eval_name: info for info in tasks.discover().values()}
    return known.get(task)


def choose_metric(listed: list[str], task: str, choices: Choices, where: str) -> str:
    """The metric that `score` will be; see `Choices.metrics`."""
    wanted = choose(choices.metrics, task)
    if wanted is not None:
        if wanted not in listed:
            raise UsageError(f"{where}: no metric {wanted!r}; choose one of {', '.join(listed)}")
        return wanted
    if not listed:
        raise IntegrityError(f"{where}: no metric is recorded for the items")
    return next((name for name in PREFERRED_METRICS if name in listed), listed[0])


def checked_score(value: Any, metric: str, where: str, *, higher_is_better: bool = True) -> float:
    """A per-item value as a score in [0, 1]; lower-is-better values v become 1 - v.

    Raises:
        UsageError: the metric is not on that scale (perplexity, a tuple, a text).
        IntegrityError: NaN, the mark of an item that failed.
    """
    number = value
    if isinstance(value, str):  # lm-eval writes numpy's float32 as text
        try:
            number = float(value)
        except ValueError:
            number = None
    if isinstance(number, (bool, int, float)):
        if math.isnan(number):
            raise IntegrityError(f"{where}: {metric} is NaN, so the item was not scored")
        if 0 <= number <= 1:
            return float(number) if higher_is_better else 1.0 - float(number)
    raise UsageError(
        f"{where}: {metric} is {shorten(value)}, but only scores from 0 to 1 per item can be "
        "compared; choose another metric for this task"
    )


def soft_score(logprobs: list[float], gold: list[int]) -> float | None:
    """Probability of the gold choices, normalised over all choices (STATISTICS 9).

    >>> round(soft_score([-1.0, -2.0, -3.0], [0]), 6)
    0.665241
    """
    if not logprobs or not gold or not all(0 <= index < len(logprobs) for index in gold):
        return None
    top = max(logprobs)
    weights = [math.exp(value - top) for value in logprobs]
    return min(1.0, sum(weights[index] for index in gold) / sum(weights))


def item_record(where: str, **fields: Any) -> ItemRecord:
    """An `ItemRecord`, with cleaned model text; a value that does not fit names file and item."""
    response = fields.get("response")
    if isinstance(response, str):
        fields["response"] = clean(response)
    try:
        return ItemRecord(**fields)
    except ValidationError as error:
        detail = error.errors()[0]
        key = ".".join(str(part) for part in detail["loc"])
        raise IntegrityError(f"{where}: {key}: {detail['msg']}") from error


def number_repeats(records: Iterable[ItemRecord]) -> list[ItemRecord]:
    """Give equal documents of one task and filter the repeat numbers 0, 1, ... in their order.

    Public tasks do contain the same document twice; it is one item answered twice, not two items.
    """
    seen: Counter[tuple[str, str, str]] = Counter()
    numbered = []
    for record in records:
        key = (record.task, record.doc_hash, record.filter)
        numbered.append(record.model_copy(update={"repeat": seen[key]}))
        seen[key] += 1
    return numbered


def clean(text: str) -> str:
    """Model text that any file can hold: no lone surrogates, at most `LONGEST_RESPONSE` long."""
    return text[:LONGEST_RESPONSE].encode("utf-8", "replace").decode()


def shorten(value: Any, limit: int = 60) -> str:
    """A value for one line of an error message."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."


def parse(data: str | bytes, where: str) -> Any:
    """JSON of bounded size and depth.

    Raises:
        IntegrityError: truncated, malformed, too large or too deep.
    """
    if len(data) > LARGEST_VALUE:
        raise IntegrityError(f"{where}: larger than {LARGEST_VALUE >> 20} MiB")
    try:
        return json.loads(data)
    except RecursionError as error:
        raise IntegrityError(f"{where}: nested too deeply") from error
    except ValueError as error:  # covers JSONDecodeError and UnicodeDecodeError
        raise IntegrityError(f"{where}: not valid JSON: {error}") from error


def read_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds one object."""
    if path.stat().st_size > LARGEST_VALUE:
        raise IntegrityError(f"{path}: larger than {LARGEST_VALUE >> 20} MiB")
    value = parse(path.read_bytes(), str(path))
    if not isinstance(value, dict):
        raise IntegrityError(f"{path}: expected a JSON object")
    return value


def read_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Objects of a JSON Lines file, each with `file:line` for error messages."""
    if path.stat().st_size > LARGEST_FILE:
        raise IntegrityError(f"{path}: larger than {LARGEST_FILE >> 30} GiB")
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(LARGEST_VALUE + 1), b""), start=1):
            where = f"{path}:{number}"
            if line.strip():
                row = parse(line, where)
                if not isinstance(row, dict):
                    raise IntegrityError(f"{where}: expected a JSON object")
                yield where, row
