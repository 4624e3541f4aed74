"""Countdown, small: make a number out of three given ones with + and -.

`python tasks/target/countdown/build.py` writes train.jsonl, validation.jsonl and items.jsonl (the
test split). A problem is the set of its numbers and its target; splits share none.
"""

import itertools
from pathlib import Path
from random import Random

from retainbench.tasks._build import Question, item_id, write_jsonl

TOP = 25
"""Largest given number."""


def problem(numbers: tuple[int, ...], target: int, gold: str) -> Question:
    """The question for these numbers."""
    *head, last = (str(number) for number in numbers)
    query = f"Use {', '.join(head)} and {last} to make {target}."
    return Question(query, gold, (), "countdown")


def problems(rng: Random) -> list[tuple[Question, tuple[int, ...], int]]:
    """All problems with three different numbers up to TOP and a target in 1..60, shuffled."""
    found = []
    for trio in itertools.combinations(range(1, TOP + 1), 3):
        for signs in itertools.product((1, -1), repeat=2):
            for first in range(3):
                order = (trio[first], *(n for n in trio if n != trio[first]))
                target = order[0] + signs[0] * order[1] + signs[1] * order[2]
                gold = f"{order[0]}{'+' if signs[0] > 0 else '-'}{order[1]}"
                gold += f"{'+' if signs[1] > 0 else '-'}{order[2]}"
                if 1 <= target <= 60:
                    found.append((trio, target, gold))
    rng.shuffle(found)
    unique = {(trio, target): gold for trio, target, gold in found}
    made = []
    for (trio, target), gold in unique.items():
        shown = tuple(rng.sample(trio, 3))
        made.append((problem(shown, target, gold), shown, target))
    return made


def rows(split: str) -> list[dict[str, object]]:
    """Rows of a split: test 400, validation 200, train 4,000, primer (the base's corpus) 1,500."""
    made = problems(Random("countdown"))
    bounds = {"test": (0, 400), "validation": (400, 600), "train": (600, 4600)}
    start, end = {**bounds, "primer": (4600, len(made))}[split]
    return [
        {
            "id": item_id("countdown", question),
            "query": question.query,
            "answer": question.answer,
            "aliases": [],
            "cluster": "-".join(str(number) for number in sorted(numbers)),
            "numbers": list(numbers),
            "target": target,
        }
        for question, numbers, target in made[start:end]
    ]


def write_to(folder: Path) -> None:
    """Write the three splits into `folder`."""
    for split, name in (("train", "train"), ("validation", "validation"), ("test", "items")):
        write_jsonl(folder / f"{name}.jsonl", rows(split))


if __name__ == "__main__":
    write_to(Path(__file__).resolve().parent)
