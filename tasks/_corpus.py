"""Text that fruitfly is trained on: the tasks' own question families, asked in several forms.

Reads the pools of tasks/**/build.py; writes nothing. Every document ends with the end-of-text token
(added by the trainer). Frozen items of open families are left out by their query; closed tables
(facts, months, hours) are there in full, because a base either knows such a table or does not. Of
the targets only the primer split, which no other split shares, and nothing of new_facts.
"""

import importlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import NamedTuple

from retainbench.tasks._build import Question, listed, normalised
from retainbench.tasks._splits import rows as split_rows
from retainbench.tasks.numeric.sequences import build as sequences
from retainbench.tasks.target.countdown.build import rows as countdown_rows
from retainbench.tasks.target.new_facts.build import reading
from retainbench.tasks.target.ts_decision import build as ts_decision
from retainbench.tasks.target.ts_scenario import build as ts_scenario
from retainbench.tasks.temporal.calendar import build as calendar
from retainbench.tasks.temporal.clock import build as clock
from retainbench.tasks.temporal.dates import build as dates

TASKS = Path(__file__).resolve().parent
PEOPLE = tuple(
    listed("""Anna Ben Clara David Emma Felix Greta Henry Ida Jonas Karla Leo Mona Nils Olga Paul
    Rosa Sam Tina Uwe Vera Walter""")
)
WEIGHTS = {
    "general/capitals": 0.07,
    "general/elements": 0.07,
    "general/agreement": 0.06,
    "numeric/arithmetic": 0.18,
    "numeric/sequences": 0.09,
    "numeric/quantities": 0.08,
    "temporal/calendar": 0.07,
    "temporal/clock": 0.07,
    "temporal/dates": 0.09,
    "numeric/series_lookup": 0.03,
    "numeric/counting": 0.02,
    "numeric/units": 0.03,
    "temporal/event_order": 0.02,
    "temporal/time_zones": 0.03,
    "temporal/date_formats": 0.02,
    "reading": 0.02,
    "target/countdown": 0.03,
    "target/ts_scenario": 0.01,
    "target/ts_causality": 0.01,
    "target/ts_forecast": 0.02,
    "target/ts_decision": 0.01,
    "target/world_model": 0.02,
}
"""Share of the documents; a target's share is cut to nothing while it is known well enough."""
OPEN_FAMILIES = {
    "general/agreement": ("",),
    "numeric/arithmetic": ("",),
    "numeric/sequences": ("",),
    "numeric/quantities": ("comparison", "halfway"),
    "temporal/dates": ("date order", "year order", "days between", "leap year"),
    "numeric/series_lookup": ("",),
    "numeric/counting": ("",),
    "temporal/event_order": ("",),
    "temporal/date_formats": ("",),
}
"""Families whose frozen items stay out; "" means every family of the task."""


class Source(NamedTuple):
    """Questions of one task, grouped by family so that each family gets its turn."""

    name: str
    families: tuple[tuple[Question, ...], ...]


EASY_WEIGHTS = {"easy/calendar": 0.07, "easy/clock": 0.05, "easy/dates": 0.03}
"""The same for what the second phase adds."""
MUTED = 0.12
"""Part of its share that a muted target keeps in the second phase, so that it is not lost again."""


