"""Items that a candidate lost or gained against its base, for the flips explorer of HTML pages.

Reads item records and the texts of what was asked; returns plain data. Used by the report of a run
(`collect`) and by `report/page/explorer.py`. msgspec parses the records (a million in seconds), and
of a candidate only items that flipped are kept. An item is right at a score of one half or more, so
graded rewards have flips too; decode repeats after the first are not shown. Hundreds of cells would
have too many: at most `cap` flips are kept, the same number for every pair, task and direction, in
the order of the items; `total` counts all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from retainbench.harness.comparison.columns import Answers, line_blocks
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.files.storage import iterate_jsonl, require_intact
from retainbench.harness.core.paths import RunFolder, point_name
from retainbench.harness.core.records import DOCUMENT_METRIC, ItemRecord, ItemText
from retainbench.harness.core.scorecards import Scorecard
from retainbench.harness.core.text import escaping

CAP = 6_000
TEXT_LIMIT = 700  # characters of a prompt or an answer; a cut says so
RIGHT = 0.5  # score from which an answer counts as right

ItemKey = tuple[str, str]
"""Task and digest of the item's document."""
Asked = Callable[[str], Iterable[ItemText]]
"""Task -> what its items ask, as far as that is known."""


class AnsweredItem(msgspec.Struct, gc=False):
    """What flips need of a record, with the names of `ItemRecord`."""

    task: str
    item_id: str
    doc_hash: str
    score: float
    filter: str | None = None
    metric: str | None = None
    repeat: int | None = None
    soft_score: float | None = None
    response: str | None = None


class FlipPair(NamedTuple):
    """A base and a candidate whose answers are compared."""

    name: str
    """How the page names it."""
    base: Answers
    candidate: Answers
    recipe: str = ""
    target: str = ""
    """What the candidate was trained on; its own items come last."""


class ItemFlip(NamedTuple):
    """One item whose correctness changed between base and candidate."""

    pair: int
    """Index of the pair."""
    before: AnsweredItem | ItemRecord
    after: AnsweredItem | ItemRecord

    @property
    def key(self) -> ItemKey:
        """What was asked."""
        return self.after.task, self.after.doc_hash

    @property
    def lost(self) -> bool:
        """Whether the base was right."""
        return self.after.score < RIGHT


class FlipSheets(NamedTuple):
    """Flips of several pairs, capped."""

    pairs: list[FlipPair]
    shown: list[ItemFlip]
    total: int
    items: dict[ItemKey, ItemText]
    """What was asked, for the shown flips, as far as it is known."""
    unread: int = 0
    """Cells whose records are not in the folder (a published one holds scorecards only)."""


def collect(run: RunFolder, cards: Sequence[Scorecard], cap: int = CAP) -> FlipSheets:
    """All flips of a run's finished cells at their end points, capped evenly.

    Raises:
        IntegrityError: a record is malformed, a cell answered an item that the base did not, or the
            run does not hold an item's text.
    """
    pairs, unread = [], 0
    for card in cards:
        if not card.points:
            continue
        end = card.points[-1]
        base = run.base_point(card.base).records
        candidate = run.cell(card.cell).point(point_name(end.stage, end.fraction)).records
        if not (base.is_file() and candidate.is_file()):
            unread += 1
            continue
        name = f"{card.recipe} on {card.target}, seed {card.seed}"
        pairs.append(FlipPair(name, base, candidate, card.recipe, card.target))
    found = between(pairs, lambda task: iterate_jsonl(run.items(task), ItemText), cap)
    for flip in found.shown:
        if flip.key not in found.items:
            task, item = flip.after.task, flip.after.item_id
            raise IntegrityError(f"{run.items(task)} does not hold item {item}")
    return found._replace(unread=unread)


def between(pairs: Sequence[FlipPair], asked: Asked, cap: int = CAP) -> FlipSheets:
    """All flips of pairs, capped evenly.

    Raises:
        IntegrityError: a record is malformed, or the base has no answer to an item.
    """
    bases: dict[object, Mapping[tuple[str, ...], AnsweredItem | ItemRecord]] = {}
    found: list[ItemFlip] = []
    for number, pair in enumerate(pairs):
        origin = pair.base if isinstance(pair.base, Path) else id(pair.base)
        if origin not in bases:
            bases[origin] = {_key(answer): answer for answer in _answers(pair.base)}
        found.extend(_flips(number, bases[origin], pair))
    shown = evenly(found, cap)
    return FlipSheets(list(pairs), shown, len(found), _texts(asked, shown))


