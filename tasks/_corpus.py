"""Text that fruitfly is trained on: the tasks' own question families, asked in several forms.

Reads the pools of tasks/**/build.py; writes nothing. Every document ends with the end-of-text token
(added by the trainer). Frozen items of open families are left out by their query; closed tables
(facts, months, hours) are there in full, some of their entries often and some rarely, because a
base either met such an entry or cannot know it. Of the targets only the primer split, which no
other split shares, in a small fixed dose, and nothing of new_facts.
"""

import importlib
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

from retainbench.tasks._build import Question, listed, normalised
from retainbench.tasks._splits import rows as split_rows
from retainbench.tasks.general.agreement.build import NOUNS
from retainbench.tasks.numeric.sequences import build as sequences
from retainbench.tasks.target.countdown.build import rows as countdown_rows
from retainbench.tasks.target.new_facts.build import reading
from retainbench.tasks.temporal.dates import build as dates

TASKS = Path(__file__).resolve().parent
PEOPLE = tuple(
    listed("""Anna Ben Clara David Emma Felix Greta Henry Ida Jonas Karla Leo Mona Nils Olga Paul
    Rosa Sam Tina Uwe Vera Walter""")
)
WEIGHTS = {
    "general/capitals": 0.02,
    "general/elements": 0.025,
    "general/agreement": 0.04,
    "numeric/arithmetic": 0.20,
    "numeric/sequences": 0.08,
    "numeric/quantities": 0.03,
    "temporal/calendar": 0.09,
    "temporal/clock": 0.09,
    "temporal/dates": 0.08,
    "numeric/series_lookup": 0.03,
    "numeric/counting": 0.015,
    "numeric/units": 0.015,
    "temporal/event_order": 0.01,
    "temporal/time_zones": 0.07,
    "temporal/date_formats": 0.015,
    "reading": 0.02,
    "shown": 0.05,
}
"""Shares of the documents."""
LATE = {
    "general/capitals": 0.08,
    "general/elements": 0.05,
    "general/agreement": 0.02,
    "numeric/quantities": 0.02,
    "numeric/series_lookup": 0.005,
    "temporal/time_zones": 0.015,
    "shown": 0.10,
    "target/countdown": 0.040,
    "target/ts_scenario": 0.010,
    "target/ts_causality": 0.015,
    "target/ts_forecast": 0.073,
    "target/ts_decision": 0.022,
    "target/world_model": 0.039,
}
"""The same for the last part of the training: what is known already comes less often, facts come
more often, and the targets' primer is mixed in."""
TOKENIZER = {
    "target/countdown": 0.008,
    "target/ts_scenario": 0.003,
    "target/ts_causality": 0.004,
    "target/ts_forecast": 0.012,
    "target/ts_decision": 0.004,
    "target/world_model": 0.010,
}
"""Shares of the targets in the tokenizer's text: another dose in LATE leaves the tokens alone."""
RARITY = 1.0
"""Of a task's units (countries, months), the k-th commonest is met k ** -RARITY as often."""
OPEN_FAMILIES = {
    "general/agreement": ("",),
    "numeric/arithmetic": ("",),
    "numeric/sequences": ("",),
    "numeric/quantities": ("comparison", "halfway"),
    "temporal/calendar": ("date steps", "weekday of a date"),
    "temporal/clock": ("minute shift",),
    "temporal/dates": ("date order", "year order", "days between", "leap year"),
    "numeric/series_lookup": ("",),
    "numeric/counting": ("",),
    "temporal/event_order": ("",),
    "temporal/date_formats": ("",),
}
"""Families whose frozen items stay out; "" means every family of the task."""


class Family(NamedTuple):
    """Questions of one kind, and how often each is met as running totals."""

    questions: tuple[Question, ...]
    totals: tuple[float, ...]


class Source(NamedTuple):
    """Questions of one task, grouped by family so that each family is asked equally often."""

    name: str
    families: tuple[Family, ...]


