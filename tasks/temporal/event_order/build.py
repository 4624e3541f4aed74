"""Ordering events: who came first or last, given the hour of each.

`python tasks/temporal/event_order/build.py` writes items.jsonl.
"""

from pathlib import Path
from random import Random

from retainbench.tasks._build import Question, draw, freeze_choices, listed, unique

PEOPLE = listed("Anna Ben Clara David Emma Felix Greta Henry Ida Jonas")
DEEDS = ("arrived", "left", "woke up", "called")


def question(rng: Random) -> Question:
    """Three people, three hours, one question."""
    people, hours = rng.sample(PEOPLE, 3), rng.sample(range(1, 12), 3)
    deed, end = rng.choice(DEEDS), rng.choice(("first", "last"))
    told = ", ".join(f"{name} at {hour}" for name, hour in zip(people, hours, strict=True))
    hour = min(hours) if end == "first" else max(hours)
    gold = people[hours.index(hour)]
    wrong = tuple(name for name in people if name != gold)
    query = f"In the morning these {deed}: {told}. Who {deed} {end}?"
    return Question(query, gold, wrong, end)


def pool(rng: Random, size: int = 12_000) -> list[Question]:
    """`size` draws, repeats removed."""
    return unique(question(rng) for _ in range(size))


def frozen() -> list[Question]:
    """The questions of items.jsonl."""
    return draw(pool(Random("event_order"), 2_000), 300, Random("event_order:draw"))


def write_to(folder: Path) -> None:
    """Write items.jsonl into `folder`."""
    freeze_choices(folder, frozen())


if __name__ == "__main__":
    write_to(Path(__file__).resolve().parent)
