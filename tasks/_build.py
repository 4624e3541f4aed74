"""What every task's build.py shares: the question record, distractors without shortcuts, freezing.

Reads nothing. `freeze` writes items.jsonl next to a build.py; the same pools feed the corpus of the
embedded base (harness/models/embedded/fruitfly/build.py). Run a task's own build.py, not this file.

A choice must not be recognisable without its question, so distractors are drawn exchangeably with
the gold answer: facts take their distractors from a cycle in which every answer is offered equally
often, numbers from a ladder in which the gold answer is on each rung equally often.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any


@dataclass(frozen=True)
class Question:
    """One question with its answer, whatever form it is asked in."""

    query: str
    answer: str
    distractors: tuple[str, ...]
    family: str
    """The kind of question within its task; freezing and dosing go by it."""
    statements: tuple[str, ...] = ()
    """The same content as plain sentences; only the corpus uses them."""
    aliases: tuple[str, ...] = ()
    """Other answers a free-form task accepts."""
    unit: str = ""
    """What the question shares with others of its family (a country, a month); "" if nothing."""


def listed(text: str) -> list[str]:
    """The words of a text: long vocabularies stay readable as prose."""
    return text.split()


def prefix_free(texts: Iterable[str]) -> bool:
    """Whether no text is the beginning of another one.

    A choice that begins another one can never lose to it under summed log-likelihood.
    """
    return not any(
        one != other and other.startswith(one) for one, other in itertools.permutations(texts, 2)
    )


def ladder(rng: Random, gold: int, step: int, count: int = 4, low: int = 0) -> tuple[int, ...]:
    """`count - 1` distractors at distance `step`; gold's rank among all of them is uniform.

    Raises ValueError when the ladder could reach below `low` and so give the rank away, or could
    hold a number that begins another one (1 and 11).
    """
    if gold - step * (count - 1) < low:
        raise ValueError(f"a ladder of {count} steps of {step} from {gold} can fall below {low}")
    for rank in range(count):
        if not prefix_free(str(gold + step * (rung - rank)) for rung in range(count)):
            raise ValueError(f"a ladder of {count} steps of {step} from {gold} can hold a prefix")
    rank = rng.randrange(count)
    return tuple(gold + step * (rung - rank) for rung in range(count) if rung != rank)


def cycle(answers: Sequence[str], rng: Random, count: int = 4) -> dict[str, tuple[str, ...]]:
    """For each answer the `count - 1` that follow it on a shuffled circle: all offered equally.

    The circle is shuffled until no choice of an item begins another one. Raises ValueError when
    there are too few answers, or no such circle in 100,000 shuffles.
    """
    ring = sorted(set(answers))
    if len(ring) < count:
        raise ValueError(f"{len(ring)} answers cannot give {count} choices: {ring}")
    for _ in range(100_000):
        rng.shuffle(ring)
        runs = [[*ring, *ring][place : place + count] for place in range(len(ring))]
        if all(prefix_free(run) for run in runs):
            return {answer: tuple(wrong) for answer, *wrong in runs}
    raise ValueError(f"no order of the answers keeps prefixes apart: {ring}")


def among(rng: Random, answer: str, options: Sequence[str], count: int = 4) -> tuple[str, ...]:
    """`count - 1` of the other options at random; for answers that are all equally often right.

    Drawn again until no choice begins another one.
    """
    others = [option for option in options if option != answer]
    while not prefix_free([answer, *(wrong := rng.sample(others, count - 1))]):
        pass
    return tuple(wrong)


def continued(rng: Random, names: Sequence[str], shown: int, family: str) -> list[Question]:
    """What comes next: a run of `shown` names of a closed circle; no shown name is a distractor."""
    questions = []
    for place, start in enumerate(names):
        run = [names[(place + offset) % len(names)] for offset in range(shown)]
        gold = names[(place + shown) % len(names)]
        others = [name for name in names if name not in run]
        query = f"What comes next: {', '.join(run)}?"
        questions.append(Question(query, gold, among(rng, gold, others), family, unit=start))
    return questions


def normalised(text: str) -> str:
    """Lower case, letters and digits and signs only: two texts that read the same are equal."""
    return re.sub(r"[^\w+*/-]+", " ", text.lower()).strip()


def unique(questions: Iterable[Question]) -> list[Question]:
    """The questions in order, without those whose text occurred before."""
    seen: dict[str, Question] = {}
    for question in questions:
        key = normalised(question.query or question.answer)
        seen.setdefault(key, question)
    return list(seen.values())


def draw(questions: Sequence[Question], count: int, rng: Random) -> list[Question]:
    """At most `count` different questions in random order."""
    pool = unique(questions)
    rng.shuffle(pool)
    return pool[:count]


def item_id(name: str, question: Question) -> str:
    """Stable name of an item: the task and a digest of what is asked."""
    text = "\x1f".join((question.query, question.answer, *question.distractors))
    return f"{name}:{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def cluster(identity: str, question: Question) -> str:
    """What to resample by: the shared unit, or the item itself when it was drawn on its own."""
    return question.unit or identity


def choice_item(name: str, question: Question) -> dict[str, object]:
    """Item of a multiple-choice task; choices in the order of sha256(id|choice)."""
    identity = item_id(name, question)
    choices = sorted(
        {question.answer, *question.distractors},
        key=lambda choice: hashlib.sha256(f"{identity}|{choice}".encode()).hexdigest(),
    )
    if len(choices) != 1 + len(question.distractors):
        raise ValueError(f"{identity}: two choices are equal: {question}")
    gold = choices.index(question.answer)
    return {
        "id": identity,
        "query": question.query,
        "choices": choices,
        "gold": gold,
        "cluster": cluster(identity, question),
    }


def free_item(name: str, question: Question) -> dict[str, object]:
    """Item of a free-form task: the exact answer and its aliases."""
    identity = item_id(name, Question(question.query, question.answer, (), question.family))
    return {
        "id": identity,
        "query": question.query,
        "answer": question.answer,
        "aliases": list(question.aliases),
        "cluster": cluster(identity, question),
    }


def write_jsonl(path: Path, rows: Iterable[dict[str, object]]) -> None:
    """Rows sorted by id, one JSON object a line, UTF-8."""
    ordered = sorted(rows, key=lambda row: str(row["id"]))
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ordered)
    path.write_text(text, encoding="utf-8")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of facts, one JSON object a line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def freeze_choices(folder: Path, questions: Iterable[Question]) -> None:
    """Write items.jsonl of the multiple-choice task in `folder`."""
    write_jsonl(folder / "items.jsonl", [choice_item(folder.name, q) for q in questions])


def freeze_free(folder: Path, questions: Iterable[Question]) -> None:
    """Write items.jsonl of the free-form task in `folder`."""
    write_jsonl(folder / "items.jsonl", [free_item(folder.name, q) for q in questions])
