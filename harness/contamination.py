"""Retention items that the training data gives away, found before training.

A retention item overlaps a target when its question and answer, lower-cased and without
punctuation, stand in the training items word for word, or when at least half of its 8-word
sequences do (8-grams are the unit of arXiv:2204.02311, appendix C; its threshold is 70 %). Items
shorter than eight words can only overlap exactly: shorter sequences are phrases that any two texts
share. What follows is the policy's `contaminated`: exclude from every verdict, refuse to run, or
report.

Pure but for reading the frozen items; torch-free. Called by `plan.gather`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from retainbench.harness import tasks

WORDS = 8
SHARE = 0.5

Overlap = dict[str, list[str]]
"""Retention task -> ids of the items that overlap."""


def words(text: str) -> tuple[str, ...]:
    """Lower-cased words and numbers.

    >>> words("What is 12 + 3?")
    ('what', 'is', '12', '3')
    """
    return tuple(re.findall(r"\w+", text.lower()))


def sequences(of: Sequence[str]) -> set[tuple[str, ...]]:
    """All runs of `WORDS` neighbouring words."""
    return {tuple(of[start : start + WORDS]) for start in range(len(of) - WORDS + 1)}


def overlapping(
    training: Iterable[str], items: Mapping[str, str], share: float = SHARE
) -> list[str]:
    """Ids of the items whose text stands in the training texts, in the order of `items`.

    >>> overlapping(["The capital of France: Paris"], {"1": "the capital of France? Paris"})
    ['1']
    """
    whole: set[tuple[str, ...]] = set()
    grams: set[tuple[str, ...]] = set()
    for text in training:
        known = words(text)
        whole.add(known)
        grams |= sequences(known)
    found = []
    for name, text in items.items():
        asked = words(text)
        parts = sequences(asked)
        if asked in whole or (parts and len(parts & grams) >= share * len(parts)):
            found.append(name)
    return found


def of_target(target: str, retention: Sequence[str]) -> Overlap:
    """Items of each retention task that the target's training items give away; tasks without any
    are left out."""
    known = tasks.discover()
    training = [_text(item) for item in tasks.split(known[target], "train")]
    found = {
        name: overlapping(training, {item["id"]: _text(item) for item in tasks.items(known[name])})
        for name in retention
    }
    return {name: ids for name, ids in found.items() if ids}


def _text(item: Mapping[str, Any]) -> str:
    answer = item["choices"][item["gold"]] if "choices" in item else item["answer"]
    return f"{item['query']} {answer}"
