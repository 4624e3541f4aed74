"""Retention items that training data give away, found before training.

A retention item overlaps when its question and answer, lower-cased and without punctuation, are in
the training data word for word, or when at least half of its 8-word sequences do (8-grams are
the unit of arXiv:2204.02311, appendix C; its threshold is 70 %). Items shorter than eight words can
only overlap exactly: shorter sequences are phrases that any two texts share. What follows is the
policy's `contaminated`: exclude from every verdict, refuse to run, or report.

Training data are rows of texts: a target's query and answer, or all strings of a row of a user's
file (tasks/training_data.py). Sequences are sought in the row as a whole; a short item must be one
text, two neighbouring ones (question and answer) or the whole row. Rows stream past once; only what
the items ask for is kept, so that a file of any size needs little memory.

Torch-free. Called by `plan.gather`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.text.formatting import counted
from retainbench.harness.tasks import catalogue
from retainbench.harness.tasks.catalogue import Catalogue
from retainbench.harness.tasks.rendering.prompts import reference

WORD = re.compile(r"\w+")
WORDS = 8
SHARE = 0.5
BLOCK = 200_000
"""Words that are looked up at once."""
FACTOR = np.uint64(0x9E3779B97F4A7C15)
"""Odd, so that multiplication loses nothing; 2^64 over the golden ratio."""

FOLLOWS = {
    "exclude": "excluded from the verdict",
    "refuse": "refused, as the policy says `contaminated: refuse`",
    "report": "reported only",
}
"""By the values of a policy's `contaminated`."""

Overlap = dict[str, list[str]]
"""Retention task -> ids of the items that overlap."""
Key = tuple[str, str]
"""Task and item id."""
Words = tuple[str, ...]


def words(text: str) -> list[str]:
    """Lower-cased words and numbers.

    >>> words("What is 12 + 3?")
    ['what', 'is', '12', '3']
    """
    return WORD.findall(text.lower())


def _stream(text: str) -> Iterator[str]:
    """Words one by one: a text may be a whole book."""
    return map(re.Match.group, WORD.finditer(text.lower()))


def sequences(of: Sequence[str]) -> set[Words]:
    """All runs of `WORDS` neighbouring words."""
    return {tuple(of[start : start + WORDS]) for start in range(len(of) - WORDS + 1)}


class OverlapSearch:
    """Items that are sought in rows of training texts.

    Sequences are compared by a 64-bit hash of word numbers first, a block at a time in numpy, and
    word by word where the hash agrees, so a collision costs time and never adds an item.
    """

    def __init__(self, items: Mapping[Key, str]) -> None:
        self.items = {key: tuple(words(text)) for key, text in items.items()}
        self.short = {asked for asked in self.items.values() if len(asked) < WORDS}
        self.sought = {gram for asked in self.items.values() for gram in sequences(asked)}
        known = sorted({word for gram in self.sought for word in gram})
        self.numbers = {word: place for place, word in enumerate(known, start=1)}
        flat = [word for gram in self.sought for word in gram]
        self.hashes = np.unique(_hashes(self._numbered(flat))[::WORDS])
        self.seen_short: set[Words] = set()
        self.seen: set[Words] = set()

    def read(self, rows: Iterable[Sequence[str]]) -> int:
        """Look through rows of texts; returns how many there were."""
        block: list[str] = []
        count = 0
        for row in rows:
            count += 1
            self._read_short([list(itertools.islice(_stream(text), WORDS)) for text in row])
            stream = itertools.chain.from_iterable(map(_stream, row))
            while part := list(itertools.islice(stream, BLOCK)):
                block += part
                if len(block) > BLOCK:
                    self._read_block(block)
                    block = block[1 - WORDS :]
            block.append("")  # no word: a sequence never reaches into the next row
        self._read_block(block)
        return count

    def found(self, share: float = SHARE) -> list[Key]:
        """Keys of the items that the rows read so far contain, in their order."""
        return [key for key, asked in self.items.items() if self._overlaps(asked, share)]

    def _overlaps(self, asked: Words, share: float) -> bool:
        parts = sequences(asked)
        if not parts:
            return asked in self.seen_short
        return len(parts & self.seen) >= share * len(parts)

    def _read_short(self, texts: list[list[str]]) -> None:
        """The first words of each text of a row; as many as `WORDS` belong to no short item."""
        pairs = [first + second for first, second in itertools.pairwise(texts)]
        whole = [[word for text in texts for word in text]] if len(texts) > 2 else []
        for part in (*texts, *pairs, *whole):
            if len(part) < WORDS and (asked := tuple(part)) in self.short:
                self.seen_short.add(asked)

    def _read_block(self, block: list[str]) -> None:
        numbers = self._numbered(block)
        hashes = _hashes(numbers)
        unknown = np.cumsum(np.concatenate([[0], numbers == 0]))
        whole = np.flatnonzero(unknown[WORDS:] == unknown[: len(hashes)])
        places = np.searchsorted(self.hashes, hashes[whole])
        places[places == len(self.hashes)] = 0
        for start in whole[self.hashes[places] == hashes[whole]] if len(self.hashes) else []:
            gram = tuple(block[start : start + WORDS])
            if gram in self.sought:
                self.seen.add(gram)

    def _numbered(self, block: list[str]) -> NDArray[np.uint64]:
        numbers = map(self.numbers.get, block, itertools.repeat(0))
        return np.fromiter(numbers, dtype=np.uint64, count=len(block))