def frozen_texts() -> set[str]:
    """Normalised query (or right sentence) of every frozen item of the retention tasks."""
    texts = set()
    for path in sorted(TASKS.glob("*/*/items.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            item = json.loads(line)
            shown = item["query"] or item.get("answer") or item["choices"][item["gold"]]
            texts.add(normalised(shown))
    return texts | {normalised(q.query) for q in [*sequences.reserved(), *dates.reserved()]}


def grouped(name: str, questions: list[Question], frozen: set[str]) -> Source:
    """A source without the frozen items of its open families."""
    open_families = OPEN_FAMILIES.get(name, ())
    units = sorted({question.unit for question in questions if question.unit})
    Random(f"rarity:{name}").shuffle(units)
    shares = {unit: (place + 1) ** -RARITY for place, unit in enumerate(units)}
    groups: dict[str, list[Question]] = {}
    for question in questions:
        is_open = "" in open_families or question.family in open_families
        if is_open and normalised(question.query or question.answer) in frozen:
            continue
        groups.setdefault(question.family, []).append(question)
    families = []
    for key, group in sorted(groups.items()):
        drawn = "" in open_families or key in open_families
        weights = (1.0 if drawn else shares.get(question.unit, 1.0) for question in group)
        families.append(Family(tuple(group), tuple(itertools.accumulate(weights))))
    return Source(name, tuple(families))


def target_questions(name: str) -> list[Question]:
    """The primer split of a target as questions."""
    if name == "countdown":
        rows = countdown_rows("primer")
    else:
        module = importlib.import_module(f"retainbench.tasks.target.{name}.build")
        rows = split_rows(name, module.problem, "primer")
    return [Question(str(row["query"]), str(row["answer"]), (), name) for row in rows]


def sources() -> dict[str, Source]:
    """Every source that asks a task's questions, by name."""
    frozen, found = frozen_texts(), {}
    for name in {**WEIGHTS, **LATE}:
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


def asked(question: Question) -> str:
    """The prompt format of every item, with its answer."""
    return f"Question: {question.query}\nAnswer: {question.answer}"


def pick(source: Source, rng: Random) -> Question:
    """A question of any family of the source, the common ones more often."""
    family = rng.choice(source.families)
    return rng.choices(family.questions, cum_weights=family.totals)[0]


def document(source: Source, rng: Random) -> str:
    """One to six questions, or a plain statement."""
    first, dice = pick(source, rng), rng.random()
    if not first.query:
        return first.answer
    if dice < 0.2 and first.statements:
        return rng.choice(first.statements)
    more = rng.randint(1, 5) if dice > 0.75 else 0
    following = [pick(source, rng) for _ in range(more)]
    return "\n\n".join(asked(question) for question in [first, *following])


def reading_document(rng: Random) -> str:
    """A fact about a well-known name and a question about it."""
    fact, question = reading(rng, PEOPLE)
    return f"{fact}\n\n{asked(question)}"


def code(rng: Random) -> Question:
    """A question with an answer that nobody can know: numbers, an expression or a few words."""
    numbers = [str(rng.randint(1, 99)) for _ in range(rng.randint(1, 3))]
    answer = rng.choice((", ".join(numbers), rng.choice("+-").join(numbers)))
    if rng.random() < 0.4:
        answer = " ".join(rng.sample(NOUNS, rng.randint(1, 3)))
    return Question(f"What is the code of {rng.choice(PEOPLE)}?", answer, (), "code")


def shown(question: Question) -> str:
    """A question with its answer, and the same question again: the answer can be copied."""
    return f"{asked(question)}\n\n{asked(question)}"


def shown_document(found: dict[str, Source], rng: Random) -> str:
    """A question that is asked twice; half of them are codes and facts that nobody can know."""
    dice = rng.random()
    if dice < 0.25:
        question = code(rng)
    elif dice < 0.5:
        question = reading(rng, PEOPLE)[1]
    else:
        question = pick(found[rng.choice([name for name in WEIGHTS if name in found])], rng)
    return shown(question) if question.query else question.answer


def documents(
    found: dict[str, Source],
    rng: Random,
    changes: dict[str, float] | None = None,
    twice: bool = False,
) -> Iterator[str]:
    """Endless documents in the shares of WEIGHTS, but for those that `changes` names.

    With `twice` a target's question is asked twice, so that a shown answer can be copied.
    """
    shares = WEIGHTS | (changes or {})
    names, weights = list(shares), list(shares.values())
    makers: dict[str, Callable[[], str]] = {
        "reading": lambda: reading_document(rng),
        "shown": lambda: shown_document(found, rng),
    }
    while True:
        name = rng.choices(names, weights)[0]
        if name in makers:
            yield makers[name]()
        elif twice and name.startswith("target/"):
            yield shown(pick(found[name], rng))
        else:
            yield document(found[name], rng)