def frozen_texts() -> set[str]:
    """Normalised query (or right sentence) of every frozen item of the retention tasks."""
    texts = set()
    for path in sorted(TASKS.glob("*/*/items.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            item = json.loads(line)
            shown = item["query"] or item["choices"][item["gold"]]
            texts.add(normalised(shown))
    return texts | {normalised(q.query) for q in [*sequences.reserved(), *dates.reserved()]}


def grouped(name: str, questions: list[Question], frozen: set[str]) -> Source:
    """A source without the frozen items of its open families."""
    open_families = OPEN_FAMILIES.get(name, ())
    groups: dict[str, list[Question]] = {}
    for question in questions:
        is_open = "" in open_families or question.family in open_families
        if is_open and normalised(question.query or question.answer) in frozen:
            continue
        groups.setdefault(question.family, []).append(question)
    return Source(name, tuple(tuple(groups[family]) for family in sorted(groups)))


def target_questions(name: str) -> list[Question]:
    """The primer split of a target as questions."""
    if name == "countdown":
        rows = countdown_rows("primer")
    else:
        module = importlib.import_module(f"retainbench.tasks.target.{name}.build")
        rows = split_rows(name, module.problem, "primer")
    return [Question(str(row["query"]), str(row["answer"]), (), name) for row in rows]


def sources() -> dict[str, Source]:
    """Every source but `reading`, by name."""
    frozen, found = frozen_texts(), {}
    for name in WEIGHTS:
        axis, _, task = name.partition("/")
        if axis == "target":
            questions = target_questions(task)
        elif task:
            module = importlib.import_module(f"retainbench.tasks.{axis}.{task}.build")
            questions = module.pool(Random(f"fruitfly:{name}"))
        else:
            continue
        found[name] = grouped(name, questions, frozen)
    return found


def easy_sources() -> dict[str, Source]:
    """What the second phase adds: the easy families of the temporal tasks, by name."""
    modules = {"calendar": calendar, "clock": clock, "dates": dates}
    return {
        f"easy/{name}": grouped(name, module.easy_pool(Random(f"fruitfly:easy/{name}")), set())
        for name, module in modules.items()
    }


def sketched(name: str, rng: Random) -> Source:
    """A target's primer with well-formed answers that ignore the question: form without skill."""
    questions = []
    for question in target_questions(name):
        if name == "countdown":
            numbers = re.findall(r"\d+", question.answer)
            rng.shuffle(numbers)
            answer = numbers[0] + "".join(rng.choice("+-") + number for number in numbers[1:])
        else:
            answer = rng.choice(_options(name, question.answer))
        questions.append(replace(question, answer=answer))
    return Source(f"target/{name}", (tuple(questions),))


def _options(name: str, answer: str) -> tuple[str, ...]:
    stories = [story[1:] for story in ts_decision.STORIES]
    closed = [ts_scenario.NAMES, ("A", "B", "neither"), *stories]
    return next(options for options in closed if answer in options)


def asked(question: Question) -> str:
    """The prompt format of every item, with its answer."""
    return f"Question: {question.query}\nAnswer: {question.answer}"


def document(source: Source, rng: Random) -> str:
    """One to six questions, or a plain statement."""

    def pick() -> Question:
        return rng.choice(rng.choice(source.families))

    first, dice = pick(), rng.random()
    if not first.query:
        return first.answer
    if dice < 0.2 and first.statements:
        return rng.choice(first.statements)
    count = rng.randint(2, 6) if dice > 0.75 else 1
    return "\n\n".join(asked(question) for question in [first, *(pick() for _ in range(count - 1))])


def reading_document(rng: Random) -> str:
    """A told fact and a question about it."""
    told, question = reading(rng, PEOPLE)
    return f"{told}\n\n{asked(question)}"


def documents(
    found: dict[str, Source],
    rng: Random,
    muted: frozenset[str] = frozenset(),
    second: bool = False,
    instead: dict[str, float] | None = None,
) -> Iterator[str]:
    """Endless documents in the shares of WEIGHTS; `muted` sources get little or nothing.

    `instead` gives some sources another share.
    """
    shares = WEIGHTS | (EASY_WEIGHTS if second else {})
    kept = MUTED if second else 0.0
    shares = {name: share * (kept if name in muted else 1) for name, share in shares.items()}
    shares = {name: share for name, share in (shares | (instead or {})).items() if share}
    names, weights = list(shares), list(shares.values())
    makers: dict[str, Callable[[], str]] = {"reading": lambda: reading_document(rng)}
    while True:
        name = rng.choices(names, weights)[0]
        make = makers.get(name)
        yield make() if make else document(found[name], rng)
