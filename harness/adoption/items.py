"""What the readers of foreign results share: choices of the user, and rows made into records.

Turns checked values into `ItemRecord`s; reads no files (`adoption/json_files.py`) and knows no
particular harness: see `adoption/lm_eval.py`, `adoption/lighteval.py` and `adoption/inspect_ai.py`.
"""

from __future__ import annotations

import fnmatch
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast, get_args

from pydantic import ValidationError

from retainbench.harness.adoption.json_files import shorten
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.records import Axis, ItemRecord
from retainbench.harness.core.verdicts import FULL
from retainbench.harness.tasks import catalogue
from retainbench.harness.tasks.catalogue import TaskInfo

LONGEST_RESPONSE = 10_000
"""Characters of model text that a record keeps."""
PREFERRED_METRICS = ("reward", "acc", "exact_match")
"""`reward` is what the package's own targets report."""

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


def choices(
    axis: Sequence[str] = (),
    metric: Sequence[str] = (),
    filter: Sequence[str] = (),
    cluster: Sequence[str] = (),
) -> Choices:
    """A user's choices from texts like `mmlu_*=general`.

    Raises:
        UsageError: not of that form, one task twice, or an axis that does not exist.

    >>> choices(axis=["gsm8k=numeric"]).axes
    {'gsm8k': 'numeric'}
    """
    axes = _values("--axis", "AXIS", axis)
    for task, name in axes.items():
        if name not in get_args(Axis):
            raise UsageError(f"--axis {task}={name}: choose one of {', '.join(get_args(Axis))}")
    return Choices(
        axes=cast("dict[str, Axis]", axes),
        metrics=_values("--metric", "NAME", metric),
        filters=_values("--filter", "NAME", filter),
        clusters=_values("--cluster", "FIELD", cluster),
    )


def _values(option: str, what: str, texts: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        task, _, value = text.partition("=")
        if not (task and value) or task in found:
            raise UsageError(
                f"{option} {text}: write TASK={what}, once per task (or pattern like mmlu*)"
            )
        found[task] = value
    return found


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
    part: str = FULL
    """Which items were scored, if a limit left some out; nothing passes then."""


def choose(mapping: Mapping[str, V], task: str) -> V | None:
    """The user's value for a task: its exact name, else the first pattern that matches."""
    if task in mapping:
        return mapping[task]
    return next((value for name, value in mapping.items() if applies(name, task)), None)


def applies(name: str, task: str) -> bool:
    """Whether a choice for `name` (a task or a shell pattern) is about a task."""
    return name == task or fnmatch.fnmatchcase(task, name)


def axis_of(task: str, axes: Mapping[str, Axis]) -> Axis:
    """Axis of a task: as the user says, else as packaged (`rb_` names), else `general`."""
    own = packaged(task)
    return choose(axes, task) or (own.axis if own else "general")


def packaged(task: str) -> TaskInfo | None:
    """The task of that lm-eval name, if it is the package's own or in a pack in use."""
    known = {info.lm_eval_name: info for info in catalogue.discover().values()}
    return known.get(task)


def _metric(listed: list[str], task: str, choices: Choices, where: str) -> str:
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


class Reading(NamedTuple):
    """How the rows of one task become records: what the user chose, else the defaults."""

    task: str
    axis: Axis
    metric: str
    higher: bool
    """Whether a higher value is better."""
    cluster: str | None
    """Field that the user clusters by."""


def reading(
    task: str,
    listed: list[str],
    higher_is_better: Mapping[str, Any],
    choices: Choices,
    where: str,
) -> Reading:
    """Decide metric, axis and cluster of a task.

    Args:
        listed: metrics that its rows hold.
        higher_is_better: by metric; what is not False there counts as true.
    """
    metric = _metric(listed, task, choices, where)
    return Reading(
        task=task,
        axis=axis_of(task, choices.axes),
        metric=metric,
        higher=higher_is_better.get(metric) is not False,
        cluster=choose(choices.clusters, task),
    )


def item_record(
    made: Reading, where: str, *, item_id: str, value: Any, document: Mapping[str, Any], **rest: Any
) -> ItemRecord:
    """One row as an `ItemRecord`, with cleaned model text.

    Args:
        value: what the row holds for the metric.
        document: fields that may name the item's cluster.

    Raises:
        UsageError: the score is not on the scale from 0 to 1, or the cluster's field is missing.
        IntegrityError: a value that does not fit; names file and item.
    """
    if made.cluster and made.cluster not in document:
        raise UsageError(f"{where}: there is no field {made.cluster!r} to cluster by")
    if isinstance(rest.get("response"), str):
        rest["response"] = clean(rest["response"])
    score = checked_score(value, made.metric, where, higher_is_better=made.higher)
    try:
        return ItemRecord(
            task=made.task,
            axis=made.axis,
            item_id=item_id,
            metric=made.metric if made.higher else f"1-{made.metric}",
            cluster=str(document.get(made.cluster or "cluster", item_id)),
            score=score,
            **rest,
        )
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
