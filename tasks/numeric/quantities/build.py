"""Number words, sizes of numbers and everyday quantities.

`python tasks/numeric/quantities/build.py` writes items.jsonl from the tables below.
"""

from pathlib import Path
from random import Random

from retainbench.tasks._build import (
    Question,
    among,
    cycle,
    draw,
    freeze_choices,
    ladder,
    listed,
    unique,
)

ONES = listed("""zero one two three four five six seven eight nine ten eleven twelve thirteen
fourteen fifteen sixteen seventeen eighteen nineteen""")
TENS = listed("twenty thirty forty fifty sixty seventy eighty ninety")
FACTS = (
    ("How many minutes are in an hour?", 60),
    ("How many seconds are in a minute?", 60),
    ("How many hours are in a day?", 24),
    ("How many days are in a week?", 7),
    ("How many months are in a year?", 12),
    ("How many weeks are in a year?", 52),
    ("How many years are in a decade?", 10),
    ("How many years are in a century?", 100),
    ("How many legs does a spider have?", 8),
    ("How many legs does an insect have?", 6),
    ("How many legs does a dog have?", 4),
    ("How many sides does a triangle have?", 3),
    ("How many sides does a square have?", 4),
    ("How many sides does a pentagon have?", 5),
    ("How many sides does a hexagon have?", 6),
    ("How many sides does an octagon have?", 8),
    ("How many faces does a cube have?", 6),
    ("How many edges does a cube have?", 12),
    ("How many strings does a violin have?", 4),
    ("How many players are in a football team on the pitch?", 11),
    ("How many squares are on a chess board?", 64),
    ("How many cards are in a deck without jokers?", 52),
    ("How many letters are in the English alphabet?", 26),
    ("How many eggs are in a dozen?", 12),
    ("How many degrees are in a right angle?", 90),
    ("How many degrees are in a full circle?", 360),
    ("How many centimetres are in a metre?", 100),
    ("How many millimetres are in a centimetre?", 10),
    ("How many metres are in a kilometre?", 1000),
    ("How many grams are in a kilogram?", 1000),
    ("How many inches are in a foot?", 12),
    ("How many feet are in a yard?", 3),
    ("How many cents are in a euro?", 100),
    ("How many planets are in the solar system?", 8),
    ("How many arms does an octopus have?", 8),
    ("How many strings does a standard guitar have?", 6),
)


def words(number: int) -> str:
    """42 -> forty-two, for 0..99."""
    if number < 20:
        return ONES[number]
    ten, one = divmod(number, 10)
    return TENS[ten - 2] + (f"-{ONES[one]}" if one else "")


def comparison(rng: Random) -> Question:
    """Which number is larger (smaller) of two with equally many digits."""
    top = rng.choice([(10, 99), (10, 99), (100, 999)])
    left, right = rng.sample(range(top[0], top[1] + 1), 2)
    larger = rng.random() < 0.5
    gold, wrong = sorted((left, right), reverse=larger)
    query = f"Which number is {'larger' if larger else 'smaller'}, {left} or {right}?"
    told = (f"{max(left, right)} is larger than {min(left, right)}.",)
    return Question(query, str(gold), (str(wrong),), "comparison", told)


def spelled(rng: Random) -> list[Question]:
    """Digits to words and words to digits for 0..99."""
    texts = [words(number) for number in range(100)]
    wrong_words = cycle(texts, rng)
    wrong_digits = cycle([str(number) for number in range(100)], rng)
    questions = []
    for number, text in enumerate(texts):
        told = (f"The number {number} is written {text}.",)
        to_words = f"How is the number {number} written in words?"
        to_digits = f"Which number is {text}?"
        questions.append(
            Question(to_words, text, wrong_words[text], "number words", told, unit=text)
        )
        questions.append(
            Question(
                to_digits, str(number), wrong_digits[str(number)], "number words", told, unit=text
            )
        )
    return questions


def known(rng: Random) -> list[Question]:
    """The table of everyday quantities, distractors from its other answers."""
    answers = sorted({str(value) for _, value in FACTS})
    return [
        Question(query, str(value), among(rng, str(value), answers), "everyday quantity")
        for query, value in FACTS
    ]


def between(rng: Random) -> Question:
    """The number halfway between two others."""
    gold, gap = rng.randint(12, 80), rng.randint(1, 4)
    query = f"Which number is halfway between {gold - gap} and {gold + gap}?"
    choices = tuple(str(wrong) for wrong in ladder(rng, gold, rng.choice([1, 2])))
    return Question(query, str(gold), choices, "halfway")


def pool(rng: Random, size: int = 6_000) -> list[Question]:
    """The whole tables and `size` drawn comparisons and midpoints."""
    drawn = [comparison(rng) for _ in range(size)] + [between(rng) for _ in range(size // 6)]
    return unique([*spelled(rng), *known(rng), *drawn])


def frozen() -> list[Question]:
    """The questions of items.jsonl."""
    rng = Random("quantities")
    questions = pool(rng, 600)
    sizes = {"number words": 120, "everyday quantity": 36, "comparison": 108, "halfway": 44}
    return [
        q
        for family, count in sizes.items()
        for q in draw([p for p in questions if p.family == family], count, rng)
    ]


def write_to(folder: Path) -> None:
    """Write items.jsonl into `folder`."""
    freeze_choices(folder, frozen())


if __name__ == "__main__":
    write_to(Path(__file__).resolve().parent)
