"""What the readers of foreign results share: rows made into records, and what one side holds.

Turns checked values into `ItemRecord`s; reads no files (`adoption/json_files.py`) and knows no
particular harness: see `adoption/lm_eval.py`, `adoption/lighteval.py` and `adoption/inspect_ai.py`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from retainbench.harness.adoption.choices import AdoptionChoices, choose
from retainbench.harness.adoption.guessing import UnscorableError, constant_answer
from retainbench.harness.adoption.json_files import value_text
from retainbench.harness.adoption.own_tasks import packaged
from retainbench.harness.adoption.settings import ComparedSettings
from retainbench.harness.core.axes import Axis
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.records import PREFERRED_METRICS, ItemRecord, ItemText
from retainbench.harness.core.verdicts import FULL

LONGEST_TEXT = 10_000
"""Characters of a prompt, an answer or an id that are kept."""


@dataclass(frozen=True)
class AdoptedTask:
    """One task of one model's results."""

    records: list[ItemRecord]
    settings: ComparedSettings
    asked: dict[tuple[str, int], str] = field(default_factory=dict)
    """(doc_hash, repeat) -> digest of everything that the model was sent for the item."""
    texts: list[ItemText] = field(default_factory=list)
    """Prompt and options of each item, so that lost and gained items can be shown."""
    notes: list[str] = field(default_factory=list)
    """What was decided while reading: filters left out, limits."""
    limited: str | None = None
    """Which items were scored, if a limit left some out."""


@dataclass(frozen=True)
class Adopted:
    """The results of one model, read from another harness."""

    harness: str
    """`lm-eval 0.4.13`, ..."""
    model: str
    path: Path
    tasks: dict[str, AdoptedTask]
    listed: list[str]
    """Every task that the results name, chosen or not."""
    unscored: dict[str, str]
    """Task -> why it has no score per item that could be compared."""
    settings: ComparedSettings
    """Of the whole run."""
    files: dict[str, str]
    """SHA-256 of every file that was read, by name."""
    notes: list[str] = field(default_factory=list)
    """About the run: logs of failed attempts that were not read."""

    @property
    def records(self) -> list[ItemRecord]:
        """Records of all tasks, in the order of their names."""
        return [record for name in sorted(self.tasks) for record in self.tasks[name].records]

    @property
    def part(self) -> str:
        """`full`, or which items a limit left in some task; nothing passes then."""
        return next((task.limited for task in self.tasks.values() if task.limited), FULL)


def scorable(
    names: Iterable[str], choices: AdoptionChoices, task: Callable[[str], AdoptedTask]
) -> tuple[dict[str, AdoptedTask], dict[str, str]]:
    """The tasks that can be compared, and why the others cannot.

    Args:
        task: reads the task of a name.

    Raises:
        UnscorableError: of a task whose metric the user names.
    """
    tasks: dict[str, AdoptedTask] = {}
    unscored: dict[str, str] = {}
    for name in names:
        try:
            tasks[name] = task(name)
        except UnscorableError as error:
            if choose(choices.metrics, name):
                raise
            unscored[name] = str(error)
    return tasks, unscored


class Reading(NamedTuple):
    """How the rows of one task become records: what the user chose, else the defaults."""

    task: str
    axis: Axis
    metric: str
    higher: bool
    """Whether a higher value is better."""
    cluster: str | None
    """Field that the user clusters by."""
    own: bool
    """Whether it is the package's own task, whose free-form items have chance 0."""


def reading(
    task: str,
    listed: list[str],
    higher_is_better: Mapping[str, Any],
    choices: AdoptionChoices,
    place: str,
) -> Reading:
    """Decide metric, axis and cluster of a task.

    Args:
        listed: metrics that its rows hold.
        higher_is_better: by metric; what is not False there counts as true.
    """
    own = packaged(task, choices.catalogue)
    metric = _metric(listed, task, choices, place)
    return Reading(
        task=task,
        axis=choose(choices.axes, task) or (own.axis if own else "general"),
        metric=metric,
        higher=higher_is_better.get(metric) is not False,
        cluster=choose(choices.clusters, task),
        own=own is not None,
    )


def _metric(listed: list[str], task: str, choices: AdoptionChoices, place: str) -> str:
    """The metric that `score` will be; see `AdoptionChoices.metrics`."""
    wanted = choose(choices.metrics, task)
    if wanted is not None:
        if wanted not in listed:
            raise UsageError(f"{place}: no metric {wanted!r}; choose one of {', '.join(listed)}")
        return wanted
    if not listed:
        raise IntegrityError(f"{place}: no metric is recorded for the items")
    return next((name for name in PREFERRED_METRICS if name in listed), listed[0])


def checked_score(value: Any, metric: str, place: str, *, higher_is_better: bool = True) -> float:
    """A per-item value as a score in [0, 1]; lower-is-better values v become 1 - v.

    Raises:
        UnscorableError: the metric is not on that scale (perplexity, a tuple, a text).
        IntegrityError: NaN, the mark of an item that failed.
    """
    number = value
    if isinstance(value, str):  # lm-eval writes numpy's float32 as text
        try:
            number = float(value)
        except ValueError:
            number = None
    if isinstance(number, (bool, int, float)):
        if isinstance(number, float) and math.isnan(number):
            raise IntegrityError(f"{place}: {metric} is NaN, so the item was not scored")
        if 0 <= number <= 1:
            return float(number) if higher_is_better else 1.0 - float(number)
    raise UnscorableError(
        f"{place}: {metric} is {value_text(value)}, but only scores from 0 to 1 per item can be "
        "compared; choose another metric for this task"
    )


def item_record(
    made: Reading,
    place: str,
    *,
    item_id: str,
    value: Any,
    document: Mapping[str, Any],
    chance: float | None,
    **rest: Any,
) -> ItemRecord:
    """One row as an `ItemRecord`, with cleaned model text.

    Args:
        value: what the row holds for the metric.
        document: fields that may name the item's cluster.
        chance: expected value of a guesser; None: not a choice between options.

    Raises:
        UnscorableError: the score is not on the scale from 0 to 1.
        UsageError: the cluster's field is missing.
        IntegrityError: a value that does not fit; names file and item.
    """
    if made.cluster and made.cluster not in document:
        raise UsageError(f"{place}: there is no field {made.cluster!r} to cluster by")
    texts = {key: clean(text) for key, text in rest.items() if isinstance(text, str)}
    score = checked_score(value, made.metric, place, higher_is_better=made.higher)
    guessed = 0.0 if chance is None else chance if made.higher else 1 - chance
    try:
        return ItemRecord(
            task=made.task,
            axis=made.axis,
            item_id=clean(item_id),
            metric=made.metric if made.higher else f"1-{made.metric}",
            cluster=clean(str(document.get(made.cluster or "cluster", item_id))),
            score=score,
            chance=guessed,
            **rest | texts,
        )
    except ValidationError as error:
        detail = error.errors(include_input=False, include_url=False)[0]
        key = ".".join(str(part) for part in detail["loc"])
        raise IntegrityError(f"{place}: {key}: {detail['msg']}") from error


def with_constant_answer(records: list[ItemRecord], made: Reading) -> list[ItemRecord]:
    """Records of one task; items without options get the chance of its commonest answer."""
    golds = [None if record.gold is None else str(record.gold) for record in records]
    least = 0.0 if made.own or not made.higher else constant_answer(golds)
    return [r if r.chance else r.model_copy(update={"chance": least}) for r in records]


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
    """Text that any file can hold: no lone surrogates, at most `LONGEST_TEXT` characters."""
    return text[:LONGEST_TEXT].encode("utf-8", "replace").decode()
