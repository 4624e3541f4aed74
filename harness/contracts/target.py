"""What a target must keep: a pure reward in [0, 1], gold answers worth 1.0, splits apart.

Reads a target's folder and runs its reward. Command: `retainbench check FOLDER`.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from retainbench.harness.contracts.impure import elsewhere
from retainbench.harness.contracts.rules import Rule, all_of
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.tasks import catalogue
from retainbench.harness.tasks.catalogue import TaskInfo
from retainbench.harness.tasks.rendering.answers import Judge, judging
from retainbench.harness.tasks.rendering.prompts import reference
from retainbench.tasks._dataset import normalised

Row = dict[str, Any]
MOST = 300
"""Items of a split that are looked at."""
HOSTILE = (
    "",
    "\n",
    "(" * 50_000,
    "9" * 100_000,
    "9**9**9**9",
    "__import__('os').system('true')",
    "1/0",
    "\x00nan",
    "1e999, inf",
    "-" * 10_000 + "1",
)
MEANINGLESS = 0.1
"""Most that an empty or hostile answer may earn: a reward for form alone."""
CONSTANT = 0.12
"""Most that the best constant answer may earn beyond the target's stated chance: three standard
errors of a share of one half over 150 items."""
CEILING = 0.75
"""Most that the best constant answer may earn whatever chance is stated."""
ELSEWHERE = (
    (0.0, 0.0, 1),
    (0.0, 1.0, 2),
    (0.0, 13.37, 3),
    (0.0, 43_201.0, 4),
    (0.0, 4e7, 5),
    (-4e7, -4e7, 6),
)
"""Seconds by which the clock is wrong while reward.py is read, while it is called; random seed.

One second and half a day tell rewards apart that change every second or with the hour.
"""


def check(info: TaskInfo) -> Iterator[Rule]:
    """The rules of a target, one after another."""
    return all_of(
        [
            ("lock", lambda: lock(info)),
            ("splits disjoint", lambda: _disjoint(info)),
            ("rewards in [0, 1]", lambda: _in_range(info)),
            ("pure reward", lambda: _pure(info)),
            ("gold answers 1.0", lambda: _gold(info)),
            ("constant answers low", lambda: _constant(info)),
            ("empty and hostile answers low", lambda: _meaningless(info)),
            ("validity", lambda: _valid(info)),
        ]
    )


def lock(info: TaskInfo) -> str:
    try:
        catalogue.verify_lock(info)
    except IntegrityError as error:
        return f"{error}. After a change on purpose: retainbench check {info.folder} --freeze"
    return ""


def splits(info: TaskInfo) -> dict[str, list[Row]]:
    """Test, validation and training items."""
    return {
        "test": catalogue.items(info),
        "validation": catalogue.split(info, "validation"),
        "train": catalogue.split(info, "train"),
    }


def _disjoint(info: TaskInfo) -> str:
    seen: dict[str, tuple[str, str]] = {}
    for split, rows in splits(info).items():
        for row in rows:
            other, name = seen.setdefault(normalised(row["query"]), (split, row["id"]))
            if other != split:
                return f"item {row['id']} of {split} asks what item {name} of {other} asks"
    return ""


def _rows(info: TaskInfo) -> list[Row]:
    return [row for rows in splits(info).values() for row in rows[:MOST]]


def _responses(info: TaskInfo) -> Iterator[tuple[str, Row]]:
    """Responses with their items: right ones, those of another item, meaningless ones."""
    rows = _rows(info)
    for row, other in zip(rows, [*rows[1:], rows[0]], strict=True):
        yield f" {reference(row)}", row
        yield f" {reference(other)}", row
    yield from ((response, rows[0]) for response in HOSTILE)


def _reward(info: TaskInfo) -> Judge:
    """The reward of whole responses, as training and scoring call it."""
    return judging(catalogue.reward(info).reward, info.answer)


def _in_range(info: TaskInfo) -> str:
    reward = _reward(info)
    for response, row in _responses(info):
        value = reward(response, row)
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            return f"item {row['id']}: {response[:40]!r} earns {value!r}; return 0.0 to 1.0"
    return ""


def _pure(info: TaskInfo) -> str:
    pairs = [*_responses(info)]
    pairs = pairs[:100] + pairs[-len(HOSTILE) :]
    first: list[float] | None = None
    for read, called, seed in ELSEWHERE:
        with elsewhere(read, seed):
            reward = _reward(info)
        with elsewhere(called, seed):
            rows = [copy.deepcopy(row) for _, row in pairs]
            values = [reward(text, row) for (text, _), row in zip(pairs, rows, strict=True)]
        first = values if first is None else first
        for (response, row), kept, one, two in zip(pairs, rows, first, values, strict=True):
            if kept != row:
                return f"item {row['id']}: the reward changes the item; copy it first"
            if one != two:
                return (
                    f"item {row['id']}: {response[:40]!r} earns {one} and then {two} at another "
                    "time or with another random state; use response and item alone"
                )
    return ""


def _gold(info: TaskInfo) -> str:
    reward = _reward(info)
    for row in _rows(info):
        if (value := reward(f" {reference(row)}", row)) != 1.0:
            return f"item {row['id']}: its own answer {reference(row)[:40]!r} earns {value}"
    return ""


def best_constant(rows: list[Row], reward: Callable[[str, Row], float]) -> tuple[str, float]:
    """Which of the 20 commonest answers earns most when given to every item, and how much."""
    common = [answer for answer, _ in Counter(map(reference, rows)).most_common(20)]
    means = {a: sum(reward(a, row) for row in rows) / len(rows) for a in common}
    best = max(means, key=lambda answer: means[answer])
    return best, means[best]


def _constant(info: TaskInfo) -> str:
    rows, reward = catalogue.items(info)[:MOST], _reward(info)
    answer, earned = best_constant(rows, reward)
    form = min(MEANINGLESS, *(reward(answer, row) for row in rows))
    most = min((info.chance or 0.0) + CONSTANT, CEILING) + form
    if earned > most:
        return (
            f"{answer[:40]!r} given to every item earns {earned:.2f}, more than {most:.2f} "
            "(metadata.chance + .12, at most .75): nothing has to be learned for it. Balance the "
            "answers, or state the chance of a guesser"
        )
    return ""


def _meaningless(info: TaskInfo) -> str:
    reward, rows = _reward(info), _rows(info)
    different = list({row["answer"]: row for row in rows}.values())[:5]
    for response, asked in [("", [row]) for row in rows] + [(text, different) for text in HOSTILE]:
        # By luck a number in a hostile response is the answer of one item, not of all.
        value = min(reward(response, row) for row in asked)
        if value > MEANINGLESS:
            where = f"item {asked[0]['id']}: {response[:40]!r}"
            return f"{where} earns {value}; at most {MEANINGLESS}"
    return ""


def _valid(info: TaskInfo) -> str:
    valid = judging(catalogue.reward(info).valid, info.answer)
    for row in _rows(info):
        if valid(f" {reference(row)}", row) is not True:
            return f"item {row['id']}: its own answer {reference(row)[:40]!r} is not valid"
    row = _rows(info)[0]
    for response in HOSTILE:
        if not isinstance(valid(response, row), bool):
            return f"valid({response[:40]!r}) is not True or False"
    return ""
