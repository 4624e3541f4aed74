"""What a guesser scores, and which option is right, from how an item's score was made.

A recorded score and the log-likelihoods of the options show together how the score was made: the
most likely option compared with the right one (accuracy, also normalised by length), or the
probability of all right options (truthfulqa_mc2). The right options and the chance of a guesser
follow from that; where no rule gives all scores of a task, its chance is unknown and the task is
not judged, because a guesser could pass. Pure.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.records import gold_probability

MASS_TOLERANCE = 1e-4
"""Harnesses add probabilities in float32; its error over 100 options stays below this."""
MOST_ANSWERS = 10
"""Different right answers of a task that still counts as a choice between few answers."""
ITEMS_PER_ANSWER = 10
NORMALISED = ("acc_norm", "acc_bytes", "acc_mutual_info")
"""Accuracies whose normalisation a row may not hold (tokens, a task's own delimiter)."""
OPTIONS_FIELD = re.compile("choice|option|ending", re.IGNORECASE)
INDICES = re.compile(r"\[?\d{1,6}(, \d{1,6})*\]?", re.ASCII)


class UnscorableError(UsageError):
    """A task without one comparable score per item; the other tasks of a run can be judged."""


class ScoredOptions(NamedTuple):
    """One item of multiple choice as it was scored."""

    score: float
    """What the row holds for the metric."""
    accuracy: float | None
    """What the row holds for plain accuracy, where it does."""
    logprobs: list[float]
    """In nats, one per option."""
    greedy: list[bool]
    """Whether an option is what the model would write."""
    lengths: list[tuple[int, int]]
    """Characters and bytes of each option."""
    by_text: list[int]
    """The place of the target's text among the options."""
    by_index: list[int]
    """The places that the target names if it is a number or a list of numbers."""
    labels: list[list[int]]
    """Fields of the document that hold 0 or 1 for each option."""
    one_text: bool
    """All options have one text, after several contexts (winogrande)."""


class RightAnswer(NamedTuple):
    """The right options of one item and the expected score of a guesser."""

    gold: list[int]
    """Empty where the row does not say."""
    chance: float


def right_options(items: Sequence[ScoredOptions], metric: str) -> list[RightAnswer]:
    """Right options and chance of every item of a task.

    Raises:
        UnscorableError: no known rule gives the recorded scores.
    """
    if any(item.score not in (0, 1) for item in items):
        return [_by_mass(item, metric) for item in items]
    for golds in ([i.by_text for i in items], [i.by_index for i in items]):
        if all(golds) and _explained(items, golds, metric):
            return [
                RightAnswer(gold, len(set(gold)) / len(item.logprobs))
                for item, gold in zip(items, golds, strict=True)
            ]
    if all(item.one_text for item in items):
        return _by_context(items)
    raise UnscorableError(
        f"{metric} does not follow from the log-likelihoods and targets of the rows, so the score "
        "of a guesser is unknown; choose another metric for this task"
    )


def _by_mass(item: ScoredOptions, metric: str) -> RightAnswer:
    """The score is the probability of all options that a field of the document labels as right."""
    for labels in item.labels:
        gold = [place for place, label in enumerate(labels) if label]
        if abs((soft_score(item.logprobs, gold) or 0.0) - item.score) <= MASS_TOLERANCE:
            return RightAnswer(gold, len(gold) / len(labels))
    raise UnscorableError(
        f"{metric} is {item.score:g}, but no field of the item says which options are right, so "
        "the score of a guesser is unknown; choose another metric for this task"
    )


def _by_context(items: Sequence[ScoredOptions]) -> list[RightAnswer]:
    """One option is right, and only the score says which; with two options it always does."""
    rights = []
    two = all(len(item.logprobs) == 2 for item in items)
    for item in items:
        best = _best(item.logprobs)
        gold = [best if item.score else 1 - best] if two else []
        rights.append(RightAnswer(gold, 1 / len(item.logprobs)))
    return rights


def _explained(items: Sequence[ScoredOptions], golds: Sequence[list[int]], metric: str) -> bool:
    """Whether one rule gives the recorded score of every item.

    A normalised accuracy is checked by the plain one next to it, which has the same right options.
    """
    if metric == "exact_match":
        pairs = zip(items, golds, strict=True)
        return all(item.greedy[gold[0]] == item.score for item, gold in pairs if len(gold) == 1)
    normalised = metric.startswith(NORMALISED)
    if normalised and any(item.accuracy is None for item in items):
        return True
    scores = [item.accuracy if normalised else item.score for item in items]
    return any(
        all(
            (_best(scale(item)) in gold) == score
            for item, gold, score in zip(items, golds, scores, strict=True)
        )
        for scale in SCALES
    )


def _per_character(item: ScoredOptions) -> list[float]:
    return [lp / max(1, size[0]) for lp, size in zip(item.logprobs, item.lengths, strict=True)]


def _per_byte(item: ScoredOptions) -> list[float]:
    return [lp / max(1, size[1]) for lp, size in zip(item.logprobs, item.lengths, strict=True)]


SCALES: tuple[Callable[[ScoredOptions], list[float]], ...] = (
    lambda item: item.logprobs,
    _per_character,
    _per_byte,
)


def _best(values: Sequence[float]) -> int:
    """The place of the first largest value, as numpy's argmax."""
    return max(range(len(values)), key=values.__getitem__)


def soft_score(logprobs: Sequence[float], gold: Sequence[int]) -> float | None:
    """Probability of the gold choices; None where the results do not say which they are."""
    if not logprobs or not gold or not all(0 <= index < len(logprobs) for index in gold):
        return None
    return gold_probability(logprobs, gold)


def target_places(target: Any, texts: Sequence[str]) -> tuple[list[int], list[int]]:
    """Places of the right options by the target's text, and by the numbers that it is made of.

    >>> target_places("3", ["3", "1", "2"])
    ([0], [])
    """
    wanted = str(target).strip()
    by_text = [place for place, text in enumerate(texts) if text.strip() == wanted][:1]
    if isinstance(target, bool) or wanted in ("True", "False"):
        numbers = [int(wanted == "True")]
    elif INDICES.fullmatch(wanted):
        numbers = [int(number) for number in wanted.strip("[]").split(", ")]
    else:
        numbers = []
    return by_text, numbers if all(number < len(texts) for number in numbers) else []


def listed_choice(document: Any, target: Any) -> float | None:
    """The chance of guessing a generated answer among the options that its document lists.

    >>> listed_choice({"choices": ["red", "blue"]}, "blue")
    0.5
    """
    fields = document.items() if isinstance(document, Mapping) else ()
    for name, value in fields:
        options = value.get("text") if isinstance(value, Mapping) else value
        if not OPTIONS_FIELD.search(str(name)) or not isinstance(options, list):
            continue
        if len(options) > 1 and str(target).strip() in [str(option).strip() for option in options]:
            return 1 / len(options)
    return None


def constant_answer(golds: Sequence[str | None]) -> float:
    """The score of always giving the commonest answer, where a task has only a few answers.

    Generated letters or yes and no are a choice; thousands of different numbers are not: 0 then.

    >>> constant_answer(["A", "B"] * 20)
    0.5
    """
    counts = Counter(golds)
    few = 2 <= len(counts) <= min(MOST_ANSWERS, len(golds) / ITEMS_PER_ANSWER)
    return max(counts.values()) / len(golds) if few and None not in counts else 0.0
