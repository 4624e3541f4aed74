"""Countdown, large: three or four numbers up to 100 and all four operations, for real LLMs.

`python tasks/target/countdown_large/build.py` writes train.jsonl, validation.jsonl and items.jsonl
(the test split). A problem is made by combining its numbers at random, so each has a solution;
every intermediate value is a whole number. Splits share no problem.
"""

from fractions import Fraction
from pathlib import Path
from random import Random

from retainbench.tasks._build import Question, item_id, write_jsonl

SIZES = {"test": 400, "validation": 200, "train": 4000}


def combined(rng: Random, numbers: list[int]) -> tuple[int, str] | None:
    """Value and expression of a random tree over `numbers`; None when a step is not whole."""
    parts = [(Fraction(number), str(number)) for number in numbers]
    while len(parts) > 1:
        left, right = (parts.pop(rng.randrange(len(parts))) for _ in range(2))
        sign = rng.choice("++--**/")
        if sign == "/" and right[0] == 0:
            return None
        value = {
            "+": left[0] + right[0],
            "-": left[0] - right[0],
            "*": left[0] * right[0],
            "/": left[0] / (right[0] or 1),
        }[sign]
        if value.denominator != 1 or value < 1:
            return None
        parts.append((value, f"({left[1]}{sign}{right[1]})"))
    value, text = parts[0]
    return int(value), text[1:-1]


def problem(rng: Random) -> tuple[list[int], int, str]:
    """Numbers, target in 10..999, gold expression."""
    while True:
        numbers = rng.sample(range(1, 101 if rng.random() < 0.5 else 26), rng.choice([3, 4]))
        found = combined(rng, numbers)
        if found is not None and 10 <= found[0] <= 999:
            return numbers, *found


def rows(split: str) -> list[dict[str, object]]:
    """Rows of test, validation or train."""
    rng = Random("countdown_large")
    seen: dict[tuple[tuple[int, ...], int], tuple[list[int], str]] = {}
    while len(seen) < sum(SIZES.values()):
        numbers, target, gold = problem(rng)
        seen.setdefault((tuple(sorted(numbers)), target), (numbers, gold))
    start = {"test": 0, "validation": 400, "train": 600}[split]
    made = []
    for (trio, target), (numbers, gold) in list(seen.items())[start : start + SIZES[split]]:
        *head, last = (str(number) for number in numbers)
        query = (
            f"Using each of the numbers {', '.join(head)} and {last} exactly once and the signs"
            f" + - * / ( ), write an expression that equals {target}."
        )
        question = item_id_of(query, gold)
        row: dict[str, object] = {"id": question, "query": query, "answer": gold, "aliases": []}
        row["cluster"] = "-".join(str(number) for number in trio)
        made.append(row | {"numbers": numbers, "target": target})
    return made


def item_id_of(query: str, gold: str) -> str:
    """Stable name of a problem."""
    return item_id("countdown_large", Question(query, gold, (), "countdown"))


def write_to(folder: Path) -> None:
    """Write the three splits into `folder`."""
    for split, name in (("train", "train"), ("validation", "validation"), ("test", "items")):
        write_jsonl(folder / f"{name}.jsonl", rows(split))


if __name__ == "__main__":
    write_to(Path(__file__).resolve().parent)