def _hashes(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A hash of each run of `WORDS` neighbours, modulo 2^64."""
    count = max(len(numbers) - WORDS + 1, 0)
    hashes = np.zeros(count, np.uint64)
    for place in range(WORDS):
        hashes = hashes * FACTOR + numbers[place : place + count]
    return hashes


def of_target(target: str, retention: Sequence[str], tasks: Catalogue) -> Overlap:
    """Items of each retention task that the target's training items give away; tasks without any
    are left out."""
    info = tasks.tasks[target]
    search = OverlapSearch(retention_items(retention, tasks))
    search.read(_texts(item) for item in catalogue.split(info, "train"))
    return by_task(search.found())


def retention_items(retention: Sequence[str], tasks: Catalogue) -> dict[Key, str]:
    """Question and answer of every item of some tasks."""
    known = tasks.tasks
    return {
        (name, item["id"]): " ".join(_texts(item))
        for name in retention
        for item in catalogue.items(known[name])
    }


def by_task(keys: Iterable[Key]) -> Overlap:
    """Ids by task.

    >>> by_task([("dates", "1"), ("clock", "1"), ("dates", "2")])
    {'dates': ['1', '2'], 'clock': ['1']}
    """
    found: Overlap = {}
    for task, name in keys:
        found.setdefault(task, []).append(name)
    return found


def union(overlaps: Iterable[Overlap]) -> dict[str, set[str]]:
    """Items that any of several training data give away."""
    found: dict[str, set[str]] = {}
    for overlap in overlaps:
        for task, ids in overlap.items():
            found.setdefault(task, set()).update(ids)
    return found


def line(source: str, overlap: Overlap, rule: str) -> str:
    """What was found in some training data and what follows, for people.

    >>> line("countdown", {"dates": ["1", "2"]}, "exclude")
    'countdown gives away 2 retention items (dates 2): excluded from the verdict'
    """
    if not overlap:
        return f"{source} gives away no retention item"
    where = ", ".join(f"{task} {len(ids)}" for task, ids in overlap.items())
    count = sum(len(ids) for ids in overlap.values())
    return f"{source} gives away {counted(count, 'retention item')} ({where}): {FOLLOWS[rule]}"


def refuse(lines: Iterable[str]) -> None:
    """Raise `IntegrityError` with what overlaps, under a policy that refuses it."""
    if found := [text for text in lines if text.endswith(FOLLOWS["refuse"])]:
        raise IntegrityError("; ".join(found))


def _texts(item: Mapping[str, Any]) -> tuple[str, str]:
    return item["query"], item["choices"][item["gold"]] if "choices" in item else reference(item)