def evenly(flips: Sequence[ItemFlip], cap: int) -> list[ItemFlip]:
    """At most `cap` flips: the first k of every pair, task and direction, k as large as fits.

    >>> right, wrong = AnsweredItem("t", "1", "h", 1.0), AnsweredItem("t", "1", "h", 0.0)
    >>> many = [ItemFlip(pair, right, wrong) for pair in (0, 1) for _ in range(9)]
    >>> [flip.pair for flip in evenly(many, 7)]
    [0, 0, 0, 1, 1, 1]
    """
    if len(flips) <= cap:
        return list(flips)
    groups: dict[tuple[int, str, bool], int] = {}
    ranks = []
    for flip in flips:
        group = (flip.pair, flip.after.task, flip.lost)
        ranks.append(groups.get(group, 0))
        groups[group] = ranks[-1] + 1
    depth = 0
    while sum(min(size, depth + 1) for size in groups.values()) <= cap:
        depth += 1
    if depth == 0:  # more groups than places: the first flip of every n-th group
        first = [flip for flip, rank in zip(flips, ranks, strict=True) if rank == 0]
        return first[:: -(-len(first) // cap)]
    return [flip for flip, rank in zip(flips, ranks, strict=True) if rank < depth]


def payload(flips: FlipSheets) -> dict[str, Any]:
    """What the explorer's script reads; every text is cut and has no invisible characters."""
    # Pairs of one base share its answers, and an item is on the page once for all of them.
    asked = {id(flip.before): flip for flip in flips.shown}
    places = {answer: n for n, answer in enumerate(asked)}
    used = sorted({flip.pair for flip in flips.shown})
    named = {n: flips.pairs[n] for n in used}
    return {
        "pairs": {n: [pair.name, pair.recipe, pair.target] for n, pair in named.items()},
        "items": [_item(flip, flips.items.get(flip.key)) for flip in asked.values()],
        "flips": [
            [
                flip.pair,
                places[id(flip.before)],
                int(flip.lost),
                _clean(flip.after.response or ""),
                _short(flip.after.soft_score),
            ]
            for flip in flips.shown
        ],
    }


def _item(flip: ItemFlip, text: ItemText | None) -> dict[str, Any]:
    """One item with the base's answer; prompt and gold are None where they are not known."""
    return {
        "task": _clean(flip.after.task.removeprefix("rb_")),
        "id": _clean(flip.after.item_id),
        "prompt": text and _clean(text.prompt),
        "choices": [_clean(choice) for choice in (text and text.choices) or []],
        "gold": text and _clean(text.gold),
        "base": _clean(flip.before.response or ""),
        "soft": _short(flip.before.soft_score),
    }


def _short(share: float | None) -> float | None:
    return None if share is None else round(share, 3)


def _clean(text: str) -> str:
    return escaping.visible(escaping.shorten(text, TEXT_LIMIT))


def _flips(
    number: int, base: Mapping[tuple[str, ...], AnsweredItem | ItemRecord], pair: FlipPair
) -> Iterator[ItemFlip]:
    for after in _answers(pair.candidate):
        before = base.get(_key(after))
        if before is None:
            where = pair.candidate if isinstance(pair.candidate, Path) else pair.name
            raise IntegrityError(
                f"{where}: item {after.item_id} of {after.task} has no record of the base"
            )
        if (before.score < RIGHT) != (after.score < RIGHT):
            yield ItemFlip(number, before, after)


def _key(answer: AnsweredItem | ItemRecord) -> tuple[str, ...]:
    return answer.task, answer.doc_hash, answer.filter or "none"


def _answers(answers: Answers) -> Iterator[AnsweredItem | ItemRecord]:
    """First decodes only, and no documents, which are never right."""
    for answer in _read(answers) if isinstance(answers, Path) else answers:
        if not answer.repeat and answer.metric != DOCUMENT_METRIC:
            yield answer


def _read(path: Path) -> Iterator[AnsweredItem]:
    require_intact(path)
    decoder = msgspec.json.Decoder(AnsweredItem)
    try:
        for block in line_blocks(path):
            yield from decoder.decode_lines(block)
    except msgspec.DecodeError as error:
        raise IntegrityError(f"{path}: not valid records: {error}") from error


def _texts(asked: Asked, flips: Sequence[ItemFlip]) -> dict[ItemKey, ItemText]:
    wanted = {flip.key for flip in flips}
    return {
        (task, text.doc_hash): text
        for task in sorted({task for task, _ in wanted})
        for text in asked(task)
        if (task, text.doc_hash) in wanted
    }
