"""Countdown with reasoning: three or four numbers, a thought and an answer in tags.

`python tasks/target/countdown_reasoning/build.py` writes train.jsonl, validation.jsonl and
items.jsonl (the test split). Problems are made as in target/countdown_large. The solution of an
item is its own derivation, one operation a line; splits share no problem.
"""

import re
from pathlib import Path
from random import Random

from retainbench.tasks._build import Question, item_id, write_jsonl
from retainbench.tasks.target.countdown_large.build import problem

SIZES = {"test": 300, "validation": 100, "train": 2000}
INNERMOST = re.compile(r"\((\d+)([-+*/])(\d+)\)")


def derived(expression: str) -> list[str]:
    """The operations of a fully parenthesised expression with whole values, in order.

    >>> derived("(9+6)*4")
    ['9 + 6 = 15', '15 * 4 = 60']
    """
    steps: list[str] = []
    left = f"({expression})"
    while match := INNERMOST.search(left):
        first, sign, second = int(match[1]), match[2], int(match[3])
        value = {
            "+": first + second,
            "-": first - second,
            "*": first * second,
            "/": first // max(second, 1),
        }[sign]
        steps.append(f"{first} {sign} {second} = {value}")
        left = left[: match.start()] + str(value) + left[match.end() :]
    return steps


def solution(numbers: list[int], target: int, expression: str) -> str:
    """A thought that derives the target, and the answer."""
    listed = ", ".join(map(str, numbers))
    lines = [f"I have {listed} and need {target}.", *derived(expression)]
    lines.append(f"That is {target}, and each number is used once.")
    return "<think>" + "\n".join(lines) + f"</think>\n<answer>{expression}</answer>"


def rows(split: str) -> list[dict[str, object]]:
    """Rows of test, validation or train."""
    rng = Random("countdown_reasoning")
    drawn: dict[tuple[tuple[int, ...], int], tuple[list[int], str]] = {}
    while len(drawn) < sum(SIZES.values()):
        numbers, target, gold = problem(rng)
        drawn.setdefault((tuple(sorted(numbers)), target), (numbers, gold))
    start = {"test": 0, "validation": 300, "train": 400}[split]
    made = []
    for (ordered, target), (numbers, gold) in list(drawn.items())[start : start + SIZES[split]]:
        query = f"Using the numbers {numbers}, create an equation that equals {target}."
        question = Question(query, gold, (), "countdown")
        row: dict[str, object] = {"id": item_id("countdown_reasoning", question), "query": query}
        row |= {"answer": gold, "aliases": [], "cluster": "-".join(map(str, ordered))}
        row |= {"solution": solution(numbers, target, gold)}
        made.append(row | {"numbers": numbers, "target": target})
    return made


def write_to(folder: Path) -> None:
    """Write the three splits into `folder`."""
    for split, name in (("train", "train"), ("validation", "validation"), ("test", "items")):
        write_jsonl(folder / f"{name}.jsonl", rows(split))


if __name__ == "__main__":
    write_to(Path(__file__).resolve().parent)
