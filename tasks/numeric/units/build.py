"""Units and scales: convert a whole number of one unit to a smaller or larger one.

`python tasks/numeric/units/build.py` writes items.jsonl.
"""

from pathlib import Path
from random import Random

from retainbench.tasks._build import Question, draw, freeze_choices, ladder, unique

FACTORS = (
    ("metres", "centimetres", 100),
    ("centimetres", "millimetres", 10),
    ("kilometres", "metres", 1000),
    ("kilograms", "grams", 1000),
    ("litres", "millilitres", 1000),
    ("hours", "minutes", 60),
    ("minutes", "seconds", 60),
    ("days", "hours", 24),
    ("weeks", "days", 7),
    ("years", "months", 12),
    ("feet", "inches", 12),
    ("yards", "feet", 3),
    ("dozens", "eggs", 12),
)


def pool(rng: Random) -> list[Question]:
    """Every conversion of 2..20 units, both ways."""
    questions = []
    for large, small, factor in FACTORS:
        for count in range(2, 21):
            total = count * factor
            told = (f"{count} {large} are {total} {small}.",)
            down = f"How many {small} are {count} {large}?"
            up = f"How many {large} are {total} {small}?"
            rungs = 4 if count >= 4 else count
            wrong = tuple(str(n * factor) for n in ladder(rng, count, 1, rungs, low=1))
            fewer = tuple(str(n) for n in ladder(rng, count, 1, rungs, low=1))
            questions.append(
                Question(down, str(total), wrong, "down", told, unit=f"{count} {large}")
            )
            questions.append(Question(up, str(count), fewer, "up", told, unit=f"{count} {large}"))
    return unique(questions)


def frozen() -> list[Question]:
    """The questions of items.jsonl."""
    return draw(pool(Random("units")), 300, Random("units:draw"))


def write_to(folder: Path) -> None:
    """Write items.jsonl into `folder`."""
    freeze_choices(folder, frozen())


if __name__ == "__main__":
    write_to(Path(__file__).resolve().parent)
