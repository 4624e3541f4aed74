"""Date formats: the same day written as digits and in words; day and month must not be swapped.

`python tasks/temporal/date_formats/build.py` writes items.jsonl. Year-month-day digits (ISO 8601)
are used, which have one reading; distractors swap the parts or miss by one.
"""

from pathlib import Path
from random import Random

from retainbench.tasks._build import Question, draw, freeze_choices, unique
from retainbench.tasks.temporal.calendar.build import MONTHS


def iso(year: int, month: int, day: int) -> str:
    """2021-03-05."""
    return f"{year}-{month:02d}-{day:02d}"


def worded(year: int, month: int, day: int) -> str:
    """5 March 2021."""
    return f"{day} {MONTHS[month - 1]} {year}"


def question(rng: Random) -> Question:
    """A day with both parts up to 12, so that swapping them gives another real day."""
    year = rng.randint(1990, 2030)
    month, day = rng.sample(range(1, 13), 2)
    other_month = rng.choice([m for m in range(1, 13) if m not in (month, day)])
    days = [(month, day), (day, month), (other_month, day), (day, other_month)]
    told = (f"{iso(year, month, day)} is {worded(year, month, day)}.",)
    if rng.random() < 0.5:
        query = f"Which date is {iso(year, month, day)}?"
        texts = [worded(year, *pair) for pair in days]
    else:
        query = f"How is {worded(year, month, day)} written in digits?"
        texts = [iso(year, *pair) for pair in days]
    return Question(
        query, texts[0], tuple(texts[1:]), "words" if "Which" in query else "digits", told
    )


def pool(rng: Random, size: int = 12_000) -> list[Question]:
    """`size` draws, repeats removed."""
    return unique(question(rng) for _ in range(size))


def frozen() -> list[Question]:
    """The questions of items.jsonl."""
    return draw(pool(Random("date_formats"), 2_000), 300, Random("date_formats:draw"))


def write_to(folder: Path) -> None:
    """Write items.jsonl into `folder`."""
    freeze_choices(folder, frozen())


if __name__ == "__main__":
    write_to(Path(__file__).resolve().parent)
