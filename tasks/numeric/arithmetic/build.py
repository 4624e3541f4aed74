"""Mental arithmetic: sums and differences up to two digits, the times table.

`python tasks/numeric/arithmetic/build.py` writes items.jsonl. The YAML asks every item after the
same five shots (SHOTS), which are never items. Distractors are 1, 2 or 10 apart on a ladder;
10 apart from 40 on, so that 1 and 11 are never choices of one item.
"""

from pathlib import Path
from random import Random

from retainbench.tasks._build import Question, draw, freeze_choices, ladder, unique

SHOTS = (
    ("What is 14 + 5?", "19"),
    ("What is 60 - 20?", "40"),
    ("What is 3 * 4?", "12"),
    ("What is 27 + 31?", "58"),
    ("What is 48 - 6?", "42"),
)
PREAMBLE = "".join(f"Question: {query}\nAnswer: {answer}\n\n" for query, answer in SHOTS)


def question(rng: Random, left: int, sign: str, right: int) -> Question:
    """What is `left` `sign` `right`? with its ladder of distractors."""
    value = {"+": left + right, "-": left - right, "*": left * right}[sign]
    steps = [step for step, least in ((1, 3), (2, 6), (10, 40)) if value >= least]
    choices = tuple(str(wrong) for wrong in ladder(rng, value, rng.choice(steps or [0])))
    told = (f"{left} {sign} {right} = {value}.",)
    query = f"What is {left} {sign} {right}?"
    return Question(
        query, str(value), choices, {"+": "sum", "-": "difference", "*": "product"}[sign], told
    )


def pool(rng: Random) -> list[Question]:
    """All sums and differences of 1..99 with a result in 3..198, products of 2..12."""
    pairs = [(a, "+", b) for a in range(1, 100) for b in range(1, 100) if a + b >= 3]
    pairs += [(a, "-", b) for a in range(4, 100) for b in range(1, a - 2)]
    pairs += [(a, "*", b) for a in range(2, 13) for b in range(2, 13)]
    asked = {query for query, _ in SHOTS}
    made = [question(rng, *pair) for pair in pairs]
    return [q for q in made if q.query not in asked]


def balanced(rng: Random, per_sign: dict[str, int]) -> list[Question]:
    """So many questions of each sign."""
    questions = pool(rng)
    return [
        q
        for sign, count in per_sign.items()
        for q in draw([p for p in unique(questions) if p.family == sign], count, rng)
    ]


def frozen() -> list[Question]:
    """The questions of items.jsonl."""
    return balanced(Random("arithmetic"), {"sum": 140, "difference": 120, "product": 40})


def write_to(folder: Path) -> None:
    """Write items.jsonl into `folder`."""
    freeze_choices(folder, frozen())


if __name__ == "__main__":
    write_to(Path(__file__).resolve().parent)
